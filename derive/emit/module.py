"""One generated module per model: the derived equations bound to the runtime.

Input: a derivation.  Output: the module's text, the same bytes for the same input.  Templates
hold the shape of a kernel and no mathematics; every formula comes from the derivation.
"""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from importlib import resources

import jinja2
import sympy as sp

from derive.calculus.index import Expression, indices_of
from derive.calculus.order import ratio
from derive.calculus.text import show
from derive.emit import latex
from derive.emit.contraction import RANKS, Program, joined, lower, responses, scaled
from derive.emit.graph_code import gather, statements
from derive.emit.layout import WIDTH, tidy
from derive.emit.scalars import python
from derive.emit.signature import signature
from derive.errors import Refusal
from derive.methods.congruence import root_of_noise
from derive.methods.corrected import Corrected, corrected_or_none
from derive.methods.covariance_sde import CovarianceSDE
from derive.methods.project import V as SIZE
from derive.methods.reduce import Chain
from derive.notation.arrays import Array, shares, show_shape, walk
from derive.notation.blocks import BlockLaw
from derive.notation.patterns import Pattern
from derive.notation.scalars import Param
from derive.version import ENGINE

LEFT_SIDES = {
    "drift": "b_{a b}",
    "diffusion": r"\Sigma_{a b, c d}",
    "noise": "N_{a b}",
    "mixing_rate": "r",
    "drift_correction": "b^{(1)}_{a b}",
    "diffusion_correction": r"\Sigma^{(1)}_{a b, c d}",
}


@dataclass
class Kernel:
    """One function of a module: signature, docstring, statements, result."""

    name: str
    arguments: str
    doc: str
    body: list[str] = field(default_factory=list)
    result: str = ""


def filled(doc: str) -> str:
    """A docstring with its paragraphs filled; it is indented by four, after three quotes."""
    first, *others = doc.split("\n\n")
    width = WIDTH - 4
    head = textwrap.fill(" " * 3 + first, width)[3:]
    return "\n\n".join([head, *(textwrap.fill(p, width) for p in others)])


def numbered(kernel: Kernel) -> Kernel:
    """Values that are called after their rank alone, numbered in the order of their statements."""
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    for line in kernel.body:
        name = line.partition(" = ")[0]
        if match := re.fullmatch(rf"({'|'.join(RANKS)})(_\d+)?", name):
            counts[match[1]] += 1
            number = counts[match[1]]
            names[name] = match[1] if number == 1 else f"{match[1]}_{number}"
    # names made of such a name follow it: matrix_2_V
    pattern = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(RANKS)})(?:_\d+)?(?![a-z0-9])")

    def renamed(text: str) -> str:
        return pattern.sub(lambda m: names.get(m[0], m[0]), text)

    return replace(kernel, body=[renamed(x) for x in kernel.body], result=renamed(kernel.result))


@cache
def environment() -> jinja2.Environment:
    """The one Jinja environment: undefined names are errors."""
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def _template(name: str) -> str:
    return (resources.files("derive.templates") / name).read_text(encoding="utf-8")


def render(result: CovarianceSDE, source: str, request: str) -> str:
    """Text of `generated/<model>.py`.

    `source`: the definition's path as it should be shown; `request`: what `derive build` takes.
    """
    kernels, operations = _kernels(result)
    at_width = corrected_or_none(result)
    if at_width is not None:
        kernels += _at_width(at_width)
    kernels = [replace(numbered(k), doc=filled(k.doc)) for k in kernels]
    equations = result.equations | ({} if at_width is None else at_width.corrections)
    layer = next(k for k in kernels if k.name == "layer")
    text = (
        environment()
        .get_template("covariance_sde.py.jinja")
        .render(
            title=_first_line(result.model.doc) or result.model.name,
            engine=ENGINE,
            source=source,
            request=request,
            toolchain=f"SymPy {sp.__version__}",
            body=_NO_HASH,
            model=result.model.name,
            signature=model_signature(result, layer),
            operations=operations,
            sde="dV = drift(V) dt + noise(V) sqrt(dt), clock t = layer / "
            f"{result.model.clock_text}, V = {_gram(result)}; sums run over the tokens.",
            equations_text={k: show(e) for k, e in equations.items()},
            equations_latex={k: latex.equation(LEFT_SIDES[k], e) for k, e in equations.items()},
            facts=[
                *responses(equations.values()),
                *result.facts,
                *([] if at_width is None else [at_width.fact]),
            ],
            ops=_ops(kernels),
            params=[{"name": p.name, "meaning": _meaning(p)} for p in parameters(result)],
            dims=[{"name": d.name, "meaning": d.meaning} for d in _dims(result)],
            weights=[{"name": n, "shape": show_shape(a.shape)} for n, a in result.trace.weights],
            kernels=kernels,
            spec=_spec(result) + ([] if at_width is None else [_correction(at_width)]),
            at_width=at_width and _at_width_params(at_width),
            reduced=result.reduction is not None,
            clock=_clock(result),
        )
    )
    text = tidy(text)
    return text.replace(_NO_HASH, body_hash(text), 1)


_NO_HASH = "0" * 16
_HASH_LINE = re.compile(r"^Body ([0-9a-f]{16})", re.MULTILINE)


def body_hash(text: str) -> str:
    """Hash of a module's text with its own hash blanked out."""
    blank = _HASH_LINE.sub(f"Body {_NO_HASH}", text, count=1)
    return hashlib.sha256(blank.encode()).hexdigest()[:16]


def body_is_untouched(text: str) -> bool:
    """Whether a generated module still is as it was written."""
    match = _HASH_LINE.search(text)
    return match is not None and match.group(1) == body_hash(text)


def model_signature(result: CovarianceSDE, layer: Kernel | None = None) -> str:
    layer = layer or _layer(result)
    return signature(result.model, result.equations, "\n".join([*layer.body, layer.result]))


def parameters(result: CovarianceSDE) -> list[sp.Symbol]:
    """Declared parameters, then dimensions and ratios on which the limit depends."""
    used = {s for e in result.equations.values() for c, _ in e.terms for s in c.free_symbols}
    known = [*result.model.params, result.law.gram.dims[0]]
    extra = sorted(used - set(known), key=lambda s: s.name)
    given = sorted({p.name for p in _patterns(result) if p.given})
    return [*result.model.params, *extra, *(sp.Symbol(name) for name in given)]


def _patterns(result: CovarianceSDE) -> list[Pattern]:
    return [a.data for a in walk(result.trace.output) if a.op == "constant"]


def _meaning(symbol: sp.Symbol) -> str:
    if type(symbol) is sp.Symbol and not symbol.assumptions0.get("positive"):
        return "base pattern (m, m), rows sum to one"
    if isinstance(symbol, Param):
        words = [symbol.range.text, symbol.meaning]
        return ", ".join(dict.fromkeys(w for w in words if w))
    return "a dimension of the definition"


def _gram(result: CovarianceSDE) -> str:
    model = result.model
    product = f"{model.state_name} {model.state_name}^T"
    return product if model.clock != model.width else f"{product} / {model.width}"


def _dims(result: CovarianceSDE) -> list[sp.Symbol]:
    token = result.law.gram.dims[0]
    return [d for d in result.model.dims if d != token]


def _kernels(result: CovarianceSDE) -> tuple[list[Kernel], str]:
    out, counts = [], []
    for name in ("drift", "diffusion", "mixing_rate"):
        kernel, operations = _equation_kernel(result, name)
        out.append(kernel)
        counts.append(f"{name} {operations}")
    out.append(
        _quotient(
            result,
            "mixing_effect",
            "Variance per unit time that the mixing gives the tokens, relative to tr V.",
        )
    )
    out.append(
        _quotient(
            result,
            "volatility",
            "Variance per unit time of the diagonal of V, relative to its size.",
        )
    )
    kernel, operations = _noise_kernel(result)
    out.append(kernel)
    counts.append(f"noise {operations}")
    out.append(_layer(result))
    out += _chains(result)
    if not _layer_shaped(result):
        kernel, operations = _congruence(result)
        out.append(kernel)
        counts.append(f"step {operations}")
    return out, "; ".join(counts)


_DOCS = {
    "drift": "Drift b(V) of the SDE: E[V' - V] = b(V) / {clock} to leading order.\n\n"
    "V: (..., m, m).  Returns (..., m, m) per unit of layer / {clock}.  Costs O({cost}).",
    "diffusion": "Covariance of the noise: element [a, b, c, d] is d<V_ab, V_cd>/dt.\n\n"
    "V: (..., m, m).  Returns (..., m, m, m, m): for inspection, sampling does not need it.",
    "mixing_rate": "Variance per unit time of the random token-mixing coefficients, summed.\n\n"
    "V: (..., m, m).  Returns (...,); the natural control of the step size.",
}


def _expression_kernel(
    result: CovarianceSDE, name: str, doc: str, expression: Expression
) -> Kernel:
    program = Program(taken={"V", "m", "params", "t"})
    text = lower(expression, program)
    kernel = Kernel(name, "V, params, t=0.0", doc)
    kernel.body = _header(result, text, program, "V")
    kernel.body += [f"{s.name} = {s.text}" for s in program.statements]
    kernel.result = _spread(text, expression)
    return kernel


def _equation_kernel(result: CovarianceSDE, name: str) -> tuple[Kernel, str]:
    program = Program(taken={"V", "m", "params", "t"})
    text = lower(result.equations[name], program)
    kernel = Kernel(name, "V, params, t=0.0", _docs(result, name, _dearest(program)))
    kernel.body = _header(result, text, program, "V")
    kernel.body += [f"{s.name} = {s.text}" for s in program.statements]
    kernel.result = _spread(text, result.equations[name])
    return kernel, _counts(program)


def _docs(result: CovarianceSDE, name: str, cost: str) -> str:
    return _DOCS[name].format(cost=cost, clock=result.model.clock_text)


def _clock(result: CovarianceSDE) -> str:
    """What the depth is divided by, in words."""
    return "width" if result.model.pace == 1 else result.model.clock_text


def _spread(text: str, expression: Expression) -> str:
    """The text of a value of full shape: numbers and totals are the same for all free tokens."""
    zeros = _ZEROS[len(expression.free)]
    if text == "0":
        return zeros
    full = any(
        set(expression.free) <= indices_of(factors)
        and any(f.tensor.kind not in ("delta", "pattern") for f in factors)
        for _, factors in expression.terms
    )
    return text if full else f"{zeros} + {text}"


_ZEROS = {  # by number of free tokens
    0: "0 * V[..., 0, 0]",
    2: "0 * V",
    4: "0 * V[..., :, :, None, None] * V[..., None, None, :, :]",
}


def _at_width(found: Corrected) -> list[Kernel]:
    """Kernels of the SDE of a finite width; what the width does not change is not written again."""
    sde = found.sde
    what = "at the width of the network: parameters `ParamsAtWidth`.\n\nV: (..., m, m)."
    out = [
        _expression_kernel(
            sde,
            "drift_at_width",
            f"Drift of the SDE {what}  Returns (..., m, m) per unit of depth / width.",
            sde.drift,
        )
    ]
    if found.sizes:
        out.append(
            _expression_kernel(
                sde,
                "diffusion_at_width",
                f"Covariance of the noise {what}  Returns (..., m, m, m, m).",
                sde.diffusion,
            )
        )
        noise, _ = _noise_kernel(sde)
        out.append(replace(noise, name="noise_from_at_width"))
        out.append(_sizes(found))
    step, _ = _congruence(sde)
    out.append(replace(step, name="step_layer_at_width"))
    out.append(
        _expression_kernel(
            sde,
            "lift_at_width",
            "What a step adds to the congruence, per unit of depth / width; the step keeps V\n"
            "positive semi-definite where this is.\n\nV: (..., m, m).  Returns (..., m, m).",
            sde.step.lift,
        )
    )
    return out


def _sizes(found: Corrected) -> Kernel:
    kernel = Kernel(
        "field_sizes_at_width",
        "params, t=0.0",
        "Squared sizes of the noise's fields relative to the limit; negative: there is no SDE.",
    )
    words = [python(s) for s in found.sizes]
    kernel.body = _unpacked(found.sde, _words(words))
    kernel.result = _tuple(words)
    return kernel


def _at_width_params(found: Corrected) -> list[str]:
    return [p.name for p in parameters(found.sde)]


def _correction(found: Corrected) -> tuple[str, str]:
    """The entry of the specification that binds the kernels of a finite width."""
    drawn = ", ".join(
        f'"{f.drawn.name}": runtime.Block("{"symmetric" if f.drawn.symmetric else "gaussian"}")'
        for f in found.sde.noise.fields
    )
    words = {
        "params": "ParamsAtWidth",
        "width": f'"{found.width.name}"',
        "drift": "drift_at_width",
        "step_layer": "step_layer_at_width",
        "step_blocks": "{" + drawn + "}",
        "lift": "lift_at_width",
    }
    if found.sizes:
        words |= {
            "diffusion": "diffusion_at_width",
            "noise_from": "noise_from_at_width",
            "field_sizes": "field_sizes_at_width",
        }
    return "at_width", f"runtime.AtWidth({', '.join(f'{k}={w}' for k, w in words.items())})"


def _quotient(result: CovarianceSDE, name: str, what: str) -> Kernel:
    program = Program(taken={"V", "m", "params", "t"})
    above, below = (lower(e, program) for e in getattr(result, name))
    kernel = Kernel(
        name, "V, params, t=0.0", f"{what}\n\nV: (..., m, m).  Returns (...,); NaN for V = 0."
    )
    if above == "0":
        kernel.doc = f"{what}\n\nNone here: zero, of shape (...,)."
        kernel.result = _ZEROS[0]
        return kernel
    kernel.body = _header(result, f"{above} {below}", program, "V")
    kernel.body += [f"{s.name} = {s.text}" for s in program.statements]
    kernel.body += [f"rate = {above}"]
    kernel.result = f"rate / {below}" if below.isidentifier() else f"rate / ({below})"
    return kernel


def _noise_kernel(result: CovarianceSDE) -> tuple[Kernel, str]:
    """The noise as U L^T + L U^T where a factor L can be taken off it, else in its fields."""
    noise = result.noise
    drawn = [f.drawn.name for f in noise.fields]
    kernel = Kernel(
        "noise_from",
        "L, V, fields, params, t=0.0",
        "The noise built from given normals: "
        + "; ".join(
            f"{f.drawn.name} {'symmetric' if f.drawn.symmetric else 'iid'} stands for {f.core}"
            for f in noise.fields
        )
        + ".\n\nL: (..., m, m) with L L^T = V.  fields: arrays (..., m, m) in that order; the "
        "symmetric ones have the law of (G + G^T) / sqrt(2).  Costs O(m^3).",
    )
    if not drawn:
        kernel.doc = "No noise: an ODE.\n\nL, V: (..., m, m).  fields: none."
        kernel.result = "0 * V"
        return kernel, _counts(Program())
    if all(len(f) == 1 and f[0].tensor.symmetric for _, f in noise.compact.terms):
        return _noise_in_fields(result, kernel)
    try:
        root = root_of_noise(noise, ("covariance", "field"))
    except Refusal:
        return _noise_in_fields(result, kernel)
    program = Program(taken={"V", "L", "m", "params", "t", "fields", "noise", *drawn})
    program.symmetric = {"V", *(f.drawn.name for f in noise.fields if f.drawn.symmetric)}
    text = lower(root, program)
    kernel.body = _header(result, text, program, "V")
    kernel.body += _assigned(drawn, "fields")
    kernel.body += [f"{s.name} = {s.text}" for s in program.statements]
    kernel.body += [f"root = {text}", "half = root @ L.mT"]
    kernel.result = "half + half.mT"
    program.assign("half", "half", "", 3)
    return kernel, _counts(program)


def _noise_in_fields(result: CovarianceSDE, kernel: Kernel) -> tuple[Kernel, str]:
    """A noise that multiplies entries of V and of fields: no factor L can be taken off."""
    program = Program(taken={"V", "L", "m", "params", "t", "fields"})
    noise = result.noise
    for one in noise.fields:
        program.taken.update({one.tensor.name, one.drawn.name})
        if one.tensor.symmetric:
            program.symmetric.add(one.tensor.name)
    text = lower(noise.compact, program)
    kernel.body = _header(result, text, program, "V")
    kernel.body += _assigned((f.drawn.name for f in noise.fields), "fields")
    kernel.body += [f"{f.tensor.name} = {_built(f.built, f.drawn.name)}" for f in noise.fields]
    kernel.body += [f"{s.name} = {s.text}" for s in program.statements]
    kernel.result = text
    return kernel, _counts(program)


def _built(built: Expression, drawn: str) -> str:
    """A field from its normals: c L G L^T and the like."""
    parts = []
    for coefficient, factors in built.terms:
        (draw,) = [f for f in factors if f.tensor.name == drawn]
        ends = {f.indices[1]: f.indices[0] for f in factors if f.tensor.kind == "factor"}
        rows = [ends.get(i, i) for i in draw.indices]  # a leg without L is the field's own
        straight = rows == list(built.free)
        middle = drawn if straight or draw.tensor.symmetric else f"{drawn}.mT"
        left, right = (row in ends.values() for row in built.free)
        text = f"{'L @ ' if left else ''}{middle}{' @ L.mT' if right else ''}"
        parts.append(scaled(coefficient, [text]))
    return joined(parts)


def _layer(result: CovarianceSDE) -> Kernel:
    trace = result.trace
    state = result.model.state_name
    leaves = {trace.state: state, **{a: n for n, a in trace.weights}}
    names = {a: n for a, n in trace.names.items() if a not in leaves}
    lines, text = statements(trace.output, names, leaves, f"{state}.dtype", signed=True)
    kernel = Kernel(
        "layer",
        f"{state}, weights, params, dims, t=0.0",
        f"One layer, as defined: {state} (..., m, {result.model.width}) to the next.\n\n"
        "weights: `Weights`; dims: `Dims`, numbers.",
    )
    kernel.body = _graph_header(result, lines, text, f"m = {state}.shape[-2]")
    kernel.body.append(f"{_tuple(n for n, _ in trace.weights)} = weights")
    kernel.body += [f"{n} = {words}" for n, words in lines]
    kernel.result = text
    return kernel


def _chains(result: CovarianceSDE) -> list[Kernel]:
    out: list[Kernel] = []
    if result.reduction is None:
        return out
    for name, chain, doc in (
        (
            "reduced_layer",
            result.reduction.exact,
            "One layer of the finite network on V = L L^T alone, exact in law.\n\n"
            "L, blocks: (..., m, m); returns V'.  blocks: in the order of the specification.",
        ),
        (
            "step_layer",
            result.reduction.step,
            f"One step of the SDE, shaped like the layer at {result.model.clock} = 1/dt.\n\n"
            "L, blocks: (..., m, m); returns V' with mean V + drift dt and covariance diffusion "
            "dt to o(dt),\npositive semi-definite by construction.",
        ),
    ):
        if chain is None:
            continue
        names, output = chain.names, chain.output
        if name == "step_layer":
            output, names = gather(output), {}
        leaves = {chain.factor: "L", **{a: n for n, a in chain.blocks}}
        lines, text = statements(
            output,
            {a: n for a, n in names.items() if a not in leaves},
            leaves,
            "L.dtype",
            signed=True,
        )
        kernel = Kernel(name, "L, blocks, params, dims, t=0.0", doc)
        kernel.body = _graph_header(result, lines, text, "m = L.shape[-1]")
        kernel.body.append(f"{_tuple(n for n, _ in chain.blocks)} = blocks")
        kernel.body += [f"{n} = {words}" for n, words in lines]
        kernel.result = text
        out.append(kernel)
    return out


def _layer_shaped(result: CovarianceSDE) -> bool:
    """Whether the step of the SDE is the reduced layer itself."""
    return result.reduction is not None and result.reduction.step is not None


def _congruence(result: CovarianceSDE) -> tuple[Kernel, str]:
    step, token = result.step, result.law.gram.dims[0].name
    width = result.model.clock.name
    program = Program(
        taken={"V", "L", token, width, "params", "dims", "t", "h", "blocks"}
        | {"push", "pull", "lift", "root"}
    )
    program.like = "L"
    for one in result.noise.fields:
        program.taken.add(one.drawn.name)
        if one.drawn.symmetric:
            program.symmetric.add(one.drawn.name)
    push, pull, lift = (lower(e, program) for e in (step.push, step.pull, step.lift))
    words = [push, pull, lift]
    kernel = Kernel(
        "step_layer",
        "L, blocks, params, dims, t=0.0",
        f"One step of the SDE of length h = 1/{width}, a congruence.\n\n"
        "L, blocks: (..., m, m); returns V' with mean V + drift h and covariance diffusion h to "
        "o(h),\npositive semi-definite by construction.",
    )
    kernel.body = _header(result, " ".join(words), program, "L")
    kernel.body += _sizes_unpacked(result, {width})
    kernel.body += _assigned((f.drawn.name for f in result.noise.fields), "blocks")
    kernel.body.append(f"h = 1 / {width}")
    if "V" in _words([*words, *(s.text for s in program.statements)]):
        kernel.body.append("V = L @ L.mT")
    kernel.body += [f"{s.name} = {s.text}" for s in program.statements]
    parts = {"push": push, "pull": pull, "lift": lift}
    kernel.body += [f"{name} = {text}" for name, text in parts.items() if text != "0"]
    kernel.body.append(
        "root = L"
        + (" + sqrt(h) * push" if push != "0" else "")
        + (" + h * pull" if pull != "0" else "")
    )
    kernel.result = "root @ root.mT" + (" + h * lift" if lift != "0" else "")
    if step.scaling is not None:
        rule = python(step.scaling.rule)
        kernel.result = f"rows_scaled({kernel.result}, lambda {SIZE}: {rule})"
    return kernel, _counts(program)


def _graph_header(
    result: CovarianceSDE, lines: list[tuple[str, str]], text: str, size: str
) -> list[str]:
    words = _words([t for _, t in lines] + [text])
    token = result.law.gram.dims[0].name
    out = [size.replace("m =", f"{token} =", 1)] if token in words else []
    return out + _sizes_unpacked(result, words) + _unpacked(result, words)


def _sizes_unpacked(result: CovarianceSDE, words: set[str]) -> list[str]:
    """The dimensions by name; one that is a parameter too is read there."""
    params = {p.name for p in parameters(result)}
    dims = ["_" if d.name in params else d.name for d in _dims(result)]
    return [f"{_tuple(dims)} = dims"] if words & set(dims) else []


def _header(result: CovarianceSDE, text: str, program: Program, state: str) -> list[str]:
    words = _words([s.text for s in program.statements] + [text])
    token = result.law.gram.dims[0].name
    out = [f"{token} = {state}.shape[-1]"] if token in words else []
    return out + _unpacked(result, words)


def _unpacked(result: CovarianceSDE, words: set[str]) -> list[str]:
    """The parameters by name; those that depend on depth at the time of the call."""
    names = [p.name for p in parameters(result)]
    if not words & set(names):
        return []
    varying = [p.name for p in result.model.params if p.varying and p.name in words]
    return [f"{_tuple(names)} = params", *(f"{name} = at({name}, t)" for name in varying)]


def _words(texts: Iterable[str]) -> set[str]:
    return {w for t in texts for w in re.findall(r"[A-Za-z_]\w*", t)}


def _tuple(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names) if len(names) != 1 else f"({names[0]},)"


def _assigned(names: Iterable[str], whole: str) -> list[str]:
    names = list(names)
    return [f"{_tuple(names)} = {whole}"] if names else []


def _counts(program: Program) -> str:
    found = sorted(program.operations.items(), reverse=True)
    return ", ".join(f"{n} of {label}" for label, n in found) or "none"


def _dearest(program: Program) -> str:
    return max(program.operations, default="1")


_OPS = (
    "diagonal",
    "eye",
    "identity",
    "full",
    "softmax",
    "concatenate",
    "sqrt",
    "exp",
    "log",
    "tanh",
    "sin",
    "cos",
    "erf",
    "sigmoid",
    "relu",
    "gelu",
    "silu",
    "arcsin",
    "gaussian_mean",
    "matvec",
    "of_correlation",
    "causal",
    "constant",
    "permuted",
    "rows_scaled",
    "at",
    "pi",
)


def _ops(kernels: list[Kernel]) -> list[str]:
    words = _words(line for k in kernels for line in [*k.body, k.result])
    return [name for name in sorted(_OPS) if name in words]


def _spec(result: CovarianceSDE) -> list[tuple[str, str]]:
    noise = {
        f.drawn.name: "symmetric" if f.drawn.symmetric else "gaussian" for f in result.noise.fields
    }
    out = [
        ("params", "Params"),
        ("dims", "Dims"),
        ("weights", "Weights"),
        ("width", repr(result.model.width.name)),
        ("clock", repr(result.model.clock.name)),
        *([("pace", _quotient_text(result.model.pace))] if result.model.pace != 1 else []),
        (
            "ranges",
            repr(
                {p.name: _range(p) for p in result.model.params}
                | {p.name: "rows sum to one" for p in _patterns(result) if p.given}
            ),
        ),
        (
            "ratios",
            repr(
                {
                    d.name: ratio(d).name
                    for d in _dims(result)
                    if d in result.law.scaling.proportional
                }
            ),
        ),
        (
            "weight_shapes",
            repr({n: tuple(str(d) for d in a.shape) for n, a in result.trace.weights}),
        ),
        *_shares(result),
        *([("unit_rows", "True")] if result.model.unit_rows else []),
        ("noise_fields", repr(noise)),
        ("drift", "drift"),
        ("diffusion", "diffusion"),
        ("noise_from", "noise_from"),
        ("mixing_rate", "mixing_rate"),
        ("mixing_effect", "mixing_effect"),
        ("volatility", "volatility"),
        ("layer", "layer"),
    ]
    if result.reduction is not None:
        out += [
            ("reduced_layer", "reduced_layer"),
            ("reduced_blocks", _blocks(result.reduction.exact)),
        ]
    if _layer_shaped(result):
        assert result.reduction is not None and result.reduction.step is not None
        out += [("step_layer", "step_layer"), ("step_blocks", _blocks(result.reduction.step))]
    else:
        drawn = ", ".join(f'"{n}": runtime.Block("{kind}")' for n, kind in noise.items())
        out += [("step_layer", "step_layer"), ("step_blocks", "{" + drawn + "}")]
    return [(name, value.replace("'", '"')) for name, value in out]


def _quotient_text(value: Fraction) -> str:
    return f"{value.numerator} / {value.denominator}"


def _shares(result: CovarianceSDE) -> list[tuple[str, str]]:
    """Sizes that are quotients of others, for the layers alone."""
    found = {str(s): (str(s.whole), str(s.count)) for s in shares(result.trace.output)}
    return [("shares", repr(found))] if found else []


def _range(parameter: Param) -> tuple[object, ...]:
    r = parameter.range
    plain = (repr(r.low), repr(r.high), r.low_open, r.high_open, r.text)
    return (*plain, True) if parameter.varying else plain


def _blocks(chain: Chain) -> str:
    def shown(array: Array) -> str:
        law: BlockLaw = array.data
        if law.kind == "gaussian":
            return 'runtime.Block("gaussian")'
        return f'runtime.Block("{law.kind}", "{law.dim}", {law.used})'

    return "{" + ", ".join(f'"{n}": {shown(a)}' for n, a in chain.blocks) + "}"


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""

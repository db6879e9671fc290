"""The functions of a covariance SDE's module: equations, noise, layer, chains and steps as text."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import indices_of
from derive.emit.common.graph_code import gather, statements
from derive.emit.common.kernel import Kernel
from derive.emit.common.lowering import lower
from derive.emit.common.names import NAME, local, words_in
from derive.emit.common.program import RANKS, Program
from derive.emit.common.scalars import python
from derive.emit.common.sums import joined, scaled
from derive.emit.covariance_sde.names import (
    assigned,
    drawn_apart,
    layer_shaped,
    sizes_unpacked,
    state_name,
    taken,
    tuple_text,
    unpacked,
)
from derive.errors import Refusal
from derive.methods.covariance_sde.congruence import root_of_noise
from derive.methods.covariance_sde.project import V as SIZE
from derive.methods.covariance_sde.result import CovarianceSDE


def numbered(kernel: Kernel, kept: set[str]) -> Kernel:
    """Values that are called after their rank alone, numbered in the order of their statements.

    `kept`: names that are not temporaries.  Where a new name would meet another, all stay.
    """
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    for line in kernel.body:
        name = line.partition(" = ")[0]
        if name not in kept and (match := re.fullmatch(rf"({'|'.join(RANKS)})(_\d+)?", name)):
            counts[match[1]] += 1
            number = counts[match[1]]
            names[name] = match[1] if number == 1 else f"{match[1]}_{number}"
    # names made of such a name follow it: matrix_2_V
    part = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(RANKS)})(?:_\d+)?(?![a-z0-9])")
    found = {w for x in [*kernel.body, kernel.result] for w in NAME.findall(x)}
    moved = {w: part.sub(lambda m: names.get(m[0], m[0]), w) for w in found - kept}
    if len(set(moved.values()) | (found & kept)) < len(found):
        return kernel

    def renamed(text: str) -> str:
        return NAME.sub(lambda m: moved.get(m[0], m[0]), text)

    return replace(kernel, body=[renamed(x) for x in kernel.body], result=renamed(kernel.result))


def kernels_of(result: CovarianceSDE) -> tuple[list[Kernel], str]:
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
    kernel, operations = noise_kernel(result)
    out.append(kernel)
    counts.append(f"noise {operations}")
    out.append(layer_kernel(result))
    out += _chains(result)
    if not layer_shaped(result):
        kernel, operations = congruence_kernel(result)
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


def expression_kernel(result: CovarianceSDE, name: str, doc: str, expression: Expression) -> Kernel:
    program = Program(taken=taken(result, "V"))
    text = lower(expression, program)
    kernel = Kernel(name, "V, params, t=0.0", doc)
    kernel.body = _header(result, text, program, "V")
    kernel.body += [f"{s.name} = {s.text}" for s in program.statements]
    kernel.result = _spread(text, expression)
    return kernel


def _equation_kernel(result: CovarianceSDE, name: str) -> tuple[Kernel, str]:
    program = Program(taken=taken(result, "V"))
    text = lower(result.equations[name], program)
    kernel = Kernel(name, "V, params, t=0.0", _docs(result, name, _dearest(program)))
    kernel.body = _header(result, text, program, "V")
    kernel.body += [f"{s.name} = {s.text}" for s in program.statements]
    kernel.result = _spread(text, result.equations[name])
    return kernel, _counts(program)


def _docs(result: CovarianceSDE, name: str, cost: str) -> str:
    return _DOCS[name].format(cost=cost, clock=result.model.clock_text)


def _spread(text: str, expression: Expression) -> str:
    """The text of a value of full shape: numbers and totals are the same for all free tokens."""
    zeros = _ZEROS[len(expression.free)]
    if text == "0":
        return zeros
    full = any(
        set(expression.free) <= indices_of(factors)
        and any(f.tensor.kind not in ("delta", "pattern", "constant") for f in factors)
        for _, factors in expression.terms
    )
    return text if full else f"{zeros} + {text}"


_ZEROS = {  # by number of free tokens
    0: "0 * V[..., 0, 0]",
    2: "0 * V",
    4: "0 * V[..., :, :, None, None] * V[..., None, None, :, :]",
}


def _quotient(result: CovarianceSDE, name: str, what: str) -> Kernel:
    program = Program(taken=taken(result, "V", "rate"))
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


def noise_kernel(result: CovarianceSDE) -> tuple[Kernel, str]:
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
    program = Program(taken=taken(result, "V", "L", "root", *drawn))
    program.symmetric = {"V", *(f.drawn.name for f in noise.fields if f.drawn.symmetric)}
    text = lower(root, program)
    kernel.body = _header(result, text, program, "V")
    kernel.body += assigned(drawn, "fields")
    kernel.body += [f"{s.name} = {s.text}" for s in program.statements]
    kernel.body += [f"root = {text}", "half = root @ L.mT"]
    kernel.result = "half + half.mT"
    program.assign("half", "half", "", 3)
    return kernel, _counts(program)


def _noise_in_fields(result: CovarianceSDE, kernel: Kernel) -> tuple[Kernel, str]:
    """A noise that multiplies entries of V and of fields: no factor L can be taken off."""
    program = Program(taken=taken(result, "V", "L"))
    noise = result.noise
    for one in noise.fields:
        program.taken.update({one.tensor.name, one.drawn.name})
        if one.tensor.symmetric:
            program.symmetric.add(one.tensor.name)
    text = lower(noise.compact, program)
    kernel.body = _header(result, text, program, "V")
    kernel.body += assigned((f.drawn.name for f in noise.fields), "fields")
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


def layer_kernel(result: CovarianceSDE) -> Kernel:
    trace, state = result.trace, state_name(result)
    weights = drawn_apart(result, [n for n, _ in trace.weights])
    drawn = {a: n for n, (_, a) in zip(weights, trace.weights, strict=True)}
    leaves = {trace.state: state, **drawn}
    names = {a: n for a, n in trace.names.items() if a not in leaves}
    lines, text = statements(
        trace.output, names, leaves, f"{state}.dtype", taken(result), signed=True
    )
    kernel = Kernel(
        "layer",
        f"{state}, weights, params, dims, t=0.0",
        f"One layer, as defined: {state} (..., m, {result.model.width}) to the next.\n\n"
        "weights: `Weights`; dims: `Dims`, numbers.",
    )
    kernel.body = _graph_header(result, lines, text, f"m = {state}.shape[-2]")
    kernel.body.append(f"{tuple_text(weights)} = weights")
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
        blocks = drawn_apart(result, [n for n, _ in chain.blocks])
        drawn = {a: n for n, (_, a) in zip(blocks, chain.blocks, strict=True)}
        leaves = {chain.factor: "L", **drawn}
        lines, text = statements(
            output,
            {a: n for a, n in names.items() if a not in leaves},
            leaves,
            "L.dtype",
            taken(result, "L"),
            signed=True,
        )
        kernel = Kernel(name, "L, blocks, params, dims, t=0.0", doc)
        kernel.body = _graph_header(result, lines, text, "m = L.shape[-1]")
        kernel.body.append(f"{tuple_text(blocks)} = blocks")
        kernel.body += [f"{n} = {words}" for n, words in lines]
        kernel.result = text
        out.append(kernel)
    return out


def congruence_kernel(result: CovarianceSDE) -> tuple[Kernel, str]:
    step, width = result.step, result.model.clock.name
    own = ("V", "L", "h", "push", "pull", "lift", "root", *step.blocks)
    program = Program(taken=taken(result, *own))
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
    kernel.body += sizes_unpacked(result, {local(width)})
    drawn = [*(f.drawn.name for f in result.noise.fields), *step.blocks]
    kernel.body += assigned(drawn, "blocks")
    kernel.body.append(f"h = 1 / {local(width)}")
    if "V" in words_in([*words, *(s.text for s in program.statements)]):
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
    words = words_in([t for _, t in lines] + [text])
    token = local(result.law.gram.dims[0].name)
    out = [size.replace("m =", f"{token} =", 1)] if token in words else []
    return out + sizes_unpacked(result, words) + unpacked(result, words)


def _header(result: CovarianceSDE, text: str, program: Program, state: str) -> list[str]:
    words = words_in([s.text for s in program.statements] + [text])
    token = local(result.law.gram.dims[0].name)
    out = [f"{token} = {state}.shape[-1]"] if token in words else []
    return out + unpacked(result, words)


def _counts(program: Program) -> str:
    found = sorted(program.operations.items(), reverse=True)
    return ", ".join(f"{n} of {label}" for label, n in found) or "none"


def _dearest(program: Program) -> str:
    return max(program.operations, default="1")

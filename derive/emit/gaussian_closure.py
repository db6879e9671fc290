"""One generated module per closure: the derived velocity and rates bound to the runtime.

Input: a derivation.  Output: the module's text, the same bytes for the same input.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

import sympy as sp

from derive.calculus import chains
from derive.calculus.defined import Book
from derive.calculus.index import Expression, Tensor
from derive.calculus.scalar_functions import derivative_of
from derive.emit import scalars
from derive.emit.closure_code import Code
from derive.emit.closure_particles import particle_body
from derive.emit.layout import tidy
from derive.emit.module import _NO_HASH, body_hash, environment
from derive.methods.gaussian_closure import (
    CLOSED,
    CUBATURE,
    FOURIER,
    GaussianClosure,
    Wave,
    defined_in,
    is_gram,
)
from derive.version import ENGINE

LEFT = {
    "velocity": (r"\Gamma(x)", "Gamma(x)"),
    "mean_rate": (r"\dot m", "m'"),
    "jacobian": (r"R = \mathbb{E}\,\nabla\Gamma", "R = E grad Gamma"),
    "cov_rate": (r"\dot S", "S'"),
    "noise": (r"N", "N"),
}
SPEC_ORDER = ("margin", "noise", "factor_rate", "rate_error")
QUADRATURES = frozenset(
    [
        "cubature_error",
        "cubature_rates",
        "fourier_mean",
        "gaussian_mean",
        "quadrature_error",
    ]
)


@dataclass
class Kernel:
    name: str
    arguments: str
    doc: str
    body: list[str] = field(default_factory=list)


@dataclass
class Parts:
    """What the template is filled with."""

    kernels: list[Kernel] = field(default_factory=list)
    words: set[str] = field(default_factory=set)
    sums: set[str] = field(default_factory=set)
    functions: dict[tuple, str] = field(default_factory=dict)
    contractions: int = 0


def render(result: GaussianClosure, source: str, request: str) -> str:
    """Text of `generated/<model>.py`."""
    parts = _parts(result)
    model = result.model
    fields = param_fields(result)
    words = set(parts.words) | {"rate"}
    scalar_functions = []
    for (rule, order), name in sorted(parts.functions.items(), key=lambda item: item[1]):
        body = derivative_of(rule.body, order)
        text, more = function_text(body)
        words |= more
        title = rule.name if not order else f"Derivative of {rule.name}, order {order}"
        scalar_functions.append({"name": name, "text": text, "doc": f"{title}."})
    text = (
        environment()
        .get_template("gaussian_closure.py.jinja")
        .render(
            title=model.doc.split("\n")[0] or model.name,
            engine=ENGINE,
            toolchain=f"SymPy {sp.__version__}",
            source=source,
            request=request,
            body=_NO_HASH,
            operations=f"{parts.contractions} contractions in {len(parts.kernels)} functions",
            model=model.name,
            signature=model_signature(result),
            equations_text=equations_text(result),
            equations_latex=equations_latex(result),
            facts=result.facts,
            exact=result.exact,
            ops=sorted(words - QUADRATURES),
            quadratures=sorted(words & QUADRATURES),
            sums=sorted(parts.sums),
            params=fields,
            scalar_functions=scalar_functions,
            kernels=parts.kernels,
            spec=_spec(parts, model.positional, condition_text(result)),
            positional=model.positional,
            mean_shape="(..., B, d)" if model.positional else "(..., d)",
            cov_shape="(..., B, d, d)" if model.positional else "(..., d, d)",
        )
    )
    text = tidy(text)
    return text.replace(_NO_HASH, body_hash(text), 1)


KINKED = {sp.Max: "maximum", sp.Min: "minimum", sp.Heaviside: "step", sp.sign: "sign"}


def function_text(body: sp.Lambda) -> tuple[str, set[str]]:
    """Python text of a scalar function of s and the words it uses."""
    s = sp.Symbol("s")
    expression = body.expr.xreplace({body.variables[0]: s})
    names = {}
    for part in sorted(expression.atoms(*KINKED), key=sp.default_sort_key):
        arguments = part.args if isinstance(part, (sp.Max, sp.Min)) else part.args[:1]
        inside = ", ".join(scalars.python(a) for a in arguments)
        names[part] = sp.Symbol(f"{KINKED[type(part)]}({inside})")
    text = scalars.python(expression.xreplace(names))
    words = {"sqrt", "exp", "log", "tanh", "sin", "cos", "erf", *KINKED.values()}
    used = {w for w in words if f"{w}(" in text}
    return text, used | ({"pi"} if expression.has(sp.pi) else set())


def model_signature(result: GaussianClosure) -> str:
    """Sixteen hexadecimal digits over the meaning: equations, parameters, particle system."""
    lines = [result.model.method, result.route, str(result.exact)]
    lines += [f"{f['name']}: {f['shape']}" for f in param_fields(result)]
    lines += [f"{k} = {v}" for k, v in equations_text(result).items()]
    lines += [k.name + "\n".join(k.body) for k in _parts(result).kernels if "particle" in k.name]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def param_fields(result: GaussianClosure) -> list[dict[str, str]]:
    """Fields of Params: matrices that are used, scalars, the keys' law, the positions' weights."""
    model = result.model
    used = {m.data for m in result.trace.used}
    out = []
    for m in model.matrices:
        if m.data in used:
            names = tuple(str(s) for s in m.shape)
            out.append({"name": m.data, "shape": names, "meaning": f"({', '.join(names)})"})
    symbols = _symbols(result)
    for p in model.params:
        if p in symbols:
            out.append({"name": p.name, "shape": (), "meaning": p.range.text})
    if model.cross:
        e = str(model.key_dim)
        out.append({"name": "key_mean", "shape": (e,), "meaning": f"({e},), mean of the keys"})
        out.append({"name": "key_cov", "shape": (e, e), "meaning": f"({e}, {e}), their covariance"})
    if model.positional:
        out.append({"name": "theta", "shape": ("B",), "meaning": "(B,), weights of the positions"})
    return out


def _symbols(result: GaussianClosure) -> set[sp.Symbol]:
    from derive.notation.arrays import walk

    nodes = [n for g in (result.trace.velocity, *result.trace.noises) for n in walk(g)]
    return {s for n in nodes if n.op == "full" for s in n.data.free_symbols}


def equations_text(result: GaussianClosure) -> dict[str, str]:
    """Name to equation; the tensors they use are defined first."""
    out = {
        tensor.name: chains.meaning_text(tensor, result.book)
        for tensor in defined_in(result.book, *result.equations.values())
    }
    for name, expression in result.equations.items():
        left = LEFT.get(name, (name, name))[1]
        out[name] = f"{left} = {chains.text(expression)}"
    return out


def equations_latex(result: GaussianClosure) -> dict[str, str]:
    out = {}
    for tensor in defined_in(result.book, *result.equations.values()):
        left, right = chains.meaning(tensor, result.book, chains.LATEX)
        out[tensor.name] = f"{left} = {right}"
    for name, expression in result.equations.items():
        left = LEFT.get(name, (rf"\mathrm{{{name}}}".replace("_", r"\_"), name))[0]
        out[name] = f"{left} = {chains.latex(expression)}"
    return out


def _spec(parts: Parts, positional: bool, condition: str) -> list[tuple[str, str]]:
    names = {k.name for k in parts.kernels}
    out = [(n, n) for n in SPEC_ORDER if n in names]
    if condition:
        out.append(("condition", repr(condition)))
    if positional:
        out.append(("positional", "True"))
    if "particle_velocity" in names:
        out.append(("particle_velocity", "particle_velocity"))
    return out


@lru_cache(maxsize=4)
def _parts(result: GaussianClosure) -> Parts:
    parts = Parts()
    law = "mean, cov, params"
    own = "(..., B, d)" if result.model.positional else "(..., d)"
    _kernel(
        parts,
        result,
        "velocity",
        f"x, {law}",
        f"Velocity of queries x {own} under the law N(mean, cov), {own}.",
        result.velocity,
        {"x": "x"},
    )
    square = own.replace("d)", "d, d)")
    docs = {
        "mean_rate": f"Rate of the mean, E Gamma, {own}.",
        "jacobian": f"Mean gradient R = E grad Gamma, {square}: cov' = R cov + cov R^T.",
    }
    if result.route == CLOSED:
        _kernel(parts, result, "mean_rate", law, docs["mean_rate"], result.mean_rate)
        _kernel(parts, result, "jacobian", law, docs["jacobian"], result.jacobian)
    elif result.route == FOURIER:
        _fourier(parts, result, docs)
    else:
        assert result.route == CUBATURE
        _cubature(parts, result, docs)
    _errors(parts, result, law)
    _cov_rate(parts, result, square)
    _margin(parts, result)
    if result.noise is not None:
        _kernel(
            parts,
            result,
            "noise",
            law,
            f"Covariance rate of the additive noise, {square}.",
            result.noise,
        )
    writer = particle_body(result.trace, parts.functions)
    if writer is not None:
        prelude = _prelude(result, writer.used)
        parts.words |= writer.words
        parts.sums |= writer.sums
        doc = "Velocity of queries x (N, d) among keys y (N, d), memory O(N d)."
        body = [*prelude, *writer.lines]
        parts.kernels.append(Kernel("particle_velocity", "x, y, params", doc, body))
    parts.contractions = sum(line.count("contract(") for k in parts.kernels for line in k.body)
    return parts


def _kernel(
    parts: Parts,
    result: GaussianClosure,
    name: str,
    arguments: str,
    doc: str,
    expression: Expression,
    names: dict[str, str] | None = None,
) -> None:
    code = Code(result.book, {"m": "mean", "S": "cov", **(names or {})}, functions=parts.functions)
    code._taken = {"x", "mean", "cov", "params"}
    text = code.expression(expression)
    if _complex(expression, result.book):
        code.words.add("real")
        text = f"real({text})"
    body = [*_prelude(result, code.used), *code.lines, f"return {text}"]
    parts.words |= code.words
    parts.kernels.append(Kernel(name, arguments, doc, body))


def _complex(expression: Expression, book: Book) -> bool:
    """Does the imaginary unit stand in it, as in the two exponentials of a cosine?"""
    bodies = [expression, *(b for t in defined_in(book, expression) for b in book.of[t].bodies)]
    return any(c.has(sp.I) for b in bodies for c, _ in b.terms)


def _prelude(result: GaussianClosure, used: set[str]) -> list[str]:
    """Unpack the parameters that a kernel uses."""
    names = [f["name"] for f in param_fields(result) if f["name"] in used]
    if not names:
        return []
    return [f"{', '.join(names)} = {', '.join(f'params.{n}' for n in names)}"]


def _cov_rate(parts: Parts, result: GaussianClosure, square: str) -> None:
    line = "rate(jacobian(mean, cov, params), cov)"
    if result.noise is not None:
        parts.words.add("total")
        line = f"total({line}, noise(mean, cov, params))"
    doc = f"Rate of the covariance, {square}: R cov + cov R^T{' + noise' if result.noise else ''}."
    parts.kernels.append(Kernel("cov_rate", "mean, cov, params", doc, [f"return {line}"]))


def _margin(parts: Parts, result: GaussianClosure) -> None:
    """Smallest eigenvalue over all conditions that are not met by structure."""
    needed = _needed(result)
    if not needed:
        return
    code = Code(result.book, {"m": "mean", "S": "cov"}, functions=parts.functions)
    code._taken = {"mean", "cov", "params"}
    values = []
    for matrix, cov in needed:
        name = code.assign("M", code.expression(matrix))
        code.used.add(cov.name)
        own = code.names.get(cov.name, cov.name)
        stacks = len(matrix.free) - 2
        value = f"smallest_eigenvalue({name}, {own})"
        if stacks and not result.model.positional:
            value = f"smallest_eigenvalue({name}, {own}[..., None, :, :]).min(axis=-1)"
        values.append(value)
    parts.words.add("smallest_eigenvalue")
    out = values[0]
    for value in values[1:]:
        parts.words.add("minimum")
        out = f"minimum({out}, {value})"
    doc = (
        "Smallest eigenvalue of I + F^T M F, F F^T = cov, for the quadratic part M of each weight: "
        "the Gaussian integrals exist while it is positive."
    )
    body = [*_prelude(result, code.used), *code.lines, f"return {out}"]
    parts.words |= code.words
    parts.kernels.append(Kernel("margin", "mean, cov, params", doc, body))


def _needed(result: GaussianClosure) -> list[tuple[Expression, Tensor]]:
    """The conditions that are not met by structure: (M, covariance), I + F^T M F > 0."""
    needed = [(m, c) for m, c in result.book.conditions if not is_gram(m)]
    return [(m, c) for m, c in needed if not any(k.has(sp.I) for k, _ in m.terms)]


def condition_text(result: GaussianClosure) -> str:
    """The matrices that must be positive definite, in words."""
    parts = [
        f"I + F^T M F, F F^T = {'cov' if c.name == 'S' else c.name}, M = {chains.text(m)}"
        for m, c in _needed(result)
    ]
    return "; ".join(dict.fromkeys(parts))


def _fourier(parts: Parts, result: GaussianClosure, docs: dict[str, str]) -> None:
    law = "mean, cov, params"
    parts.words |= {"fourier_mean"}
    calls = []
    for position, wave in enumerate(result.waves, 1):
        _pair(
            parts,
            result,
            f"_wave_{position}",
            f"u, {law}",
            wave.mean,
            wave.jacobian,
            f"Rates of mean and gradient with exp(i u s) for {wave.rule.name}(s); complex.",
        )
        for j, (mean, jacobian) in enumerate(wave.powers):
            _pair(
                parts,
                result,
                f"_power_{position}_{j}",
                law,
                mean,
                jacobian,
                f"Rates of mean and gradient with s^{j} for {wave.rule.name}(s).",
            )
        _kernel(
            parts,
            result,
            f"_size_{position}",
            law,
            f"E s^2 of the argument of {wave.rule.name}.",
            wave.size,
        )
        calls.append(_call(parts, position, wave))
    body = []
    base = [
        n for n, e in (("mean_rate", result.mean_rate), ("jacobian", result.jacobian)) if e.terms
    ]
    if base:
        _pair(
            parts,
            result,
            "_base",
            law,
            result.mean_rate,
            result.jacobian,
            "Rates of the part without functions that need an integral.",
        )
        calls.insert(0, "_base(mean, cov, params)")
    if len(calls) == 1:
        body = [f"return {calls[0]}"]
    else:
        parts.words.add("total")
        body = [f"part_{n} = {c}" for n, c in enumerate(calls, 1)]
        sums = [
            f"total({', '.join(f'part_{n}[{k}]' for n in range(1, len(calls) + 1))})"
            for k in (0, 1)
        ]
        body.append(f"return {sums[0]}, {sums[1]}")
    parts.kernels.append(Kernel("_rates", law, "Rate of the mean and mean gradient.", body))
    for position, name in enumerate(("mean_rate", "jacobian")):
        parts.kernels.append(
            Kernel(name, law, docs[name], [f"return _rates(mean, cov, params)[{position}]"])
        )


def _cubature(parts: Parts, result: GaussianClosure, docs: dict[str, str]) -> None:
    """Rates by cubature over the law of what the velocity sees of x; the rest in closed form."""
    law = "mean, cov, params"
    assert result.cubature is not None
    whole = result.cubature == result.velocity
    field_ = "velocity" if whole else "_rest"
    if not whole:
        doc = "The part of the velocity whose average has no closed form."
        _kernel(parts, result, "_rest", f"x, {law}", doc, result.cubature, {"x": "x"})
    rows = ", ".join(
        f"(params.{name}, {axes}, {token})" for name, axes, token in result.through or ()
    )
    through = f", [{rows}]" if rows else ""
    axes = "(2, 3)" if result.model.positional else "(1, 2)"
    parts.words |= {"cubature_rates", "cubature_error"}
    call = f"cubature_rates({field_}, mean, cov, params{through})"
    body = [f"return {call}"]
    if not whole:
        parts.words.add("total")
        _pair(
            parts,
            result,
            "_base",
            law,
            result.mean_rate,
            result.jacobian,
            "Rates of the part with a closed form.",
        )
        body = [
            "base = _base(mean, cov, params)",
            f"part = {call}",
            "return total(base[0], part[0]), total(base[1], part[1])",
        ]
    parts.kernels.append(Kernel("_rates", law, "Rate of the mean and mean gradient.", body))
    for position, name in enumerate(("mean_rate", "jacobian")):
        line = f"return _rates(mean, cov, params)[{position}]"
        parts.kernels.append(Kernel(name, law, docs[name], [line]))
    error = f"cubature_error({field_}, mean, cov, params, {axes}{through})"
    doc = (
        "Relative error of the cubature in mean_rate and jacobian, (...): the distance to a finer "
        "rule, or three standard errors over random shifts."
    )
    parts.kernels.append(Kernel("rate_error", law, doc, [f"return {error}"]))


def _errors(parts: Parts, result: GaussianClosure, law: str) -> None:
    """Estimates of the quadratures' errors, where a kernel holds one."""
    inner, outer = ("(2,)", "(2, 3)") if result.model.positional else ("(1,)", "(1, 2)")
    doc = "Relative error of the quadrature in {}, (...): the distance to twice the nodes."
    by_name = {k.name: "\n".join(k.body) for k in parts.kernels}
    if "gaussian_mean(" in by_name["velocity"]:
        parts.words.add("quadrature_error")
        call = f"return quadrature_error(velocity, {inner}, x, mean, cov, params)"
        parts.kernels.append(Kernel("velocity_error", f"x, {law}", doc.format("velocity"), [call]))
    if "rate_error" in by_name:
        return
    if result.route == FOURIER:
        parts.words.add("quadrature_error")
        call = f"return quadrature_error(_rates, {outer}, mean, cov, params)"
    elif any("gaussian_mean(" in by_name[n] for n in ("mean_rate", "jacobian")):
        parts.words.add("quadrature_error")
        both = "lambda *law: (mean_rate(*law), jacobian(*law))"
        call = f"return quadrature_error({both}, {outer}, mean, cov, params)"
    else:
        return
    title = doc.format("mean_rate and jacobian")
    parts.kernels.append(Kernel("rate_error", law, title, [call]))


def _call(parts: Parts, position: int, wave: Wave) -> str:
    rule = wave.rule
    function = Code(Book(), functions=parts.functions).function(rule.rule, rule.order)
    powers = ", ".join(f"_power_{position}_{j}(mean, cov, params)" for j in range(rule.order))
    taylor = ", ".join(
        scalars.python(c) if c.is_Rational else repr(float(c.evalf(20))) for c in rule.taylor
    )
    return (
        f"fourier_mean(lambda u: _wave_{position}(u, mean, cov, params), [{powers}], [{taylor}], "
        f"{function}, _size_{position}(mean, cov, params), "
        f"{rule.reach}, {rule.support}, {rule.nodes})"
    )


def _pair(
    parts: Parts,
    result: GaussianClosure,
    name: str,
    arguments: str,
    mean: Expression,
    jacobian: Expression,
    doc: str,
) -> None:
    code = Code(result.book, {"m": "mean", "S": "cov"}, functions=parts.functions)
    code._taken = {"u", "mean", "cov", "params"}
    one = code.expression(mean) if mean.terms else _nothing(code, "mean")
    code.lines.append(f"first = {one}")
    two = code.expression(jacobian) if jacobian.terms else _nothing(code, "cov")
    if not arguments.startswith("u,") and any(_complex(e, result.book) for e in (mean, jacobian)):
        code.words.add("real")
        code.lines.append("first = real(first)")
        two = f"real({two})"
    body = [*_prelude(result, code.used), *code.lines, f"return first, {two}"]
    parts.words |= code.words
    parts.kernels.append(Kernel(name, arguments, doc, body))


def _nothing(code: Code, like: str) -> str:
    return f"0 * {like}"


__all__ = ["equations_latex", "equations_text", "model_signature", "render"]

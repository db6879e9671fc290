"""One generated module per closure: the derived velocity and rates bound to the runtime.

Input: a derivation.  Output: the module's text, the same bytes for the same input.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import sympy as sp

from derive.calculus.arrays.scalar_functions import derivative_of
from derive.calculus.written.dialect import LATEX
from derive.emit.common import scalars
from derive.emit.common.kernel import Kernel
from derive.emit.common.layout import tidy
from derive.emit.common.rendering import NO_HASH, body_hash, environment
from derive.emit.gaussian_closure.code import symbols_inside
from derive.emit.gaussian_closure.equations import written
from derive.emit.gaussian_closure.kernels import (
    Parts,
    add_cov_rate,
    add_kernel,
    add_margin,
    condition_text,
    param_fields,
    prelude,
)
from derive.emit.gaussian_closure.particles import particle_body
from derive.emit.gaussian_closure.rates import LAW, add_cubature, add_errors, add_fourier
from derive.methods.gaussian_closure.result import CLOSED, CUBATURE, FOURIER, GaussianClosure
from derive.notation.closures.model import ClosureModel
from derive.version import ENGINE

SPEC_ORDER = ("margin", "noise", "factor_rate", "rate_error")
QUADRATURES = frozenset(
    [
        "cubature_error",
        "cubature_rates",
        "fourier_mean",
        "gaussian_mean",
        "law_nodes",
        "node_weights",
        "quadrature_error",
    ]
)


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
        arguments = ", ".join(["s", *(scalars.python(p) for p in symbols_inside(rule.body))])
        title = rule.name if not order else f"Derivative of {rule.name}, order {order}"
        scalar_functions.append(
            {"name": name, "text": text, "arguments": arguments, "doc": f"{title}."}
        )
    text = (
        environment()
        .get_template("gaussian_closure.py.jinja")
        .render(
            title=model.doc.split("\n")[0] or model.name,
            engine=ENGINE,
            toolchain=f"SymPy {sp.__version__}",
            source=source,
            request=request,
            body=NO_HASH,
            law=model.law_text,
            names="Gamma: their velocity, R: its mean gradient"
            + ("" if result.noise is None else ", N: covariance rate of the noise"),
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
            spec=_spec(parts, model, condition_text(result)) + scalars.bounded(model.params),
            positional=model.positional,
            mean_shape="(..., B, d)" if model.positional else "(..., d)",
            cov_shape="(..., B, d, d)" if model.positional else "(..., d, d)",
        )
    )
    text = tidy(text)
    return text.replace(NO_HASH, body_hash(text), 1)


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
    words = {"sqrt", "exp", "log", "tanh", "sin", "cos", "erf", "arctan", *KINKED.values()}
    used = {w for w in words if f"{w}(" in text}
    return text, used | ({"pi"} if expression.has(sp.pi) else set())


def model_signature(result: GaussianClosure) -> str:
    """Sixteen hexadecimal digits over the meaning: equations, parameters, particle system."""
    lines = [result.model.method, result.route, str(result.exact)]
    lines += [f"{f['name']}: {f['shape']}" for f in param_fields(result)]
    lines += [f"{k} = {v}" for k, v in equations_text(result).items()]
    lines += [k.name + "\n".join(k.lines) for k in _parts(result).kernels if "particle" in k.name]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def equations_text(result: GaussianClosure) -> dict[str, str]:
    return {name: shown.text for name, shown in written(result).items()}


def equations_latex(result: GaussianClosure) -> dict[str, str]:
    return {name: shown.latex for name, shown in written(result, LATEX).items()}


def _spec(parts: Parts, model: ClosureModel, condition: str) -> list[tuple[str, str]]:
    names = {k.name for k in parts.kernels}
    out = [(n, n) for n in SPEC_ORDER if n in names]
    if condition:
        out.append(("condition", repr(condition)))
    out += [(n, "True") for n in ("positional", "centred") if getattr(model, n)]
    if "particle_velocity" in names:
        out.append(("particle_velocity", "particle_velocity"))
    return out


@lru_cache(maxsize=4)
def _parts(result: GaussianClosure) -> Parts:
    parts = Parts()
    own = "(..., B, d)" if result.model.positional else "(..., d)"
    add_kernel(
        parts,
        result,
        "velocity",
        f"x, {LAW}",
        f"Velocity of queries x {own} under the law N(mean, cov), {own}.",
        result.velocity,
        {"x": "x"},
    )
    square = own.replace("d)", "d, d)")
    docs = {
        "mean_rate": f"Rate of the mean: the mean velocity, {own}.",
        "jacobian": f"Mean gradient of the velocity, {square}.",
    }
    if result.route == CLOSED:
        add_kernel(parts, result, "mean_rate", LAW, docs["mean_rate"], result.mean_rate)
        add_kernel(parts, result, "jacobian", LAW, docs["jacobian"], result.jacobian)
    elif result.route == FOURIER:
        add_fourier(parts, result, docs)
    else:
        assert result.route == CUBATURE
        add_cubature(parts, result, docs)
    add_errors(parts, result)
    add_cov_rate(parts, result, square)
    add_margin(parts, result)
    if result.noise is not None:
        add_kernel(
            parts,
            result,
            "noise",
            LAW,
            f"Covariance rate of the additive noise, {square}.",
            result.noise,
        )
    writer = particle_body(result.trace, parts.functions)
    if writer is not None:
        unpacked = prelude(result, writer.used, "x")
        parts.words |= writer.words
        parts.sums |= writer.sums
        doc = "Velocity of queries x (N, d) among keys y (N, d), memory O(N d)."
        if "sinkhorn_average" in writer.sums:  # iterations until they meet a tolerance
            doc += "\n\nDerivatives: forward mode (jax.jvp, jax.jacfwd) alone."
        body = [*unpacked, *writer.lines]
        parts.kernels.append(Kernel("particle_velocity", "x, y, params", doc, body, writer.result))
    return parts

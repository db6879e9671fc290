"""What a token flow's module holds: its functions as text.

Input: a derivation.  Output: `Parts`.  Every function is pure; what the definition does not give is
not there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import sympy as sp

from derive.calculus.index.expressions import Expression, collect, scalar
from derive.emit.common.kernel import Kernel
from derive.emit.gaussian_closure.kernels import Parts, taken_by
from derive.emit.token_flow.code import FlowCode
from derive.emit.token_flow.manoeuvres import manoeuvres
from derive.emit.token_flow.parameters import prelude
from derive.emit.token_flow.scalar_kernels import (
    caps,
    deviations,
    equal_angles,
    growth,
    slow_motion,
)
from derive.emit.token_flow.velocity import blocked
from derive.methods.token_flow.clusters import pushes
from derive.methods.token_flow.gram import Leaves
from derive.methods.token_flow.manoeuvres import Manoeuvres
from derive.methods.token_flow.rescaled import Rescaled
from derive.methods.token_flow.result import Absent, TokenFlow


@lru_cache(maxsize=8)
def parts_of(result: TokenFlow) -> Parts:
    """All functions, in the order of the module."""
    parts = Parts()
    _velocity(parts, result)
    if result.frame is not None and not result.frame.is_zero:
        _rescaled(parts, result, result.frame)
    _attention(parts, result)
    if result.noise is not None:
        doc = "Covariance rate (d, d) of the noise that every token x (n, d) has of its own."
        _array(parts, result, "noise_rate", "x, params", doc, result.noise, {"x": "x"})
    if result.gradient.energy is not None:
        doc = "Energy of tokens x (n, d), of which the velocity is the gradient, a number."
        _array(parts, result, "energy", "x, params", doc, result.gradient.energy, {"x": "x"})
        if _weighted(result):
            doc = (
                "Weights (n,) of the metric in which the velocity of tokens x (n, d) is a gradient."
            )
            assert result.gradient.weight is not None
            _array(parts, result, "metric", "x, params", doc, result.gradient.weight, {"x": "x"})
    if isinstance(result.gram_rate, Expression):
        _clusters(parts, result, result.gram_rate)
    push = _pushes(result) if isinstance(result.gram_rate, Expression) else None
    if push is not None:
        _circle(parts, result, push)
    if not isinstance(result.contraction, Absent):
        doc = (
            "Rates (K,) at which a token beside a cluster closes in on it, off the span of the "
            "clusters."
        )
        given = "G, masses, params"
        _array(parts, result, "contraction", given, doc, result.contraction, _CLUSTERS)
    equal_angles(parts, result)
    deviations(parts, result)
    slow_motion(parts, result)
    caps(parts, result)
    growth(parts, result)
    if not isinstance(result.manoeuvres, Absent):
        _uniform(parts, result, result.manoeuvres)
        manoeuvres(parts, result, result.manoeuvres)
    return parts


def _uniform(parts: Parts, result: TokenFlow, found: Manoeuvres) -> None:
    doc = (
        f"Velocity (n, d) of tokens x (n, d) with masses (n,) of sum one "
        f"{found.levers.vanishing}, tangent to the sphere; memory O(n d)."
    )
    given = {"x": "x", "mass": "masses"}
    _array(parts, result, "uniform_velocity", "x, masses, params", doc, found.levers.uniform, given)
    kernel = parts.kernels[-1]
    parts.words.add("tangent")
    parts.kernels[-1] = replace(kernel, result=f"tangent({kernel.result}, x)")


def _weighted(result: TokenFlow) -> bool:
    weight = result.gradient.weight
    return weight is not None and weight != scalar(sp.Integer(1), (result.names.s,))


def _velocity(parts: Parts, result: TokenFlow) -> None:
    sphere = result.model.sphere
    where = ", tangent to the sphere" if sphere else ""
    doc = f"Velocity of tokens x (n, d) among all of them, (n, d){where}"
    writer = blocked(result.trace, parts.functions)
    if writer is not None:
        parts.words |= writer.words
        parts.sums |= writer.sums
        lines, text = writer.lines, writer.result
        lines = [line.replace("(x, y, ", "(x, x, ") for line in lines]
        text = text.replace("(x, y, ", "(x, x, ")
        doc += "; memory O(n d)."
        used = writer.used
    else:
        code = _code(parts, result, {"x": "x"})
        text = code.expression(result.velocity)
        lines, used = _with_masses(code, "x"), code.used
        parts.words |= code.words
        doc += "; memory O(n^2)."
    if sphere:
        parts.words.add("tangent")
        text = f"tangent({text}, x)"
    parts.kernels.append(
        Kernel("velocity", "x, params", doc, [*prelude(result, used, tokens=True), *lines], text)
    )


def _rescaled(parts: Parts, result: TokenFlow, matrix: Expression) -> None:
    """M, S where the velocity is an average, and the velocity in the frame of M."""
    doc = "M (d, d): tokens x (n, d) at one point move by M x."
    _array(parts, result, "frame_matrix", "x, params", doc, matrix, {"x": "x"})
    word, inner = "in_frame", "velocity"
    if isinstance(result.rescaled, Rescaled):
        doc = "S (d, d): tokens x (n, d) are weighted by the scores x[a]^T S x[b]."
        _array(parts, result, "score_matrix", "x, params", doc, result.rescaled.score, {"x": "x"})
        word, inner = "in_frame_of_average", "attention_matrix"
    doc = (
        "Velocity (n, d) of z = exp(-t M) x at time t, the frame in which tokens at one point "
        "rest.\n\nNo number where exp(t M) or a score is beyond what the dtype holds."
    )
    parts.words.add(word)
    value = f"{word}(lambda x: {inner}(x, params), frame_matrix(z, params), z, t)"
    parts.kernels.append(Kernel("rescaled_velocity", "z, t, params", doc, [], value))


def _attention(parts: Parts, result: TokenFlow) -> None:
    """The one gate of the velocity, if there is one."""
    gates = [t for t in result.velocity.tensors() if t.kind == "gate"]
    if len(gates) != 1:
        return
    own = result.book.of[gates[0]].indices
    heads = "H, " * (len(own) - 2)
    doc = f"Weights ({heads}n, n) that tokens x (n, d) give each other, rows of sum one."
    whole = collect(own, [(sp.Integer(1), (gates[0][own],))])
    _array(parts, result, "attention_matrix", "x, params", doc, whole, {"x": "x"})


def _clusters(parts: Parts, result: TokenFlow, rate: Expression) -> None:
    """Rates of inner products: of clusters with masses, digits of slow rates kept; of tokens."""
    push = _pushes(result)
    if push is not None:
        _slow_rate(parts, result, push)
    else:
        doc = "Rates of the inner products G (K, K) of K clusters with masses (K,), (K, K)."
        _array(parts, result, "cluster_rate", "G, masses, params", doc, rate, _CLUSTERS)
    parts.words.add("equal_masses")
    doc = "Rates of the inner products R (n, n) of tokens of equal mass, (n, n)."
    text = "cluster_rate(R, equal_masses(R), params)"
    parts.kernels.append(Kernel("gram_rate", "R, params", doc, [], text))
    parts.words.add("by_pairs")
    doc = (
        "Derivative of cluster_rate by the cosines, over the pairs a < b in the order of rows.\n\n"
        "Its eigenvalues are the growth rates of small changes between clusters; `contraction` has "
        "those inside."
    )
    text = "by_pairs(lambda products: cluster_rate(products, masses, params), G)"
    if result.model.sphere:
        parts.kernels.append(Kernel("cluster_stability", "G, masses, params", doc, [], text))


_CLUSTERS = {"R": "G", "mass": "masses"}


def _circle(parts: Parts, result: TokenFlow, push: Expression) -> None:
    """theta_a' = sum_b w_ab sin(theta_b - theta_a), w at R_ab = cos(theta_a - theta_b)."""
    code = _code(parts, result, {"R": "G", "mass": "mass"})
    text = code.expression(push)
    weights = code.assign("pushes", text)
    code.words |= {"equal_masses", "cosines", "sines", "contract"}
    lines = ["G = cosines(theta)"]
    if "mass" in code.used:
        lines.append("mass = equal_masses(theta)")
    doc = "Rates of the angles theta (n,) of tokens of equal mass on the circle, (n,)."
    body = [*prelude(result, code.used), *lines, *code.lines]
    parts.words |= code.words
    result_ = f'contract("ab,ab->a", {weights}, sines(theta))'
    parts.kernels.append(Kernel("circle_rate", "theta, params", doc, body, result_))


def _pushes(result: TokenFlow) -> Expression | None:
    """What pulls a token on the sphere, where that is tokens alone and no turning by a matrix."""
    if not result.model.sphere:
        return None
    try:
        return pushes(result.velocity, result.names, result.book)
    except Leaves:
        return None


def _slow_rate(parts: Parts, result: TokenFlow, push: Expression) -> None:
    """sum_k w_ak <P_a x_k, x_b> + (a <-> b), w_ak the push of x_k: no large terms cancel."""
    code = _code(parts, result, _CLUSTERS)
    text = code.expression(push)
    weights = code.assign("pushes", text)
    code.words |= {"contract", "towards", "with_transpose"}
    code.lines.append(f'half = contract("abk,ak->ab", towards(G), {weights})')
    doc = "Rates of the inner products G (K, K) of K clusters with masses (K,), (K, K)."
    body = [*prelude(result, code.used), *code.lines]
    parts.words |= code.words
    parts.kernels.append(
        Kernel("cluster_rate", "G, masses, params", doc, body, "with_transpose(half)")
    )


def _array(
    parts: Parts,
    result: TokenFlow,
    name: str,
    arguments: str,
    doc: str,
    expression: Expression,
    names: dict[str, str],
) -> None:
    code = _code(parts, result, names)
    text = code.expression(expression)
    lines = code.lines if "mass" in names else _with_masses(code, "x")
    parts.words |= code.words
    body = [*prelude(result, code.used, tokens="x" in names), *lines]
    parts.kernels.append(Kernel(name, arguments, doc, body, text))


def _code(parts: Parts, result: TokenFlow, names: dict[str, str]) -> FlowCode:
    used = result.trace.used
    code = FlowCode(result.book, dict(names), functions=parts.functions, matrices=used)
    code._taken = {"x", "G", "R", "mass", "masses", "half", "params"} | taken_by(result.model)
    return code


def _with_masses(code: FlowCode, like: str) -> list[str]:
    if "mass" not in code.used:
        return code.lines
    code.words.add("equal_masses")
    return [f"mass = equal_masses({like})", *code.lines]

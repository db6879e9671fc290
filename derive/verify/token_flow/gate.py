"""The gate of a token flow: every emitted function beside the definition's text, or the equation.

Velocity, weights and rates of inner products are compared with the text on tokens; the energy and
the scalar rates, whose own checks have met the text, with what was derived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import sympy as sp

from derive.methods.token_flow import growth_values, instances
from derive.methods.token_flow.checks import BY_DIFFERENCES
from derive.methods.token_flow.deviation_checks import by_pairs
from derive.methods.token_flow.equal_angles import RADIUS, RHO
from derive.methods.token_flow.instances import FlowInstance
from derive.methods.token_flow.long_times import text_frame, text_score
from derive.methods.token_flow.metastability import INSIDE, Caps
from derive.methods.token_flow.names import COUNT
from derive.methods.token_flow.result import Absent, TokenFlow
from derive.methods.token_flow.scalar_values import number
from derive.methods.token_flow.slow_motion import OTHER, OWN, SlowMotion
from derive.methods.token_flow.two_clusters import COSINE, MASS
from derive.notation.closures.numeric import Cloud, weights_of_averages
from derive.verify.common.compare import Finding, Target, findings, strict_jax
from derive.verify.token_flow import manoeuvres

BOUND_TO_RUNTIME = {
    "solve",
    "flow",
    "solve_clusters",
    "limit_object",
    "slow_motion",
    "metastability",
    "path",
    "match",
    "load_plan",
}
INTEGRATED = 1e-10  # relative, of means over the sphere


def gate(result: TokenFlow, module: ModuleType) -> list[Finding]:
    """Every emitted function, in one or two dimensions and in four."""
    sizes = ((5, 2), (7, 4)) if result.model.sphere else ((5, 1), (7, 4))
    with strict_jax():
        batches = (list(targets(result, module, n, d)) for n, d in sizes)
        return findings(module, batches, BOUND_TO_RUNTIME)


def targets(result: TokenFlow, module: ModuleType, n: int, d: int) -> Iterator[Target]:
    equal = instances.instance(result.model, 40 + d, n, d, equal=True)
    p = params_of(module, equal)
    yield Target("velocity", (equal.x, p), instances.tangent(equal), 1e-3)
    if hasattr(module, "rescaled_velocity"):
        yield _rescaled(result, equal, p)
        yield Target("frame_matrix", (equal.x, p), text_frame(equal), 1e-3)
    if hasattr(module, "score_matrix"):
        yield Target("score_matrix", (equal.x, p), text_score(equal), 1e-3)
    if hasattr(module, "attention_matrix"):
        yield Target("attention_matrix", (equal.x, p), attention(result, equal), 1e-3)
    if result.noise is not None:
        yield Target("noise_rate", (equal.x, p), instances.text_noise(equal), 1e-3)
    if result.gradient.energy is not None:
        right = instances.at(equal, result.gradient.energy, result.book)
        yield Target("energy", (equal.x, p), right, 1e-3)
        if hasattr(module, "metric"):
            assert result.gradient.weight is not None
            right = instances.at(equal, result.gradient.weight, result.book)
            yield Target("metric", (equal.x, p), right, 1e-3)
    if not isinstance(result.gram_rate, Absent):
        one = instances.instance(result.model, 50 + d, n, d)
        given = (one.x @ one.x.T, one.mass, params_of(module, one))
        yield Target("cluster_rate", given, instances.text_gram_rate(one), 1e-3)
        right = instances.text_gram_rate(equal)
        yield Target("gram_rate", (equal.x @ equal.x.T, p), right, 1e-3)
        if result.model.sphere:
            few = instances.instance(result.model, 60 + d, 3, 3)
            given = (few.x @ few.x.T, few.mass, params_of(module, few))
            yield Target("cluster_stability", given, by_pairs(few), 1e-3, BY_DIFFERENCES)
    if hasattr(module, "circle_rate"):
        yield _circle(result, module, n)
    if not isinstance(result.contraction, Absent):
        one = instances.instance(result.model, 55 + d, n, d)
        right = instances.at(one, result.contraction, result.book)
        given = (one.x @ one.x.T, one.mass, params_of(module, one))
        yield Target("contraction", given, right, 1e-3)
    if not isinstance(result.equal_angles, Absent):
        yield from _equal_angles(result, equal, p)
        if not isinstance(result.deviations, Absent):
            values = {**equal.numbers, RHO: 0.37, COUNT: 9}
            rates = tuple(np.asarray(number(r, values)) for r in result.deviations.rates)
            yield Target("equal_angle_stability", (0.37, 9, p), rates, 1e-3)
    if not isinstance(result.slow_motion, Absent):
        yield from _slow(result.slow_motion, equal, p)
    if not isinstance(result.caps, Absent):
        yield from _caps(result.caps, equal, p)
    if not isinstance(result.manoeuvres, Absent):
        yield from manoeuvres.targets(result, result.manoeuvres, module, n, d, params_of)
    if not isinstance(result.growth, Absent):
        yield _threshold(result, equal, p, d)
        for degree in (1, 2, 5):
            right = np.asarray(growth_values.rate(result.growth, degree, d, equal.numbers))
            call = _growing(degree, d)
            yield Target(f"growth, degree {degree}", (p,), right, 1e-3, INTEGRATED, call)


def _rescaled(result: TokenFlow, one: FlowInstance, p: Any) -> Target:
    """By the text, and exponentials by eigenvalues."""
    assert result.frame is not None
    M, time = instances.at(one, result.frame, result.book), 0.7
    values, vectors = np.linalg.eig(M)
    ahead, back = (
        np.real((vectors * np.exp(sign * time * values)) @ np.linalg.inv(vectors))
        for sign in (1, -1)
    )
    x = one.x @ ahead.T
    right = (instances.text_velocity(one, x) - x @ M.T) @ back.T
    return Target("rescaled_velocity", (one.x, np.float64(time), p), right, 1e-3, 1e-9)


def _slow(found: SlowMotion, one: FlowInstance, p: Any) -> Iterator[Target]:
    right = -number(found.height, {COSINE: 0.3})
    yield Target("clock_exponent", (0.3, p), np.asarray(right), 1e-3)
    share = number(found.share, {**one.numbers, OWN: 0.2, OTHER: 0.5})
    yield Target("share_of_way", (0.2, 0.5, p), np.asarray(share), 1e-3)


def _caps(found: Caps, one: FlowInstance, p: Any) -> Iterator[Target]:
    values = {**one.numbers, COSINE: 0.3, INSIDE: 0.9, MASS: 0.4}
    others, inside = (np.asarray(number(e, values)) for e in (found.others, found.inside))
    yield Target("push_from_others", (0.3, 0.9, 0.4, p), others, 1e-3)
    yield Target("push_inside", (0.9, 0.4, p), inside, 1e-3)


def _threshold(result: TokenFlow, one: FlowInstance, p: Any, d: int) -> Target:
    growth, degrees = result.growth, 6
    assert not isinstance(growth, Absent)
    still = replace(growth, diffusion=sp.Integer(0))
    shares = [
        growth_values.rate(still, k, d, one.numbers) / (k * (k + d - 2))
        for k in range(1, degrees + 1)
    ]
    call = _up_to(d, degrees)
    return Target("noise_threshold", (p,), np.asarray(max(shares)), 1e-3, INTEGRATED, call)


def _circle(result: TokenFlow, module: ModuleType, n: int) -> Target:
    one = instances.instance(result.model, 58, n, 2, equal=True)
    angle = np.arctan2(one.x[:, 1], one.x[:, 0])
    across = np.stack([-one.x[:, 1], one.x[:, 0]], 1)
    right = (instances.tangent(one) * across).sum(1)
    return Target("circle_rate", (angle, params_of(module, one)), right, 1e-3)


def _equal_angles(result: TokenFlow, one: FlowInstance, p: Any) -> Iterator[Target]:
    rates = result.equal_angles
    assert not isinstance(rates, Absent)
    values = {**one.numbers, RHO: 0.37, RADIUS: 1.3, COUNT: 9}
    cosine = np.asarray(number(rates.cosine, values))
    if rates.radius is None:
        yield Target("equal_angle_rate", (0.37, 9, p), cosine, 1e-3)
        return
    both = (cosine, np.asarray(number(rates.radius, values)))
    yield Target("equal_angle_rate", (0.37, 1.3, 9, p), both, 1e-3)


def _growing(degree: int, d: int) -> Callable[..., Any]:
    return lambda function, p: function(degree, p, d)


def _up_to(d: int, degrees: int) -> Callable[..., Any]:
    return lambda function, p: function(p, d, degrees)


def attention(result: TokenFlow, one: FlowInstance) -> np.ndarray:
    """The text's normalised weights (n, n), one layer for each head."""
    places = np.arange(float(len(one.x))) if one.model.positional else None
    cloud = Cloud(one.x, one.mass, places)
    found = weights_of_averages(one.model, cloud, cloud, arrays=one.arrays, params=one.params)
    shape = (len(one.x), len(one.x))
    weights = [np.broadcast_to(w, shape) * one.mass for w in found]
    rows = [w / w.sum(1, keepdims=True) for w in weights]
    headed = any(len(m.shape) == 3 for m in result.trace.used)
    return np.stack(rows) if headed else rows[0]


def params_of(module: ModuleType, one: FlowInstance) -> Any:
    known = {**one.params, **one.arrays, **{d.name: v for d, v in one.numbers.items()}}
    return module.Params(**{n: np.asarray(known[n], float) for n in module.Params._fields})

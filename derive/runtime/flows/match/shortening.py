"""A plan of less time and fewer pieces: optimal control of the same flow, from the plan there is.

Pieces are left out one by one.  After each the parameters and durations of all others are moved
down the gradient of the distance to the targets and of the energy, through the replay; a piece
stays out where the laws then arrive within the tolerance, by the replay that certifies plans.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from scipy.spatial import cKDTree

from derive.runtime.common.precision import precision
from derive.runtime.common.progress import Progress, reporter
from derive.runtime.flows.match.certificate import certify, unsteady
from derive.runtime.flows.match.exported import module
from derive.runtime.flows.match.moving import TooLong
from derive.runtime.flows.match.pieces import Piece
from derive.runtime.flows.match.plan import Plan

STEPS = 40  # of the replay that is differentiated, a piece
ITERATIONS = 60  # of a descent after a piece is left out
# Distances below a floor do not count.  It falls: as long as it is high, laws that have arrived
# may give way to one that has not.
FLOORS, SHARE = (0.1, 1e-2, 1e-4), 0.1  # ... at last this share of the tolerance
ENERGY = 0.01  # weight of the energy beside the logarithms of distances, over the energy before


class _Descent(NamedTuple):
    """`slope(v, kept, floor)`: loss and gradient, v the parameters and log durations in a row."""

    slope: Callable[[np.ndarray, np.ndarray, float], tuple[float, np.ndarray]]
    start: np.ndarray


def shorten(plan: Plan, progress: bool | None | Progress = None) -> Plan:
    """The same laws to the same targets in less time and fewer pieces, certified anew.

    `findings` of the result: pieces, time and energy before and after; the plan itself where no
    other arrives, or where what arrives hangs on the last digits.
    """
    report, kept = reporter(progress, "shorten"), np.ones(len(plan.pieces))
    best = plan
    with precision("float64"):
        descent = _descent(plan)
        v = descent.start
        for number, i in enumerate([None, *_queue(plan)]):  # with all pieces first
            trial = kept.copy()
            if i is not None:
                trial[i] = 0
            moved = _moved(descent, v, trial, SHARE * plan.tolerance)
            found = _plan(plan, moved, trial)
            if found is not None:
                v, kept, best = moved, trial, found
            report((number + 1) / (len(kept) + 2))
    numbers = {"pieces": lambda p: len(p.pieces), "time": lambda p: float(p.times[-1])}
    numbers["energy"] = lambda p: p.energy
    said = {f"{k} before, after": [f(plan), f(best)] for k, f in numbers.items()}
    findings = certify(best)
    if unsteady(findings, plan.tolerance):
        report(1.0)
        return plan  # shorter, but another arithmetic would not arrive
    best.findings.update({**findings, **said})
    report(1.0)
    return best


def _moved(descent: _Descent, v: np.ndarray, kept: np.ndarray, last: float) -> np.ndarray:
    """The parameters and durations at the end of the descents."""
    for floor in (*(f for f in FLOORS if f > last), last):
        v = minimize(
            lambda w, floor=floor: descent.slope(w, kept, floor**2),
            v,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS},
        ).x
    return v


def _queue(plan: Plan) -> list[int]:
    """Pieces in the order in which they are left out: what returns others, late ones first."""
    places = range(len(plan.pieces))
    return sorted(places, key=lambda i: (plan.pieces[i].kind != "unsplit", -i))


def _descent(plan: Plan) -> _Descent:
    run, theta = module(plan, STEPS), plan.theta
    x, masses = jnp.asarray(plan.inputs.x), jnp.asarray(plan.inputs.masses)
    aims, before = jnp.asarray(_aims(plan)), plan.energy

    def loss(v: jax.Array, kept: jax.Array, floor: jax.Array) -> jax.Array:
        params, durations = _unpacked(theta, v, kept)
        times = jnp.concatenate([jnp.zeros(1), jnp.cumsum(durations)])
        ends = jax.vmap(lambda y, m: run(y, m, params, times))(x, masses)
        squares = (masses * ((ends - aims) ** 2).sum(-1)).sum(1)
        energy = sum(durations @ (p**2).reshape(len(p), -1).sum(1) for p in params)
        return jnp.log(squares + floor).sum() + ENERGY * energy / before

    slope = jax.jit(jax.value_and_grad(loss))

    def numbers(v: np.ndarray, kept: np.ndarray, floor: float) -> tuple[float, np.ndarray]:
        value, gradient = slope(v, kept, floor)
        steep = np.nan_to_num(np.asarray(gradient, float))
        return float(np.nan_to_num(value, nan=1e9)), steep

    start = np.concatenate([*(p.ravel() for p in theta), np.log(np.diff(plan.times))])
    return _Descent(numbers, start)


def _unpacked(theta: Any, v: Any, kept: Any) -> tuple[Any, Any]:
    out, first = [], 0
    for p in theta:
        out.append(v[first : first + p.size].reshape(p.shape))
        first += p.size
    return type(theta)(*out), jnp.exp(v[first:]) * kept


def _aims(plan: Plan) -> np.ndarray:
    """Where each token (N, n, d) goes under the plan: the point of its target next to its end."""
    reached = plan.run(plan.inputs)
    found = [cKDTree(plan.targets.own(k)).query(x)[1] for k, x in enumerate(reached.x)]
    return np.stack([plan.targets.own(k)[i] for k, i in enumerate(found)])


def _plan(plan: Plan, v: np.ndarray, kept: np.ndarray) -> Plan | None:
    """The plan of what is kept, or None where it does not arrive."""
    params, durations = _unpacked(plan.theta, v, kept)
    pieces = tuple(
        Piece(
            old.kind,
            type(params)(*(np.asarray(p[i]) for p in params)),
            float(t),
            old.law,
            old.words,
        )
        for i, (old, t) in enumerate(zip(plan.pieces, durations, strict=True))
        if kept[i]
    )
    found = Plan(plan.spec, pieces, plan.inputs, plan.targets, plan.tolerance, np.nan)
    try:
        arrived = found.arrive(plan.inputs).w2
    except (TooLong, FloatingPointError):
        return None
    return found if np.max(arrived) <= plan.tolerance else None

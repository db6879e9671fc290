"""The verdict on long horizons: what each static point found is, and what the best one says."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.control.coordinates import Flat, on_sphere
from derive.runtime.control.creases import creased, kinked_goal
from derive.runtime.control.function_checks import not_convex
from derive.runtime.control.results import Turnpike
from derive.runtime.control.static_problem import StaticPoint
from derive.runtime.control.turnpike import (
    Ends,
    Linearised,
    bends,
    hautus,
    is_minimum,
    judge,
    law_slope,
    linearise,
    shown,
)


class _Judged(NamedTuple):
    point: StaticPoint
    lin: Linearised
    ends: Ends


def verdict_on(flat: Flat, params: Any, points: list[StaticPoint], starts: int) -> Turnpike:
    """What the static points found by `starts` searches, best first, say about long horizons."""
    if not points:
        return _nothing(flat, params, starts)
    judged = []
    for point in points:
        lin, ends = linearise(flat, point, params)
        minimum = minimises(flat, point, params, lin)
        judged.append(_Judged(point._replace(minimum=minimum), lin, ends))
    best = next((k for k, j in enumerate(judged) if j.point.minimum), 0)
    point, lin, ends = judged[best]
    _require_convex(flat, lin)
    # A cost of the control alone prefers no state, unless curved dynamics price it in H_xx.
    blind = _blind(flat, params, point) and float(np.max(np.abs(lin.Q), initial=0.0)) < 1e-9
    found = judge(lin, ends, fixed_end=flat.spec.fixed_end, blind=blind)
    verdict, reasons = _among(judged, point, found.verdict, list(found.reasons))
    verdict, reasons = _held(flat, params, point, verdict, reasons)
    verdict, first = _not_smooth(flat, params, point, verdict)
    if first and "infinity" in first[0]:
        reasons = []  # what a linearisation out there says is rounding
    last = f"static optimum found by search from {starts} starts, not proven global"
    candidates = tuple(_candidate(flat, j.point) for j in judged)
    _, _, _, x, p, u = candidates[best]
    return Turnpike(
        x,
        p,
        u,
        point.cost,
        found.rates,
        found.rate if verdict in ("exponential", "entry_only", "non_unique") else np.nan,
        verdict,
        (*first, *reasons, last),
        found.spectrum,
        lin.matrix,
        found.riccati,
        lin.basis,
        point.residual,
        candidates,
    )


def _nothing(flat: Flat, params: Any, starts: int) -> Turnpike:
    reason = f"no static point found in {starts} starts; pass x_guess, or more starts"
    kink = kinked_goal(flat, params)
    return unknown(flat, reason if kink is None else f"{reason}; {kink}")


def unknown(flat: Flat, reason: str) -> Turnpike:
    """No static optimum, and why."""
    empty, none = np.zeros(0), np.zeros((0, 0))
    return Turnpike(
        flat.point(np.full(flat.n, np.nan)),
        flat.costate(np.full(flat.n, np.nan)),
        flat.control(np.full(flat.m, np.nan)),
        np.nan,
        empty,
        np.nan,
        "undetermined",
        (reason,),
        empty,
        none,
        None,
        none,
        np.nan,
        (),
    )


def _candidate(flat: Flat, p: StaticPoint) -> tuple[Any, ...]:
    unpacked = (flat.point(p.z), flat.costate(p.q), flat.control(p.v))
    return p.cost, p.residual, p.minimum, *jax.tree.map(np.asarray, unpacked)


def _require_convex(flat: Flat, lin: Linearised) -> None:
    convex, least = _convex(lin)
    if convex:
        return
    if least > -1e-9 * max(1.0, float(np.abs(lin.R).max())):
        raise ValueError(
            f"H_uu = 0 at the static optimum (smallest eigenvalue {least:.3g}): the cost of the "
            "control is flat there to second order, as u^4 is, so the law of the control has no "
            "derivative and there is no linearisation; add beta / 2 |u|^2"
        )
    raise not_convex(least, "at the static optimum", bool(flat.spec.bounds))


def _among(
    judged: list[_Judged], point: StaticPoint, verdict: str, reasons: list[str]
) -> tuple[str, list[str]]:
    """Verdict and reasons of the best static point in view of the others."""
    minima = [p for p, _, _ in judged if p.minimum]
    ties = [p for p in minima if p.cost - point.cost < 1e-8 * (1 + abs(point.cost))]
    if not point.minimum:
        verdict = "undetermined"
        reasons = ["no static point found is a minimum of the static problem", *reasons]
    elif len(ties) > 1 and verdict != "none":
        verdict = "non_unique"
        several = (
            f"{len(ties)} different static optima of the same cost {point.cost:.9g} were found"
        )
        reasons = [several, *reasons]
    others = len(judged) - len(ties)
    if others > 0 and point.minimum:
        costs = ", ".join(f"{p.cost:.6g}" for p, _, _ in judged if p.cost > point.cost)
        reasons = [*reasons, f"{others} other static points, of costs {costs[:120]}"]
    return verdict, reasons


def _held(
    flat: Flat, params: Any, point: StaticPoint, verdict: str, reasons: list[str]
) -> tuple[str, list[str]]:
    """The same in view of controls that are constant in time, or that bounds and norms hold."""
    if flat.spec.constant:
        names = ", ".join(flat.spec.constant)
        still = (
            f"{names}, constant in time, at the static optimum: rates are those of the other "
            "variables; on a horizon T the best constant may differ from it by O(1/T)"
        )
        reasons = [*reasons, still]
    if not flat.bent:
        return verdict, reasons
    reasons = [*reasons, _activity(flat, params, point)]
    if bends(flat, point, params) and verdict != "none":
        touched = (
            "a bound or dead zone of the control is just touched at the static optimum: the "
            "system is not differentiable there, and its rates hold on one side only"
        )
        return "undetermined", [touched, *reasons]
    return verdict, reasons


def _not_smooth(flat: Flat, params: Any, point: StaticPoint, verdict: str) -> tuple[str, list[str]]:
    """The verdict where the linearisation at a static point means something, else undetermined."""
    reach = 10 * (1 + max((float(np.max(np.abs(a), initial=0)) for a in params), default=0.0))
    if verdict != "exponential" and np.max(np.abs(point.z), initial=0.0) > reach:
        return "undetermined", [
            f"the static search runs off to infinity (state of size {np.max(np.abs(point.z)):.3g}):"
            " the least running cost may not be attained"
        ]
    if creased(flat, point.z, point.q, point.v, params):
        return "undetermined", [
            "the state sits on a kink of the dynamics or of a cost at the static optimum: there is "
            "no linearisation, and an arrival in finite time is possible"
        ]
    if flat.spec.fixed_end and verdict in ("exponential", "entry_only", "non_unique"):
        lin, _ = linearise(flat, point, params)
        lost = hautus(lin.reduced[0].T, lin.reduced[1], -np.inf, 1e-6 * (1 + np.abs(lin.A).max()))
        if lost:
            return "undetermined", [
                "the end is fixed, and no control acts on the modes at eigenvalue "
                + ", ".join(map(shown, lost))
                + ": an end is out of reach unless the free motion leads there"
            ]
    return verdict, []


def _convex(lin: Linearised) -> tuple[bool, float]:
    """Whether H_uu is positive definite, and its least eigenvalue."""
    if not len(lin.R):
        return True, np.inf
    least = float(np.linalg.eigvalsh(lin.R)[0])
    return least > 1e-12 * max(1.0, float(np.abs(lin.R).max())), least


def minimises(flat: Flat, point: StaticPoint, params: Any, lin: Linearised) -> bool:
    """Whether a static point is a minimum of the static problem, the constant controls moving."""
    if not _convex(lin)[0]:
        return False
    whole = linearise(flat, point, params, whole=True)[0] if flat.spec.constant else lin
    return is_minimum(whole)


def _blind(flat: Flat, params: Any, point: StaticPoint) -> bool:
    """Whether the running cost ignores the state: its gradient vanishes wherever one looks."""
    rng = np.random.default_rng(0)
    for _ in range(6):
        z = on_sphere(flat, jnp.asarray(point.z + 0.3 * rng.standard_normal(flat.n)))
        v = jnp.asarray(point.v + 0.3 * rng.standard_normal(flat.m))
        if float(jnp.max(jnp.abs(jax.grad(flat.running)(z, v, params)))) > 1e-12:
            return False
    return True


def _activity(flat: Flat, params: Any, point: StaticPoint) -> str:
    slope = np.asarray(flat.stationarity(point.z, point.q, point.v, params))
    active = np.abs(slope) > 1e-7
    if not active.any():
        return "no bound is active at the static optimum"
    moves = np.any(np.abs(law_slope(flat, point.z, point.q, point.v, params)) > 1e-12, 1)
    held, zero = int(np.sum(active & ~moves)), int(np.sum(active & ~moves & (point.v == 0)))
    return (
        f"bounds and norms act on {int(np.sum(active))} of {len(active)} controls at the static "
        f"optimum: {held} are held ({zero} of them at zero); rates are those with the held fixed"
    )

"""Checks of how angles close: the reduced rates followed by Runge-Kutta steps in log(1 - rho).

The rates are put in as numbers; no series and no balance takes part.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sympy as sp

from derive.methods.common.record import Check
from derive.methods.token_flow.closing import Closing, U
from derive.methods.token_flow.equal_angles import RADIUS, RHO, EqualAngles
from derive.methods.token_flow.instances import instance
from derive.methods.token_flow.names import COUNT, Names
from derive.methods.token_flow.scalar_values import number

TOKENS = 5
STEPS = 4000


def near_consensus(found: Closing, rates: EqualAngles, names: Names) -> Check:
    """rho' at small 1 - rho against its leading term."""
    one = instance(names.model, 30)
    small = sp.Rational(1, 10**12)
    values = {**one.numbers, COUNT: TOKENS, RADIUS: sp.Rational(13, 10), RHO: 1 - small}
    exact = number(rates.cosine, values)
    leading = number(found.rate * small**found.order, values)
    return Check("rho' at 1 - rho = 1e-12", float(abs(exact / leading - 1)), 1e-6)


def tail(found: Closing, rates: EqualAngles, names: Names) -> Check | None:
    """The slope of log(1 - rho) late on the way, by time or by its logarithm; None where angles
    do not close at the parameters that are tried."""
    one = instance(names.model, 31)
    values = {**one.numbers, COUNT: TOKENS}
    # rates in u = 1 - rho, of log u: u is divided out before numbers are put in
    decay = sp.lambdify(
        [U, RADIUS], sp.cancel(rates.cosine.subs(RHO, 1 - U) / U).subs(values), "numpy"
    )
    radius = sp.Integer(0) if rates.radius is None else rates.radius.subs(RHO, 1 - U)
    grows = sp.lambdify([U, RADIUS], radius.subs(values) / RADIUS, "numpy")
    wanted = float(found.exponent.subs(values))
    if found.if_positive and float(found.rate.subs(values)) <= 0:
        return None

    def field(state: np.ndarray) -> np.ndarray:
        u, r = np.exp(np.minimum(state, 300.0))
        return np.array([-float(decay(u, r)), float(grows(u, r))])

    if found.kind == "exponential":
        start = np.log([_free_of_rests(decay) if rates.radius is None else 0.1, 1.0])
        states = _followed(field, start, 8 / max(wanted, 1e-2), lambda t: 1.0)
        got = (states[-1][0] - states[-2][0]) / (states[-2][2] - states[-1][2])
        return Check("slope of log(1 - rho) late on the way", _off(got, wanted), 0.02)
    states = _followed(field, np.log([0.1, 1.0]), np.log(1e5), np.exp)
    got = (states[-1][0] - states[-2][0]) / (states[-2][2] - states[-1][2])
    if found.kind == "open":
        return Check("log(1 - rho) by log t late on the way stands still", abs(got), 0.02)
    return Check("slope of log(1 - rho) by log t late on the way", _off(got, wanted), 0.02)


def _free_of_rests(decay: Callable[..., float]) -> float:
    """A start u, 0.1 or less, from which u falls all the way: no angle in between is at rest."""
    at = 0.1 * 0.8 ** np.arange(60)
    falls = np.array([float(decay(u, 1.0)) > 0 for u in at])
    held = np.flatnonzero(~falls)
    return float(at[held[-1] + 1]) / 2 if held.size and held[-1] + 1 < len(at) else 0.1


def _off(got: float, wanted: float) -> float:
    size = abs(got / wanted - 1)
    return size if np.isfinite(size) else float("inf")


def _followed(
    field: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    end: float,
    speed: Callable[[float], float],
) -> list[tuple[float, float, float]]:
    """(log u, log r, clock) at the last tenth and at the end of the clock, dt = speed d(clock)."""
    h, state, out = end / STEPS, start, []
    for k in range(STEPS):
        if k == STEPS - STEPS // 10:
            out.append((*state, k * h))
        stages = [np.zeros(2)]
        for share in (0.0, 0.5, 0.5, 1.0):
            at = state + share * h * stages[-1]
            stages.append(field(at) * speed((k + share) * h))
        state = state + h * (stages[1] + 2 * stages[2] + 2 * stages[3] + stages[4]) / 6
    return [*out, (*state, end)]

"""Optimal controls that jump: phases from a smoothed problem, switching times by Newton's method.

The answer is accepted where it satisfies the maximum principle at every time, its equations by a
second integration, and Legendre and Clebsch's condition on singular arcs; else it is refused.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from derive.runtime.common.inputs import times as save_times
from derive.runtime.control import extremal_checks, free_time
from derive.runtime.control import switching_checks as checks
from derive.runtime.control import switching_guess as guesses
from derive.runtime.control import switching_shooting as shooting
from derive.runtime.control.coordinates import Flat
from derive.runtime.control.extremal_system import Theta
from derive.runtime.control.extremals import lines
from derive.runtime.control.results import Extremal, Residuals

SETTLED = 1e-10  # of the shooting equations
SAME = 1e-7  # costs closer than that are one extremal's
ATTEMPTS = 8  # of Newton's method for switching times, per first guess
EARLY = 0.02  # of the first eps: above it, phases are not looked for


def solve(
    flat: Flat,
    z0: np.ndarray,
    params: Any,
    *,
    T: float,
    zT: np.ndarray | None,
    saves: Any,
    starts: int,
    seed: int,
) -> Extremal:
    """Extremals from each row of z0 (batch, n)."""
    found = [_best(flat, z, params, T, zT, saves, starts, seed) for z in z0]
    out = jax.tree.map(lambda *a: np.stack(a), *(f._replace(notes=(), stop=None) for f in found))
    return out._replace(notes=tuple(dict.fromkeys(n for f in found for n in f.notes)))


def _best(
    flat: Flat, z0: Any, params: Any, T: float, zT: Any, saves: Any, starts: int, seed: int
) -> Extremal:
    """The cheapest extremal that any first guess leads to; the others' costs among its notes."""
    theta = Theta(params, z0, z0 if zT is None else zT, np.zeros(flat.m))
    found: list[Extremal] = []
    refusal: ValueError | None = None
    nodes = np.linspace(0, T, guesses.INTERVALS + 1)
    for guess in lines(flat, z0, zT, nodes, min(starts, 4), seed):
        try:
            new = _from(flat, theta, T, guess, saves)
        except ValueError as problem:
            refusal = refusal or problem
            continue
        if not any(abs(f.cost - new.cost) <= SAME * (1 + abs(f.cost)) for f in found):
            found.append(new)
    if not found:
        assert refusal is not None
        raise refusal
    best, *others = sorted(found, key=lambda f: float(f.cost))
    notes = best.notes + compared(flat, theta, zT, best)
    if others:
        costs = ", ".join(f"{float(f.cost):.8g}" for f in others)
        notes += (f"other extremals found cost {costs}",)
    return best._replace(notes=notes)


def compared(flat: Flat, theta: Theta, zT: Any, found: Extremal) -> tuple[str, ...]:
    """Notes on constant controls that cost less."""
    u = np.asarray(jax.vmap(flat.pack_u)(found.u))
    h = np.diff(found.times)[:, None]
    mean = np.sum(h * (u[1:] + u[:-1]) / 2, 0) / found.times[-1]
    tried = {"no control": np.zeros(flat.m), "the mean of its own control": mean}
    tried |= {f"its control at t = {found.times[k]:.4g}": u[k] for k in (0, len(u) // 2, -1)}
    first = np.asarray(theta.z0)[None]
    T = float(found.times[-1])
    return extremal_checks.compared(
        flat, first, zT, np.asarray(found.cost)[None], tried, T, theta.params
    )


def _from(flat: Flat, theta: Theta, T: float, guess: np.ndarray, saves: Any) -> Extremal:
    """The extremal that one first guess leads to."""
    batched = theta._replace(z0=np.asarray(theta.z0)[None])
    before, reason, tried, count = None, "", None, 0
    early = EARLY * guesses.first_eps(flat, batched, T)
    for soft in guesses.descend(flat, batched, T, guess):
        now = guesses.read(flat, batched, soft)
        choices, times = guesses.phases_of(now, before)
        before = now
        if soft.eps > early or len(choices) > shooting.SEGMENTS:
            continue
        if (
            tried is not None
            and tried[0] == choices
            and np.allclose(tried[1], times, atol=1e-3 * T)
        ):
            continue
        tried, count = (choices, times), count + 1
        if count > ATTEMPTS:
            break
        phase = shooting.layout(times)
        y = guesses.values_at(flat, batched, soft, shooting.nodes_of(times, phase))
        phases, left = shooting.newton(flat, theta, shooting.Phases(choices, times, phase, y))
        if not left < SETTLED:
            reason = checks.higher_order(flat, theta, phases) or (
                f"Newton's method for the switching times left {left:.3g}"
            )
            continue
        wrong, report = checks.judged(flat, theta, phases)
        wrong = wrong or checks.no_minimum(flat, batched, soft)
        if wrong is None:
            return _extremal(flat, theta, phases, left, report, saves)
        reason = wrong
    raise ValueError(
        "no control that jumps between its bounds was found that satisfies the maximum principle: "
        f"{reason or 'its phases did not settle'}; a quadratic cost of the control "
        "(beta / 2 |u|^2, beta small) gives a problem that collocation solves"
    )


def _extremal(
    flat: Flat, theta: Theta, phases: shooting.Phases, left: float, report: Any, saves: Any
) -> Extremal:
    times, y, v = report.times, report.y, report.v
    if saves is not None:
        times = save_times(saves, float(phases.times[-1]))
        y, v = checks.at_times(flat, theta, phases, times)
    n = flat.n
    x, p, u = (
        jax.tree.map(np.asarray, jax.vmap(unpack)(part))
        for unpack, part in ((flat.point, y[:, :n]), (flat.costate, y[:, n:]), (flat.control, v))
    )
    ends = float(np.max(np.abs(y[0, :n] - theta.z0)))
    residuals = Residuals(
        report.missed,
        report.drift,
        report.excess,
        np.asarray(ends),
        np.asarray(left),
        report.missed,
    )
    unit = free_time.lengths(flat, y[None])[0]
    inside = [t for t in phases.times[1:-1] if 1e-9 < t / phases.times[-1] < 1 - 1e-9]
    switches = ", ".join(f"{t:.6g}" for t in np.array(inside) * unit) or "none"
    note = f"the control switches at t = {switches}"
    return Extremal(times * unit, x, p, u, report.cost, residuals, notes=(note, *report.notes))

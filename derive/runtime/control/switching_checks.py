"""What an answer of phases must satisfy, by other means than Newton's equations.

Every segment is integrated again with more steps; along it H is compared with its least over all
admitted controls, and the control with its bounds.  On a singular arc the generalised condition of
Legendre and Clebsch must hold: d/dw d^2s/dt^2 <= 0.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.compiling import brief
from derive.runtime.control import second_variation
from derive.runtime.control import switching_shooting as shooting
from derive.runtime.control.coordinates import SMALL, Flat
from derive.runtime.control.extremal_system import Theta, problem
from derive.runtime.control.replay import advance
from derive.runtime.control.switching_guess import Smooth
from derive.runtime.control.switching_law import excess, outside, smoothed
from derive.runtime.control.switching_modes import Mode, dynamics, singular

PIECES = 8  # of a segment; each by four steps
TOLERANCE = 1e-6


class Report(NamedTuple):
    """At `times` (k,): y, v; the cost; the largest miss of integration, excess and drift of H."""

    times: np.ndarray
    y: np.ndarray
    v: np.ndarray
    cost: np.ndarray
    missed: np.ndarray
    excess: np.ndarray
    drift: np.ndarray
    notes: tuple[str, ...]


@lru_cache(maxsize=64)
def _along(flat: Flat, sliding: bool) -> Any:
    n2, moving = 2 * flat.n, dynamics(flat, sliding)

    def run(y: Any, start: Any, length: Any, mode: Mode, params: Any) -> tuple[Any, ...]:
        rho = 0.0 if flat.spec.discount is None else flat.spec.discount(params)

        def rate(t: Any, Y: Any) -> Any:
            slope, v = moving(Y[:n2], mode, params)
            price = jnp.exp(-rho * t) * flat.running(Y[: flat.n], v, params)
            return jnp.concatenate([slope, price[None]])

        def piece(Y: Any, k: Any) -> tuple[Any, Any]:
            h = length / PIECES
            return advance(rate, Y, start + k * h, h, 4), Y

        last, all_ = jax.lax.scan(piece, jnp.append(y, 0.0), jnp.arange(PIECES))
        every = jnp.concatenate([all_, last[None]])

        def judge(Y: Any) -> tuple[Any, ...]:
            z, q = Y[: flat.n], Y[flat.n : n2]
            v = moving(Y[:n2], mode, params)[1]
            over, scale = excess(flat, z, q, v, params)
            H = flat.hamiltonian(z, q, v, params)
            # and by the derived law, which knows nothing of groups
            best = flat.hamiltonian(z, q, flat.law(z, q, v, params), params)
            over = jnp.maximum(over, jnp.where(jnp.isfinite(best), H - best, 0.0))
            bend = jnp.zeros(())
            cross = jnp.zeros(())
            if sliding:
                _, curve, bracket = singular(flat, Y[:n2], mode, params)
                size = 1e-300 + jnp.max(jnp.abs(curve))
                bend = jnp.linalg.eigvalsh((curve + curve.T) / 2)[-1] / size
                cross = jnp.max(jnp.abs(bracket)) / size
            return v, over, scale, outside(flat, v, params), H, bend, cross

        return (every, *jax.vmap(judge)(every))

    return brief(jax.vmap(run, (0, 0, 0, 0, None)), flat.n <= SMALL)


def _segments(flat: Flat, theta: Theta, phases: shooting.Phases) -> tuple[Any, ...]:
    phase = phases.phase
    nodes = shooting.nodes_of(phases.times, phase)
    modes = shooting.modes_of(flat, phases.choices, theta.params)
    return nodes, jax.tree.map(lambda a: a[phase], modes), shooting.slides(phases.choices) > 0


def judged(flat: Flat, theta: Theta, phases: shooting.Phases) -> tuple[str | None, Report]:
    """What a candidate violates, in words and numbers, or None; and what it reports."""
    nodes, mode, sliding = _segments(flat, theta, phases)
    length = np.diff(nodes)
    found = _along(flat, sliding)(phases.y[:-1], nodes[:-1], length, mode, theta.params)
    Y, v, over, scale, off, H, bend, cross = (np.asarray(a) for a in found)
    n2 = 2 * flat.n
    missed = np.max(np.abs(Y[:, -1, :n2] - phases.y[1:]) / (1 + np.abs(phases.y[1:])))
    heavy = max(float(np.max(scale)), 1e-300)
    worst = float(np.max(over)) / heavy
    drift = float(np.max(np.abs(H - H[0, 0]))) / (1 + float(np.max(np.abs(H))))
    T = float(phases.times[-1])
    rho = 0.0 if flat.spec.discount is None else float(flat.spec.discount(theta.params))
    last = float(flat.terminal(jnp.asarray(phases.y[-1, : flat.n]), theta.params))
    cost = float(np.sum(Y[:, -1, n2])) + np.exp(-rho * T) * last
    times = (nodes[:-1, None] + length[:, None] * np.arange(PIECES) / PIECES).ravel()
    report = Report(
        np.append(times, T),
        np.concatenate([Y[:, :-1, :n2].reshape(-1, n2), phases.y[-1:]]),
        np.concatenate([v[:, :-1].reshape(-1, flat.m), v[-1:, -1]]),
        np.asarray(cost),
        np.asarray(missed),
        np.asarray(worst),
        np.asarray(drift),
        (),
    )
    slid = np.any(np.asarray(mode.live), 1) if sliding else np.zeros(len(nodes) - 1, bool)
    for value, most, words in (
        (missed, TOLERANCE, "integrated with more steps its states and costates move"),
        (worst, TOLERANCE, "another control makes the Hamiltonian smaller"),
        (float(np.max(off)), TOLERANCE, "its control leaves the bounds"),
        (0.0 if rho else drift, TOLERANCE, "its Hamiltonian is not constant"),
        (
            float(np.max(cross[slid], initial=0.0)),
            TOLERANCE,
            "several controls are singular at once and turn one another (brackets that do not "
            "vanish), for which there is no feedback here",
        ),
        (
            1 + float(np.max(bend[slid], initial=-1.0)),
            1 - 1e-9,
            "on a singular arc the condition of Legendre and Clebsch fails",
        ),
    ):
        if not value <= most:
            return f"{words} (by {value:.3g}, allowed {most:g})", report
    return None, report


@lru_cache(maxsize=64)
def _curvatures(flat: Flat) -> Any:
    run = jax.vmap(lambda y, mode, params: singular(flat, y, mode, params)[1], (0, 0, None))
    return brief(run, flat.n <= SMALL)


def higher_order(flat: Flat, theta: Theta, phases: shooting.Phases) -> str | None:
    """Words on a singular arc whose s'' does not contain the control."""
    if not shooting.slides(phases.choices):
        return None
    nodes, mode, _ = _segments(flat, theta, phases)
    curves = np.asarray(_curvatures(flat)(phases.y[:-1], mode, theta.params))
    for k in np.flatnonzero(np.any(np.asarray(mode.live), 1)):
        own = np.asarray(mode.live[k])
        curve = curves[k][np.ix_(own, own)]
        if not np.min(np.abs(np.linalg.eigvals(curve))) > 1e-9 * (1 + np.max(np.abs(phases.y))):
            return (
                f"near t = {nodes[k]:.4g} the control slides between its bounds, and the second "
                "derivative of its switching function does not contain it: the arc is singular of "
                "higher order (optimal controls may switch ever faster towards it, or not be "
                "unique)"
            )
    return None


def no_minimum(flat: Flat, theta: Theta, soft: Smooth) -> str | None:
    """Words where the smoothed problem's extremal is none of its minima, to second order."""
    own = smoothed(flat)
    there = theta._replace(params=(theta.params, soft.eps))
    count = soft.nodes.shape[1] - 1
    second = second_variation.tested(own, problem(own), count)(there, soft.nodes, soft.y)
    negative = float(np.asarray(second.negative)[0])
    if negative < 0:
        return None
    return (
        f"it is no minimum: a change of the control on [{negative:.4g}, {soft.nodes[0, -1]:.4g}] "
        "lowers the cost to second order"
    )


@lru_cache(maxsize=64)
def _point(flat: Flat, sliding: bool) -> Any:
    moving = dynamics(flat, sliding)

    def run(y: Any, length: Any, mode: Mode, params: Any) -> tuple[Any, Any]:
        there = advance(lambda _, y: moving(y, mode, params)[0], y, 0.0, length, 16)
        return there, moving(there, mode, params)[1]

    return brief(jax.vmap(run, (0, 0, 0, None)), flat.n <= SMALL)


def at_times(
    flat: Flat, theta: Theta, phases: shooting.Phases, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """y (k, 2n) and controls (k, m) at given times."""
    nodes, mode, sliding = _segments(flat, theta, phases)
    i = np.clip(np.searchsorted(nodes, times, side="right") - 1, 0, len(nodes) - 2)
    own = jax.tree.map(lambda a: a[i], mode)
    found = _point(flat, sliding)(phases.y[i], times - nodes[i], own, theta.params)
    return np.asarray(found[0]), np.asarray(found[1])

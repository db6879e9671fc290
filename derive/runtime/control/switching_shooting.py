"""Newton's method for switching times: multiple shooting over phases, each with its own mode.

Unknown are state and costate y at the ends of `SEGMENTS` segments and the times between phases.
Every segment lies within one phase.  Equations: y runs from node to node by the mode's dynamics;
the first and last conditions of the problem; at a switch both choices cost H the same, and where
a singular arc begins its switching functions and their first derivatives vanish.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.compiling import brief
from derive.runtime.control.coordinates import SMALL, Flat
from derive.runtime.control.extremal_system import Theta, problem
from derive.runtime.control.replay import advance
from derive.runtime.control.switching_law import count_of, energies, force, groups_of
from derive.runtime.control.switching_modes import (
    Choice,
    Mode,
    dynamics,
    mode_of,
    slopes,
)

SEGMENTS, STEPS = 32, 8


class Phases(NamedTuple):
    """A candidate: choices per phase, times (phases + 1,) between them, the phase of each segment
    (SEGMENTS,), and y (SEGMENTS + 1, 2n) at the nodes."""

    choices: tuple[Choice, ...]
    times: np.ndarray
    phase: np.ndarray
    y: np.ndarray


def layout(times: np.ndarray) -> np.ndarray:
    """The phase of each segment (SEGMENTS,): at least one a phase, else shared by length."""
    count = len(times) - 1
    share = np.ones(count, int)
    for _ in range(SEGMENTS - count):
        share[np.argmax(np.diff(times) / share)] += 1
    return np.repeat(np.arange(count), share)


def nodes_of(times: np.ndarray, phase: np.ndarray) -> np.ndarray:
    counts = np.bincount(phase)
    parts = [
        np.linspace(a, b, c + 1)[:-1] for a, b, c in zip(times, times[1:], counts, strict=False)
    ]
    return np.concatenate([*parts, times[-1:]])


def slides(choices: tuple[Choice, ...]) -> int:
    """The largest number of singular directions of one phase."""
    return max(sum(len(picks) - 1 for picks in choice) for choice in choices)


def modes_of(flat: Flat, choices: tuple[Choice, ...], params: Any) -> Mode:
    """The modes of all phases, stacked."""
    modes = [mode_of(flat, c, params, slides(choices)) for c in choices]
    return jax.tree.map(lambda *a: np.stack(a), *modes)


@lru_cache(maxsize=64)
def _flow(flat: Flat, sliding: bool) -> Any:
    """Ends of segments, their derivatives by the first y, and the rates at the ends."""

    moving = dynamics(flat, sliding)

    def run(y: Any, length: Any, mode: Mode, params: Any) -> tuple[Any, Any, Any]:
        def rate(_: Any, y: Any) -> Any:
            return moving(y, mode, params)[0]

        def whole(y: Any) -> tuple[Any, Any]:
            end = advance(rate, y, 0.0, length, STEPS)
            return end, end

        jacobian, end = jax.jacfwd(whole, has_aux=True)(y)
        return end, jacobian, rate(0.0, end)

    return brief(jax.vmap(run, (0, 0, 0, None)), flat.n <= SMALL)


def all_energies(flat: Flat, y: Any, params: Any) -> Any:
    s = force(flat, y[: flat.n], y[flat.n :], params)
    return jnp.concatenate([energies(flat, g, s, params) for g in groups_of(flat)])


@lru_cache(maxsize=64)
def _choices(flat: Flat) -> Any:
    """What each choice adds to H, and its derivative by y, at several y."""

    def run(y: Any, params: Any) -> tuple[Any, Any]:
        return all_energies(flat, y, params), jax.jacfwd(all_energies, 1)(flat, y, params)

    return brief(jax.vmap(run, (0, None)), flat.n <= SMALL)


@lru_cache(maxsize=64)
def _entries(flat: Flat) -> Any:
    """First derivatives in time of the switching functions of a mode, and their derivative."""

    def run(y: Any, mode: Mode, params: Any) -> tuple[Any, Any]:
        def at(y: Any) -> Any:
            return slopes(flat, y, jnp.zeros(mode.cost.shape, y.dtype), mode, params)[0]

        return at(y), jax.jacfwd(at)(y)

    return brief(jax.vmap(run, (0, 0, None)), flat.n <= SMALL)


@lru_cache(maxsize=64)
def _ends(flat: Flat) -> Any:
    def run(y: Any, theta: Theta) -> tuple[Any, Any]:
        end = problem(flat).end
        return end(y, theta), jax.jacfwd(end)(y, theta)

    return brief(run, flat.n <= SMALL)


def _conditions(flat: Flat, choices: tuple[Choice, ...], sizes: tuple[int, ...]) -> list[Any]:
    """Per phase but the first, what holds where it begins: rows (weights of all energies), and the
    rows of its switching functions whose derivative vanishes; the first phase too where it slides.
    """
    starts = np.concatenate([[0], np.cumsum(sizes)])
    out = []
    for k, choice in enumerate(choices):
        rows, entering, at = [], [], 0
        for g, picks in enumerate(choice):
            before = choices[k - 1][g] if k else None
            for other in picks[1:]:
                if before != picks:
                    rows.append(_row(starts, g, other, picks[0]))
                    entering.append(at)
                at += 1
            if len(picks) == 1 and before and picks[0] not in before:
                rows.append(_row(starts, g, picks[0], before[0]))
        out.append((np.array(rows).reshape(-1, starts[-1]), entering))
    return out


@lru_cache(maxsize=64)
def choice_counts(flat: Flat) -> tuple[int, ...]:
    """How many choices each group of controls has."""
    return tuple(count_of(group) for group in groups_of(flat))


def _row(starts: np.ndarray, group: int, one: int, other: int) -> np.ndarray:
    row = np.zeros(starts[-1])
    row[starts[group] + one], row[starts[group] + other] = 1.0, -1.0
    return row


class Shot(NamedTuple):
    """Residuals and Jacobian of a candidate."""

    residual: np.ndarray
    jacobian: np.ndarray
    size: float


class _Rows:
    """Equations collected one after another: blocks of a Jacobian with `columns`, and residuals."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.blocks: list[np.ndarray] = []
        self.values: list[np.ndarray] = []

    def put(self, blocks: dict[int, np.ndarray], value: np.ndarray, weight: Any) -> None:
        """Rows with the matrices of `blocks` from the columns that are its keys on, all measured
        in `weight`."""
        part = np.zeros((len(value), self.columns))
        for at, matrix in blocks.items():
            part[:, at : at + matrix.shape[1]] = matrix
        self.blocks.append(part / np.reshape(weight, (-1, 1)))
        self.values.append(value / weight)

    def shot(self) -> Shot:
        residual = np.concatenate(self.values)
        return Shot(residual, np.concatenate(self.blocks), float(np.linalg.norm(residual)))


def shoot(flat: Flat, theta: Theta, phases: Phases, modes: Mode, scale: np.ndarray) -> Shot:
    """`modes`: of all phases; `scale` (2n,): what state and costate are measured in."""
    n, n2, count = flat.n, 2 * flat.n, len(phases.choices)
    y = phases.y
    rows, unit = _Rows((SEGMENTS + 1) * n2 + count - 1), np.eye(n2)
    free = np.array(flat.free or (False,) * n)
    missed = np.where(free, y[0, n:], y[0, :n] - np.asarray(theta.z0))
    start = np.where(free[:, None], unit[n:], unit[:n])
    rows.put({0: start}, missed, np.where(free, scale[n:], scale[:n]))
    _put_segments(flat, theta, phases, modes, scale, rows)
    last, slope = (np.asarray(a) for a in _ends(flat)(y[-1], theta))
    held = ~free if flat.spec.fixed_end else np.zeros(n, bool)
    rows.put({SEGMENTS * n2: slope}, last, np.where(held, scale[:n], scale[n:]))
    _put_switches(flat, theta, phases, modes, rows)
    return rows.shot()


def _put_segments(
    flat: Flat, theta: Theta, phases: Phases, modes: Mode, scale: np.ndarray, rows: _Rows
) -> None:
    """Every segment ends where the next one begins."""
    y, times, phase = phases.y, phases.times, phases.phase
    n2, count, share = 2 * flat.n, len(phases.choices), np.bincount(phases.phase)
    mode = jax.tree.map(lambda a: a[phase], modes)
    length = (np.diff(times) / share)[phase]
    flow = _flow(flat, slides(phases.choices) > 0)
    end, J, rate = (np.asarray(a) for a in flow(y[:-1], length, mode, theta.params))
    for k, own in enumerate(phase):
        moved = np.zeros((n2, count - 1))
        for edge, sign in ((own, 1.0), (own - 1, -1.0)):
            if 0 <= edge < count - 1:
                moved[:, edge] = sign * rate[k] / share[own]
        blocks = {k * n2: J[k], (k + 1) * n2: -np.eye(n2), (SEGMENTS + 1) * n2: moved}
        rows.put(blocks, end[k] - y[k + 1], scale)


def _put_switches(flat: Flat, theta: Theta, phases: Phases, modes: Mode, rows: _Rows) -> None:
    """At each switch H is the same for both choices; singular arcs begin with s = s' = 0."""
    params, n2 = theta.params, 2 * flat.n
    share = np.bincount(phases.phase)
    first = np.concatenate([[0], np.cumsum(share)])[:-1]  # the first node of each phase
    values, slope = (np.asarray(a) for a in _choices(flat)(phases.y[first], params))
    sizes = choice_counts(flat)
    heavy = max(float(np.max(np.abs(values))), 1e-300)
    entered = None
    if slides(phases.choices):
        entered = [np.asarray(a) for a in _entries(flat)(phases.y[first], modes, params)]
    for k, (weights, entering) in enumerate(_conditions(flat, phases.choices, sizes)):
        at = int(first[k]) * n2
        if len(weights):
            rows.put({at: weights @ slope[k]}, weights @ values[k], heavy)
        if entering and entered is not None:
            pace = heavy / phases.times[-1]
            rows.put({at: entered[1][k][entering]}, entered[0][k][entering], pace)


def newton(flat: Flat, theta: Theta, phases: Phases, most: int = 20) -> tuple[Phases, float]:
    """The candidate moved to where all equations hold, and the residual left (inf if it broke)."""
    n, n2 = flat.n, 2 * flat.n
    y, times = phases.y, phases.times
    big = np.max(np.abs(y), 0)
    scale = np.concatenate([np.full(n, 1 + big[:n].max()), np.full(n, max(big[n:].max(), 1e-12))])
    weight = np.concatenate([np.tile(scale, SEGMENTS + 1), np.full(len(times) - 2, times[-1])])
    modes = modes_of(flat, phases.choices, theta.params)
    now = shoot(flat, theta, phases, modes, scale)
    for _ in range(most):
        if not np.isfinite(now.size) or not np.all(np.isfinite(now.jacobian)):
            return phases._replace(times=times, y=y), np.inf
        if now.size < 1e-13:
            break
        step = -_least_squares(now.jacobian * weight, now.residual) * weight
        dt = np.concatenate([[0.0], step[(SEGMENTS + 1) * n2 :], [0.0]])
        gaps, moves = np.diff(times), np.diff(dt)
        shrinking = moves < 0
        share = min(1.0, float(np.min(-0.8 * gaps[shrinking] / moves[shrinking], initial=1.0)))
        dy = step[: (SEGMENTS + 1) * n2].reshape(y.shape)
        while True:
            there = phases._replace(times=times + share * dt, y=y + share * dy)
            new = shoot(flat, theta, there, modes, scale)
            if new.size < (1 - 0.1 * share) * now.size or share < 1e-3:
                break
            share /= 2
        if not new.size < now.size:
            break
        y, times, now = there.y, there.times, new
    return phases._replace(times=times, y=y), now.size


def _least_squares(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The solution where there is one equation for each unknown; else by damped normal equations,
    which is enough for Newton's method where the equations agree."""
    if matrix.shape[0] == matrix.shape[1]:
        try:
            found = np.linalg.solve(matrix, right)
            if np.linalg.norm(matrix @ found - right) <= 1e-8 * (1e-300 + np.linalg.norm(right)):
                return found
        except np.linalg.LinAlgError:
            pass
    normal = matrix.T @ matrix
    damping = 1e-14 * np.max(np.diag(normal))
    return np.linalg.solve(normal + damping * np.eye(len(normal)), matrix.T @ right)

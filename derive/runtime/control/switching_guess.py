"""Phases of a control that jumps, read off a smoothed problem.

The smoothed problem (`switching_law.smoothed`) is solved by collocation for a falling eps, each
solution the next one's guess.  Along a solution a group of controls rests at one of its choices
but for layers of width eps; where an interval between choices keeps its length as eps falls, the
control slides within a face.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.compiling import brief
from derive.runtime.control import between_nodes, mesh
from derive.runtime.control import continuation as follow
from derive.runtime.control.coordinates import SMALL, Flat
from derive.runtime.control.extremal_system import OVER_PROBLEMS, Theta, problem
from derive.runtime.control.switching_law import energies, force, groups_of, smoothed
from derive.runtime.control.switching_modes import Choice

INTERVALS, FINE = 96, 1200
LEAST, MOST_STEPS = 1e-7, 60


class Smooth(NamedTuple):
    """A solution of the smoothed problem: nodes (1, N + 1), y (1, N + 1, 2n), and eps."""

    eps: float
    nodes: np.ndarray
    y: np.ndarray


@lru_cache(maxsize=64)
def _resample(flat: Flat) -> Any:
    system = problem(flat)

    def run(theta: Theta, nodes: Any, y: Any, times: Any) -> Any:
        return between_nodes.interpolate(system, y, nodes, times, theta)

    return brief(jax.vmap(run, (OVER_PROBLEMS, 0, 0, 0)), flat.n <= SMALL)


def values_at(flat: Flat, theta: Theta, found: Smooth, times: np.ndarray) -> np.ndarray:
    """y (k, 2n) of a smoothed solution at `times` (k,)."""
    one = theta._replace(params=(theta.params, found.eps))
    padded = np.resize(times, FINE + 1)[None]  # one program for all numbers of times
    values = _resample(smoothed(flat))(one, found.nodes, found.y, padded)
    return np.asarray(values)[0, : len(times)]


@lru_cache(maxsize=64)
def _sizes(flat: Flat) -> Any:
    """By how much the choices of one group differ, at most, and |L| without control."""

    def run(z: Any, q: Any, params: Any) -> Any:
        s = force(flat, z, q, params)
        spans = [
            jnp.max(e) - jnp.min(e) for e in (energies(flat, g, s, params) for g in groups_of(flat))
        ]
        idle = jnp.abs(flat.running(z, jnp.zeros(flat.m, z.dtype), params))
        return jnp.max(jnp.stack([*spans, idle]))

    return brief(jax.vmap(run, (0, 0, None)), flat.n <= SMALL)


def first_eps(flat: Flat, theta: Theta, T: float) -> float:
    """Of the order of the costs: so large that the smoothed law is nearly linear."""
    z = np.concatenate([theta.z0, np.asarray(theta.zT)[None], theta.z0 + np.eye(flat.n)])
    q = np.zeros_like(z)
    sizes = np.asarray(_sizes(flat)(z, q, theta.params))
    end = np.asarray(jax.vmap(flat.terminal, (0, None))(jnp.asarray(z), theta.params)) / T
    both = np.concatenate([sizes, np.abs(end)])
    return float(2 * max(np.max(both[np.isfinite(both)], initial=0.0), 1e-6))


def descend(flat: Flat, theta: Theta, T: float, guess: np.ndarray) -> Iterator[Smooth]:
    """Solutions of the smoothed problem for a falling eps, from nodes `guess` (N + 1, 2n).

    Raises ValueError where even the first is not found.
    """
    soft = smoothed(flat)
    nodes = mesh.clustered(T, INTERVALS, 0.0, 1.0)[None]
    eps, shrink = first_eps(flat, theta, T), 0.3
    last = LEAST * eps
    found: Smooth | None = None
    y = guess[None]
    for _ in range(MOST_STEPS):
        there = theta._replace(params=(theta.params, eps))
        new = follow.newton(soft, there, nodes, y, 1e-6)
        if not follow._reached(new)[0] and found is None:
            rescued = follow._from_short(soft, there, nodes, y, 1e-6)
            new = new if rescued is None else rescued
        if not follow._reached(new)[0]:
            if found is None:
                follow.check_newton(new, T)
            if shrink > 0.9:
                return
            eps, shrink = eps / shrink * shrink**0.5, shrink**0.5
            continue
        found = Smooth(eps, nodes, new.y)
        yield found
        if eps <= last:
            return
        nodes = np.stack([mesh.redistributed(nodes[0], new.defect[0], INTERVALS, 5.0)])
        y = values_at(flat, theta, found, nodes[0])[None]
        eps *= shrink
        shrink = max(0.3, shrink**1.3)


class Reading(NamedTuple):
    """Per group, along a fine grid: the choice that weighs most, and the weights (k, choices)."""

    eps: float
    times: np.ndarray
    y: np.ndarray
    weights: list[np.ndarray]


@lru_cache(maxsize=64)
def _weights(flat: Flat) -> Any:
    n = flat.n

    def run(y: Any, params: Any, eps: Any) -> Any:
        s = force(flat, y[:n], y[n:], params)
        return [jax.nn.softmax(-energies(flat, g, s, params) / eps) for g in groups_of(flat)]

    return brief(jax.vmap(run, (0, None, None)), flat.n <= SMALL)


def read(flat: Flat, theta: Theta, found: Smooth) -> Reading:
    T = float(found.nodes[0, -1])
    times = np.linspace(0, T, FINE + 1)
    y = values_at(flat, theta, found, times)
    weights = [np.asarray(w) for w in _weights(flat)(y, theta.params, found.eps)]
    return Reading(found.eps, times, y, weights)


SURE, SHARE = 0.9, 0.02


def _undecided(weights: np.ndarray) -> list[tuple[int, int]]:
    """Intervals [a, b) of the grid on which no choice weighs more than `SURE`."""
    mixed = np.concatenate([[False], np.max(weights, 1) < SURE, [False]])
    edges = np.flatnonzero(np.diff(mixed.astype(int)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _lasting(now: np.ndarray, before: np.ndarray) -> list[tuple[int, int]]:
    """Undecided intervals that did not shrink since a larger eps: singular arcs."""
    out = []
    for a, b in _undecided(now):
        mid = (a + b) // 2
        old = [d - c for c, d in _undecided(before) if c <= mid < d]
        if b - a > 4 and old and b - a > 0.6 * old[0]:
            out.append((a, b))
    return out


def phases_of(now: Reading, before: Reading | None) -> tuple[tuple[Choice, ...], np.ndarray]:
    """Choices per phase and the times (phases + 1,) between them."""
    labels: list[list[tuple[int, ...]]] = []
    for k, weights in enumerate(now.weights):
        own: list[tuple[int, ...]] = [(int(i),) for i in np.argmax(weights, 1)]
        for a, b in _lasting(weights, before.weights[k]) if before is not None else []:
            mean = np.mean(weights[a:b], 0)
            face = tuple(int(i) for i in np.flatnonzero(mean > SHARE))
            own[a:b] = [face] * (b - a)
        labels.append(own)
    whole = list(zip(*labels, strict=True))
    cuts = [i for i in range(1, len(whole)) if whole[i] != whole[i - 1]]
    starts = [0, *cuts]
    times = [0.0, *((now.times[i] + now.times[i - 1]) / 2 for i in cuts), now.times[-1]]
    return tuple(whole[i] for i in starts), np.array(times)

"""Extremals of a smooth problem: guess, mesh, continuation, and what the solution reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.compiling import brief
from derive.runtime.common.inputs import times as save_times
from derive.runtime.common.progress import reporter
from derive.runtime.control import between_nodes, free_time, mesh
from derive.runtime.control import extremal_checks as checks
from derive.runtime.control.continuation import (
    Anchor,
    Solved,
    check_newton,
    newton,
    others,
    start,
)
from derive.runtime.control.coordinates import SMALL, Flat
from derive.runtime.control.extremal_system import (
    OVER_PROBLEMS,
    Theta,
    controls,
    problem,
    report,
)
from derive.runtime.control.results import Extremal, Residuals

# Long horizons leave this much rounding in the estimate: no mesh makes it smaller.
ROUNDING = 1e-10
ROUGH = 1e-3  # of Newton's last step on the first mesh
FEW = 12  # states up to which more than one first guess is tried even where the first is good


@lru_cache(maxsize=256)
def _resample(flat: Flat, N: int, K: int) -> Any:
    system = problem(flat)

    def run(theta: Theta, nodes: Any, y: Any, times: Any) -> Any:
        return between_nodes.interpolate(system, y, nodes, times, theta)

    return brief(jax.vmap(run, (OVER_PROBLEMS, 0, 0, 0)), flat.n <= SMALL)


@lru_cache(maxsize=256)
def _error(flat: Flat, N: int) -> Any:
    system = problem(flat)

    def run(theta: Theta, nodes: Any, y: Any) -> Any:
        return between_nodes.error(system, y, nodes, theta)

    return brief(jax.vmap(run, (OVER_PROBLEMS, 0, 0)), flat.n <= SMALL)


@lru_cache(maxsize=256)
def _kinks(flat: Flat, N: int, count: int = 12) -> Any:
    system = problem(flat)

    def run(theta: Theta, nodes: Any, y: Any) -> Any:
        return between_nodes.kinks(system, y, nodes, theta, count)

    return brief(jax.vmap(run, (OVER_PROBLEMS, 0, 0)), flat.n <= SMALL)


@lru_cache(maxsize=256)
def _report(flat: Flat, N: int) -> Any:
    """Cost and residuals of a solution."""
    return brief(jax.vmap(partial(report, flat), (OVER_PROBLEMS, 0, 0)), flat.n <= SMALL)


def solve(
    flat: Flat,
    z0: np.ndarray,
    params: Any,
    *,
    T: float,
    zT: np.ndarray | None,
    anchor: Anchor,
    saves: Any,
    tolerance: float,
    most: int,
    starts: int,
    seed: int,
    progress: Any,
) -> Extremal:
    """Extremals from each row of z0 (batch, n), on meshes refined until the defect is small."""
    say = reporter(progress, "extremal")
    theta = Theta(params, z0, z0[0] if zT is None else zT, anchor.v)
    N = mesh.rung(min(most, 48 if tolerance > 1e-6 else 64 if tolerance > 1e-10 else 128))
    nodes = np.broadcast_to(mesh.clustered(T, N, anchor.slow, anchor.fast), (len(z0), N + 1))
    begun, costs = _begun(flat, theta, nodes.copy(), anchor, zT, starts, seed)
    refusal: ValueError | None = None
    for rank, first in enumerate(begun):
        try:
            found = _finished(flat, theta, nodes.copy(), first, tolerance, most, saves, say)
        except ValueError as problem:
            refusal = refusal or problem
            continue
        worse = sorted(c for c in costs[rank + 1 :] if c > costs[rank])
        if worse:
            words = ", ".join(f"{c:.6g}" for c in worse)
            found = found._replace(notes=(*found.notes, f"other extremals found cost {words}"))
        return found
    assert refusal is not None
    raise refusal


def _begun(
    flat: Flat,
    theta: Theta,
    nodes: np.ndarray,
    anchor: Anchor,
    zT: Any,
    starts: int,
    seed: int,
) -> tuple[list[Solved], list[float]]:
    """Solutions on a first mesh, cheapest first, and their costs there.

    One comes from the anchor and by continuation; for a single problem others from lines to the
    end and random costates.  Raises ValueError where there is none.
    """
    y = np.broadcast_to(np.concatenate([anchor.z, anchor.q]), (*nodes.shape, 2 * flat.n)).copy()
    found: list[Solved] = []
    refusal: ValueError | None = None
    try:
        found.append(start(flat, theta, nodes, y, anchor, ROUGH))
    except ValueError as problem:
        refusal = problem
    if len(nodes) == 1 and (not found or flat.n <= FEW):
        guesses = [g[None] for g in lines(flat, theta.z0[0], zT, nodes[0], min(starts, 4), seed)]
        found += others(flat, theta, nodes, guesses, ROUGH)
    if not found:
        assert refusal is not None
        raise refusal
    if len(found) == 1:
        return found, [0.0]
    report_ = _report(flat, nodes.shape[1] - 1)
    costs = [float(np.asarray(report_(theta, nodes, f.y)[0])[0]) for f in found]
    order, kept = np.argsort(costs), list[int]()
    for k in order:
        if all(abs(costs[k] - costs[j]) > 1e-4 * (1 + abs(costs[j])) for j in kept):
            kept.append(int(k))
    return [found[k] for k in kept], [costs[k] for k in kept]


def lines(
    flat: Flat, z0: Any, zT: Any, nodes: np.ndarray, count: int, seed: int
) -> Iterator[np.ndarray]:
    """First guesses (N + 1, 2n): a straight line to the end, then bent ones, with costates."""
    share = (nodes / nodes[-1])[:, None]
    line = z0 + share * ((z0 if zT is None else zT) - z0)
    rng = np.random.default_rng(seed)
    for k in range(1 + count):
        q = (k > 0) * rng.standard_normal(flat.n)
        bend = (k > 0) * np.sin(np.pi * share) * rng.standard_normal(flat.n)
        if flat.free:
            bend = bend * ~np.array(flat.free)
        yield np.concatenate([line + bend, 0 * line + q], 1)


def _finished(
    flat: Flat,
    theta: Theta,
    nodes: np.ndarray,
    first: Solved,
    tolerance: float,
    most: int,
    saves: Any,
    say: Callable[[float], None],
) -> Extremal:
    """The solution on a mesh fine enough, checked."""
    T, end = float(nodes[0, -1]), theta.zT if flat.spec.fixed_end else None
    nodes, found, off = _refined(flat, theta, nodes, first, T, tolerance, most, say)
    N = nodes.shape[1] - 1
    if flat.spec.curved:
        _check_legendre(flat, N, theta, nodes, found.y)
    cost, (drift, slope, ends), moved = _report(flat, N)(theta, nodes, found.y)
    notes = checks.check(flat, problem(flat), theta, nodes, found.y, np.asarray(moved), tolerance)
    notes += _compared(flat, theta, nodes, found.y, np.asarray(cost), end)
    shown, y = nodes, found.y
    if saves is not None:
        shown = np.broadcast_to(save_times(saves, T), (len(nodes), len(save_times(saves, T))))
        y = _resample(flat, N, shown.shape[1])(theta, nodes, y, shown)
    say(1.0)
    return _extremal(
        flat,
        theta,
        shown,
        np.asarray(y),
        cost,
        Residuals(np.max(np.asarray(found.defect), 1), drift, slope, ends, found.residual, off),
    )._replace(notes=notes)


def _refined(
    flat: Flat,
    theta: Theta,
    nodes: np.ndarray,
    found: Solved,
    T: float,
    tolerance: float,
    most: int,
    say: Callable[[float], None],
) -> tuple[np.ndarray, Solved, np.ndarray]:
    """Meshes (batch, N + 1) fine enough, the solutions on them, and their errors (batch,)."""
    # Newton's error after a step is of the order of that step squared.
    inner = max(1e-2 * tolerance**0.5, 1e-8)
    worst, off = np.inf, np.full(len(nodes), np.inf)
    for round_ in range(14):
        N = nodes.shape[1] - 1
        worst = float(np.max(found.defect))
        say(min(0.9, 0.1 + 0.06 * round_))
        share = 1.0
        if worst <= tolerance and (round_ or float(np.max(found.step)) <= inner):
            off = np.asarray(_error(flat, N)(theta, nodes, found.y))
            if float(np.max(off)) <= max(tolerance, ROUNDING):
                return nodes, found, off
            share = 1.1 * float(np.max(off) / tolerance) ** (1 / 6)
        fresh = _better_nodes(flat, theta, nodes, found, round_, share, tolerance, most)
        if fresh is None:
            break
        y = np.asarray(_resample(flat, N, fresh.shape[1] - 1)(theta, nodes, found.y, fresh))
        nodes, found = fresh, newton(flat, theta, fresh, y, inner)
        check_newton(found, T)
    raise ValueError(
        f"the mesh was refined to {nodes.shape[1] - 1} intervals and the relative defect is still "
        f"{worst:.3g} (error {np.max(off):.3g}), above tolerance = {tolerance:g}; allow more "
        "(most_intervals), ask for less (tolerance), or look for kinks in dynamics or costs"
    )


def _better_nodes(
    flat: Flat,
    theta: Theta,
    nodes: np.ndarray,
    found: Solved,
    round_: int,
    share: float,
    tolerance: float,
    most: int,
) -> np.ndarray | None:
    """The next meshes, with nodes at the kinks found; None where `most` intervals are in use.

    `share`: by how much to refine where the defect is small but the error is not; else 1.
    """
    N, defects = nodes.shape[1] - 1, np.array(found.defect)
    bends: list[np.ndarray] = [np.zeros(0)] * len(nodes)
    if flat.bent or round_ > 2:
        bends = _bends(_kinks(flat, N)(theta, nodes, found.y), nodes, defects)
    moved = any(len(b) for b in bends)
    wanted = max(share * N if share > 1 else _wanted(d, tolerance) for d in defects)
    more = 1.2 * N if round_ and (not moved or round_ > 4) else 0
    new = mesh.rung(min(max(wanted, N, more), 4 * N))
    if new > most:
        new = mesh.rung(most)
        if new == N and not moved:
            return None
    each = zip(nodes, defects, bends, strict=True)
    return np.stack([mesh.with_nodes_at(mesh.redistributed(t, d, new, 5.0), b) for t, d, b in each])


def _compared(
    flat: Flat, theta: Theta, nodes: np.ndarray, y: Any, cost: np.ndarray, zT: Any
) -> tuple[str, ...]:
    """Notes on constant controls that cost less: none, the static one, the first one's mean."""
    if not flat.m:
        return ()
    first, n = np.asarray(y)[:, 0, : flat.n], flat.n
    v = np.asarray(controls(flat, theta, jnp.asarray(y[0])))
    h = np.diff(nodes[0])[:, None]
    mean = np.sum(h * (v[1:] + v[:-1]) / 2, 0) / nodes[0, -1]
    tried = {
        "no control": np.zeros(flat.m),
        "the static control": np.asarray(theta.v),
        "the mean of its own control": mean,
    }
    end = None if zT is None else np.asarray(zT)[:n]
    return checks.compared(flat, first, end, cost, tried, float(nodes[0, -1]), theta.params)


@lru_cache(maxsize=256)
def _curvature(flat: Flat, N: int) -> Any:
    """H_uu at every node of a solution."""
    n = flat.n

    def run(theta: Theta, y: Any) -> Any:
        def at(w: Any) -> Any:
            v = flat.law(w[:n], w[n:], theta.v, theta.params)
            return jax.jacfwd(flat.stationarity, 2)(w[:n], w[n:], v, theta.params)

        return jax.vmap(at)(y)

    return brief(jax.vmap(run, (OVER_PROBLEMS, 0)), flat.n <= SMALL)


def _check_legendre(flat: Flat, N: int, theta: Theta, nodes: np.ndarray, y: Any) -> None:
    """Raise where H_uu has a negative eigenvalue: such an extremal is no minimum."""
    bend = np.asarray(_curvature(flat, N)(theta, y))
    least = np.linalg.eigvalsh((bend + np.swapaxes(bend, -1, -2)) / 2)[..., 0]
    k, i = np.unravel_index(np.argmin(least), least.shape)
    if not least[k, i] > -1e-9 * max(1.0, float(np.abs(bend).max())):
        raise ValueError(
            f"the extremal found is no minimum: at t = {nodes[k, i]:.4g} H_uu has the eigenvalue "
            f"{least[k, i]:.4g} (Legendre's condition); pass near=turnpike(...) with x_guess or "
            "more starts, or price the control so that H is convex in it"
        )


@lru_cache(maxsize=256)
def _unpacked(flat: Flat) -> Any:
    def run(theta: Theta, y: Any) -> tuple[Any, Any, Any]:
        v = controls(flat, theta, y)
        n = flat.n
        return (
            jax.vmap(flat.point)(y[:, :n]),
            jax.vmap(flat.costate)(y[:, n:]),
            jax.vmap(flat.control)(v),
        )

    return brief(jax.vmap(run, (OVER_PROBLEMS, 0)), flat.n <= SMALL)


def _extremal(
    flat: Flat, theta: Theta, times: np.ndarray, y: np.ndarray, cost: Any, residuals: Residuals
) -> Extremal:
    x, p, u = jax.tree.map(np.asarray, _unpacked(flat)(theta, y))
    residuals = Residuals(*(np.asarray(r) for r in residuals))
    return Extremal(
        np.array(times) * free_time.lengths(flat, y), x, p, u, np.asarray(cost), residuals
    )


def first(found: Extremal) -> Extremal:
    """The only member of a batch of one."""
    arrays = jax.tree.map(lambda a: np.asarray(a)[0], found._replace(stop=None, notes=()))
    stop = None if found.stop is None else np.asarray(found.stop)[0]
    return arrays._replace(stop=stop, notes=found.notes)


def _wanted(defect: Any, tolerance: float) -> float:
    """Intervals of an evenly shared mesh that meet the tolerance (the defect goes like h^5)."""
    return 1.25 * float(np.sum((np.asarray(defect) / tolerance) ** 0.2))


def _bends(found: Any, nodes: np.ndarray, defects: np.ndarray) -> list[np.ndarray]:
    """Times of the kinks off the mesh, per problem; their intervals lose their defect in place.

    An interval with a kink inside needs a node there, not a finer mesh.
    """
    out = []
    for times, where, jump, t, d in zip(
        *(np.asarray(f) for f in found), nodes, defects, strict=True
    ):
        h = np.diff(t)
        real = jump > 1e-6
        times, where = times[real], where[real]
        inside = np.minimum(times - t[where], t[where + 1] - times) > 1e-7 * h[where]
        rest = np.delete(d, where[inside])
        for k in where[inside]:
            near = [d[j] for j in (k - 1, k + 1) if 0 <= j < len(d) and j not in where[inside]]
            d[k] = min(d[k], max(near, default=float(np.max(rest, initial=0.0))))
        out.append(np.sort(times))
    return out

"""Extremals of a smooth problem: guess, mesh, continuation, and what the solution reports."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.inputs import times as save_times
from derive.runtime.common.progress import reporter
from derive.runtime.control import boundary_value as bvp
from derive.runtime.control import extremal_checks as checks
from derive.runtime.control import mesh
from derive.runtime.control.coordinates import Flat, tangent
from derive.runtime.control.results import Extremal, Residuals

# Long horizons leave this much rounding in the estimate: no mesh makes it smaller.
ROUNDING = 1e-10


class Anchor(NamedTuple):
    """Where the first guess rests: state z, costate q, control v; slowest and fastest rate."""

    z: np.ndarray
    q: np.ndarray
    v: np.ndarray
    slow: float
    fast: float


class Theta(NamedTuple):
    """What a boundary value problem depends on: parameters, first and last state, control guess.

    `ease`: the share of the control that ignores bounds and norms, in an eased problem.
    """

    params: Any
    z0: Any
    zT: Any
    v: Any
    ease: Any = None


def rates_of(rates: Any) -> tuple[float, float]:
    """The slowest and the fastest rate, guarded against none and against zero."""
    rates = np.asarray(rates, float)
    rates = rates[np.isfinite(rates) & (rates > 1e-3)]
    return (float(rates.min()), float(rates.max())) if len(rates) else (0.0, 1.0)


@lru_cache(maxsize=64)
def problem(flat: Flat, eased: bool = False) -> bvp.Problem:
    """The first-order system of `flat`, the control eliminated; `eased`: only partly bounded."""
    n = flat.n

    @jax.jit  # traced once, however often the scheme calls it
    def field(y: Any, theta: Theta) -> Any:
        z, q = y[:n], y[n:]
        v = flat.law(z, q, theta.v, theta.params)
        if eased:
            v = v + theta.ease * (flat.free_law(z, q, theta.v, theta.params) - v)
        return jnp.concatenate(
            [flat.rate(z, v, theta.params), flat.costate_rate(z, q, v, theta.params)]
        )

    def end(y: Any, theta: Theta) -> Any:
        z, q = y[:n], y[n:]
        if not flat.spec.fixed_end:
            return q - flat.terminal_rate(z, theta.params)
        # On a sphere the radial part of z is conserved: there, x . p = 0 takes its place.
        gap = tangent(flat, theta.zT, z - theta.zT)
        return gap + q - tangent(flat, theta.zT, q) if flat.sphere else gap

    return bvp.Problem(field, lambda theta: theta.z0, end, n, flat.spec.fixed_end, flat.free)


class Solved(NamedTuple):
    y: Any
    residual: Any
    step: Any
    iterations: Any
    defect: Any


@lru_cache(maxsize=256)
def _solver(flat: Flat, N: int, tolerance: float, most: int, eased: bool = False) -> Any:
    """Newton on a mesh of N intervals, mapped over first states, meshes and guesses."""
    system = problem(flat, eased)

    def run(theta: Theta, nodes: Any, y: Any) -> Solved:
        found = bvp.solve(system, y, nodes, theta, tolerance=tolerance, most=most)
        return Solved(*found, bvp.defect(system, found.y, nodes, theta))

    return jax.jit(jax.vmap(run, (Theta(None, 0, None, None), 0, 0)))


@lru_cache(maxsize=256)
def _resample(flat: Flat, N: int, K: int) -> Any:
    system = problem(flat)

    def run(theta: Theta, nodes: Any, y: Any, times: Any) -> Any:
        return bvp.interpolate(system, y, nodes, times, theta)

    return jax.jit(jax.vmap(run, (Theta(None, 0, None, None), 0, 0, 0)))


@lru_cache(maxsize=256)
def _error(flat: Flat, N: int) -> Any:
    system = problem(flat)

    def run(theta: Theta, nodes: Any, y: Any) -> Any:
        return bvp.error(system, y, nodes, theta)

    return jax.jit(jax.vmap(run, (Theta(None, 0, None, None), 0, 0)))


@lru_cache(maxsize=256)
def _kinks(flat: Flat, N: int, count: int = 12) -> Any:
    system = problem(flat)

    def run(theta: Theta, nodes: Any, y: Any) -> Any:
        return bvp.kinks(system, y, nodes, theta, count)

    return jax.jit(jax.vmap(run, (Theta(None, 0, None, None), 0, 0)))


@lru_cache(maxsize=256)
def _report(flat: Flat, N: int) -> Any:
    """Cost and residuals of a solution."""

    def run(theta: Theta, nodes: Any, y: Any) -> tuple[Any, Any, Any]:
        return report(flat, theta, nodes, y)

    return jax.jit(jax.vmap(run, (Theta(None, 0, None, None), 0, 0)))


def controls(flat: Flat, theta: Theta, y: Any) -> Any:
    """The minimiser of H at each of y (k, 2n): (k, m)."""
    n = flat.n
    return jax.vmap(lambda w: flat.law(w[:n], w[n:], theta.v, theta.params))(y)


def cost_of(flat: Flat, theta: Theta, nodes: Any, y: Any) -> Any:
    n, params = flat.n, theta.params
    rho = 0.0 if flat.spec.discount is None else flat.spec.discount(params)

    def running(t: Any, w: Any, theta: Theta) -> Any:
        v = flat.law(w[:n], w[n:], theta.v, theta.params)
        return jnp.exp(-rho * t) * flat.running(w[:n], v, theta.params)

    total = bvp.integral(running, problem(flat), y, nodes, theta)
    return total + jnp.exp(-rho * nodes[-1]) * flat.terminal(y[-1, :n], params)


def report(flat: Flat, theta: Theta, nodes: Any, y: Any) -> tuple[Any, Any, Any]:
    """The cost, (hamiltonian, stationarity, boundary) residuals, and the relative drift of H."""
    n, params, system = flat.n, theta.params, problem(flat)
    v = controls(flat, theta, y)
    H = jax.vmap(flat.hamiltonian, (0, 0, 0, None))(y[:, :n], y[:, n:], v, params)
    if flat.bent:
        slope = jax.vmap(lambda w, v: v - flat.law(w[:n], w[n:], theta.v, params))(y, v)
    else:
        slope = jax.vmap(flat.stationarity, (0, 0, 0, None))(y[:, :n], y[:, n:], v, params)
    first = y[0, :n] - theta.z0
    if flat.free:
        first = jnp.where(np.array(flat.free), y[0, n:], first)
    ends = jnp.concatenate([first, system.end(y[-1], theta)])
    if flat.spec.discount is not None:  # H - rho int p.x' dt is conserved in place of H
        H = H - _discounted(flat, theta, nodes, y)
    drift = jnp.max(jnp.abs(H - H[0]))
    # what an error of size one in 1 + |y| makes of H, since dH = z'.dq - q'.dz
    g = jnp.abs(jax.vmap(system.field, (0, None))(y, theta))
    size = jnp.max(jnp.sum(g[:, n:] * (1 + jnp.abs(y[:, :n])), 1))
    size = 1 + size + jnp.max(jnp.sum(g[:, :n] * (1 + jnp.abs(y[:, n:])), 1))
    slopes = jnp.max(jnp.abs(slope), initial=0.0)
    largest = (drift, slopes, jnp.max(jnp.abs(ends)))
    return cost_of(flat, theta, nodes, y), largest, drift / size


def _discounted(flat: Flat, theta: Theta, nodes: Any, y: Any) -> Any:
    """rho times the integral of p . x' up to each node (N + 1,)."""
    n, h = flat.n, jnp.diff(nodes)
    Y, g = bvp.stages(problem(flat), y, h, theta)
    assert flat.spec.discount is not None
    work = jnp.sum(Y[..., n:] * g[..., :n], -1)
    parts = h * jnp.tensordot(bvp.WEIGHTS, work, 1) * flat.spec.discount(theta.params)
    return jnp.concatenate([jnp.zeros(1, y.dtype), jnp.cumsum(parts)])


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
    progress: Any,
) -> Extremal:
    """Extremals from each row of z0 (batch, n), on meshes refined until the defect is small."""
    say = reporter(progress, "extremal")
    theta = Theta(params, z0, z0[0] if zT is None else zT, anchor.v)
    N = mesh.rung(min(most, 48 if tolerance > 1e-6 else 64 if tolerance > 1e-10 else 128))
    base = mesh.clustered(T, N, anchor.slow, anchor.fast)
    nodes = np.broadcast_to(base, (len(z0), N + 1)).copy()
    y = np.broadcast_to(np.concatenate([anchor.z, anchor.q]), (len(z0), N + 1, 2 * flat.n)).copy()
    # Newton's error after a step is of the order of that step squared.
    rough, inner = 1e-3, max(1e-2 * tolerance**0.5, 1e-8)
    found = _start(flat, theta, nodes, y, anchor, rough)
    worst, off, bent = np.inf, np.full(len(z0), np.inf), flat.bent
    for round_ in range(14):
        worst = float(np.max(found.defect))
        say(min(0.9, 0.1 + 0.06 * round_))
        share = 1.0
        if worst <= tolerance and (round_ or float(np.max(found.step)) <= inner):
            off = np.asarray(_error(flat, N)(theta, nodes, found.y))
            if float(np.max(off)) <= max(tolerance, ROUNDING):
                break
            share = 1.1 * float(np.max(off) / tolerance) ** (1 / 6)
        defects = np.array(found.defect)
        bends: list[np.ndarray] = [np.zeros(0)] * len(z0)
        if bent or round_ > 2:
            bends = _bends(_kinks(flat, N)(theta, nodes, found.y), nodes, defects)
        moved = any(len(b) for b in bends)
        wanted = max(share * N if share > 1 else _wanted(d, tolerance) for d in defects)
        new = mesh.rung(
            min(max(wanted, N, 1.2 * N if round_ and (not moved or round_ > 4) else 0), 4 * N)
        )
        if new > most:
            new = mesh.rung(most)
            if new == N and not moved:
                break
        fresh = np.stack(
            [
                mesh.with_nodes_at(mesh.redistributed(t, d, new, 5.0), b)
                for t, d, b in zip(nodes, defects, bends, strict=True)
            ]
        )
        y = np.asarray(_resample(flat, N, new)(theta, nodes, found.y, fresh))
        nodes, N = fresh, new
        found = _newton(flat, theta, nodes, y, inner)
        _check_newton(found, T)
    if not (worst <= tolerance and float(np.max(off)) <= max(tolerance, ROUNDING)):
        raise ValueError(
            f"the mesh was refined to {N} intervals and the relative defect is still {worst:.3g} "
            f"(error {np.max(off):.3g}), above tolerance = {tolerance:g}; allow more "
            "(most_intervals), ask for less (tolerance), or look for kinks in dynamics or costs"
        )
    if flat.spec.curved:
        _check_legendre(flat, N, theta, nodes, found.y)
    cost, (drift, slope, ends), moved = _report(flat, N)(theta, nodes, found.y)
    notes = checks.check(flat, problem(flat), theta, nodes, found.y, np.asarray(moved), tolerance)
    notes += _compared(flat, theta, nodes, found.y, np.asarray(cost), zT)
    shown, y = nodes, found.y
    if saves is not None:
        shown = np.broadcast_to(save_times(saves, T), (len(z0), len(save_times(saves, T))))
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

    return jax.jit(jax.vmap(run, (Theta(None, 0, None, None), 0)))


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

    return jax.jit(jax.vmap(run, (Theta(None, 0, None, None), 0)))


def _extremal(
    flat: Flat, theta: Theta, times: np.ndarray, y: np.ndarray, cost: Any, residuals: Residuals
) -> Extremal:
    x, p, u = jax.tree.map(np.asarray, _unpacked(flat)(theta, y))
    residuals = Residuals(*(np.asarray(r) for r in residuals))
    return Extremal(np.array(times), x, p, u, np.asarray(cost), residuals)


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


# Newton, and what to do when it fails


def _newton(
    flat: Flat, theta: Theta, nodes: np.ndarray, y: np.ndarray, inner: float, most: int = 40
) -> Solved:
    N = nodes.shape[1] - 1
    return jax.tree.map(np.asarray, _solver(flat, N, inner, most)(theta, nodes, y))


def _reached(found: Solved) -> np.ndarray:
    # A residual at rounding level counts as reached even if the last step was cut short.
    size = 1 + np.max(np.abs(found.y), (1, 2))
    near = (found.step < 2e-3) | (found.residual < 1e-9 * size)
    return near & np.isfinite(found.residual)


def _start(
    flat: Flat,
    theta: Theta,
    nodes: np.ndarray,
    y: np.ndarray,
    anchor: Anchor,
    inner: float,
) -> Solved:
    """Newton from the turnpike; those that fail are led there from easier problems."""
    found = _newton(flat, theta, nodes, y, inner)
    failed = np.flatnonzero(~_reached(found))
    if len(failed) and flat.spec.fixed_end:
        _check_reach(flat, theta.params, anchor)
    for k in map(int, failed):
        one = theta._replace(z0=theta.z0[k : k + 1])
        rescued = _from_near(flat, one, nodes[k : k + 1], y[k : k + 1], anchor, inner)
        if rescued is None and flat.bent:
            rescued = _from_free(flat, one, nodes[k : k + 1], y[k : k + 1], inner)
        if rescued is None and flat.bent and flat.spec.fixed_end:
            _check_within(flat, one, nodes[k : k + 1], y[k : k + 1], inner)
        if rescued is None:
            rescued = _from_short(flat, one, nodes[k : k + 1], y[k : k + 1], inner)
        if rescued is not None:
            found = Solved(*(_put(a, k, b) for a, b in zip(found, rescued, strict=True)))
    _check_newton(found, float(nodes[0, -1]))
    return found


def _check_reach(flat: Flat, params: Any, anchor: Anchor) -> None:
    """Raise if the controls, linearised where the guess rests, do not move every direction."""
    z, v = jnp.asarray(anchor.z), jnp.asarray(anchor.v)
    A, B = (np.asarray(j) for j in jax.jacfwd(flat.rate, (0, 1))(z, v, params))
    columns = [B]
    for _ in range(flat.n - 1):
        columns.append(A @ columns[-1] / max(1.0, float(np.linalg.norm(A, 2))))
    rank = int(np.linalg.matrix_rank(np.concatenate(columns, 1), tol=1e-9))
    free = flat.n - sum(rows.count for rows in flat.sphere)
    if rank < free:
        raise ValueError(
            f"the fixed end looks infeasible: at {np.array2string(anchor.z, precision=4)} the "
            f"controls reach {rank} of {free} directions, and Newton's method found no extremal to "
            "x_end; add a control, or use a free end with a terminal cost"
        )


def _put(whole: np.ndarray, k: int, part: np.ndarray) -> np.ndarray:
    out = np.array(whole)
    out[k] = part[0]
    return out


def _check_newton(found: Solved, T: float) -> None:
    bad = np.flatnonzero(~_reached(found))
    if len(bad):
        k = bad[0]
        which = "" if len(found.y) == 1 else f" for x0[{k}] (and {len(bad) - 1} others)"
        raise ValueError(
            f"Newton's method failed{which} on T = {T:g}: residual {found.residual[k]:.3g} after "
            f"{found.iterations[k]} steps, last step {found.step[k]:.3g}, also by continuation "
            "from the turnpike and in T; try an x0 nearer to the turnpike, a shorter T first, "
            "near=turnpike(...) with more starts, or (fixed end) an end the controls can reach"
        )


def _from_near(
    flat: Flat, theta: Theta, nodes: np.ndarray, y: np.ndarray, anchor: Anchor, inner: float
) -> Solved | None:
    """Continuation in the first state, from the turnpike outwards."""
    target, share, stride = theta.z0, 0.0, 0.25
    while share < 1 and stride > 1e-3:
        trial = min(1.0, share + stride)
        at = _normalised(flat, anchor.z + trial * (target - anchor.z))
        found = _newton(flat, theta._replace(z0=target if trial == 1 else at), nodes, y, inner)
        if _reached(found)[0]:
            y, share, stride = found.y, trial, 1.5 * stride
            if share == 1:
                return found
        else:
            stride /= 2
    return None


def _normalised(flat: Flat, z: np.ndarray) -> np.ndarray:
    out = np.array(z)
    for rows in flat.sphere:
        span = slice(rows.first, rows.first + rows.count * rows.size)
        part = out[..., span].reshape(*out.shape[:-1], rows.count, rows.size)
        part = part / np.linalg.norm(part, axis=-1, keepdims=True)
        out[..., span] = part.reshape(*out.shape[:-1], -1)
    return out


def _from_free(
    flat: Flat, theta: Theta, nodes: np.ndarray, y: np.ndarray, inner: float
) -> Solved | None:
    """Continuation from the control that ignores bounds and norms, to the one that heeds them.

    A saturated control hides the costate: Newton's matrix is singular where all are saturated.
    """
    N = nodes.shape[1] - 1
    eased = _solver(flat, N, inner, 40, True)
    ease, shrink, found = 1.0, 0.4, None
    while ease > 1e-6:
        there = theta._replace(ease=np.asarray(ease))
        found = jax.tree.map(np.asarray, eased(there, nodes, y))
        if not _reached(found)[0]:
            if ease == 1.0 or shrink > 0.9:
                return None
            ease, shrink = ease / shrink * shrink**0.5, shrink**0.5
            continue
        y = found.y
        if ease < 0.05:
            last = _newton(flat, theta, nodes, y, inner)
            if _reached(last)[0]:
                return last
        ease *= shrink
    return None


def _check_within(flat: Flat, theta: Theta, nodes: np.ndarray, y: np.ndarray, inner: float) -> None:
    """Raise if the fixed end is reached by the free control, but was not within the bounds."""
    eased = _solver(flat, nodes.shape[1] - 1, inner, 40, True)
    found = jax.tree.map(np.asarray, eased(theta._replace(ease=np.asarray(1.0)), nodes, y))
    if _reached(found)[0]:
        raise ValueError(
            f"x_end was not reached in T = {nodes[0, -1]:g} within the bounds of the control: "
            "without the bounds there is an extremal, and continuation towards them broke off; "
            "x_end may be out of reach: try a longer T, wider bounds or a nearer x_end"
        )


def _from_short(
    flat: Flat, theta: Theta, nodes: np.ndarray, y: np.ndarray, inner: float
) -> Solved | None:
    """Continuation in the horizon, from a short one (where p hardly differs from its end)."""
    y = y.copy()
    y[..., : flat.n] = theta.z0[:, None]
    y[..., flat.n :] = 0
    share, growth = 2.0**-8, 2.0
    found = None
    while growth > 1.02:
        trial = min(share, 1.0)
        found = _newton(flat, theta, trial * nodes, y, inner)
        if _reached(found)[0]:
            y = found.y
            if trial == 1:
                return found
            share = trial * growth
        else:
            share, growth = trial / growth * growth**0.5, growth**0.5
    return None


# the solution as a function


def differentiable(flat: Flat, found: Extremal, zT: Any, tolerance: float) -> Callable[..., Any]:
    """(x0, params) -> (x, p, u, cost) on the mesh of `found`; see `solution_map`."""
    system = problem(flat)
    nodes = jnp.asarray(found.times)
    z = jax.vmap(flat.pack_x)(found.x)
    q = jax.vmap(lambda p: flat.pack_x(flat.spec.state(*p)))(found.p)
    y = jnp.concatenate([z, q], 1)
    v = flat.pack_u(jax.tree.map(lambda a: a[len(a) // 2], found.u))
    last = y[-1, : flat.n] if zT is None else jnp.asarray(zT)

    def value(x0: Any, params: Any) -> tuple[Any, Any, Any, Any]:
        params = jax.tree.map(jnp.asarray, params)
        z0 = flat.pack_x(flat.spec.state(*x0) if isinstance(x0, tuple) else flat.spec.state(x0))
        theta = Theta(params, z0, last, v)
        solved = bvp.solve(system, y, nodes, theta, tolerance=max(1e-2 * tolerance**0.5, 1e-8))
        n = flat.n
        x = jax.vmap(flat.point)(solved.y[:, :n])
        p = jax.vmap(flat.costate)(solved.y[:, n:])
        u = jax.vmap(flat.control)(controls(flat, theta, solved.y))
        return x, p, u, cost_of(flat, theta, nodes, solved.y)

    return value

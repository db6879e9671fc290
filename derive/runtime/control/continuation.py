"""Newton's method for extremals; where it fails, continuation from easier problems."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.compiling import brief
from derive.runtime.control import between_nodes
from derive.runtime.control import boundary_value as bvp
from derive.runtime.control.coordinates import SMALL, Flat
from derive.runtime.control.extremal_system import OVER_PROBLEMS, Theta, problem


class Anchor(NamedTuple):
    """Where the first guess rests: state z, costate q, control v; slowest and fastest rate."""

    z: np.ndarray
    q: np.ndarray
    v: np.ndarray
    slow: float
    fast: float


def rates_of(rates: Any) -> tuple[float, float]:
    """The slowest and the fastest rate, guarded against none and against zero."""
    rates = np.asarray(rates, float)
    rates = rates[np.isfinite(rates) & (rates > 1e-3)]
    return (float(rates.min()), float(rates.max())) if len(rates) else (0.0, 1.0)


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
        return Solved(*found, between_nodes.defect(system, found.y, nodes, theta))

    return brief(jax.vmap(run, (OVER_PROBLEMS, 0, 0)), flat.n <= SMALL)


def newton(
    flat: Flat, theta: Theta, nodes: np.ndarray, y: np.ndarray, inner: float, most: int = 40
) -> Solved:
    N = nodes.shape[1] - 1
    return jax.tree.map(np.asarray, _solver(flat, N, inner, most)(theta, nodes, y))


def _reached(found: Solved) -> np.ndarray:
    # A residual at rounding level counts as reached even if the last step was cut short.
    size = 1 + np.max(np.abs(found.y), (1, 2))
    near = (found.step < 2e-3) | (found.residual < 1e-9 * size)
    return near & np.isfinite(found.residual)


def start(
    flat: Flat,
    theta: Theta,
    nodes: np.ndarray,
    y: np.ndarray,
    anchor: Anchor,
    inner: float,
) -> Solved:
    """Newton from the turnpike; those that fail are led there from easier problems."""
    found = newton(flat, theta, nodes, y, inner)
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
    check_newton(found, float(nodes[0, -1]))
    return found


def others(
    flat: Flat, theta: Theta, nodes: np.ndarray, guesses: list[np.ndarray], inner: float
) -> list[Solved]:
    """What other first guesses (1, N + 1, 2n) of one problem lead to, by Newton's method and, where
    the law is bent, from the control that ignores bounds and norms."""
    out = []
    for guess in guesses:
        found: Solved | None = newton(flat, theta, nodes, guess, inner)
        assert found is not None
        if not _reached(found)[0]:
            found = _from_free(flat, theta, nodes, guess, inner) if flat.bent else None
        if found is not None:
            out.append(found)
    return out


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


def check_newton(found: Solved, T: float) -> None:
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
        found = newton(flat, theta._replace(z0=target if trial == 1 else at), nodes, y, inner)
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
            last = newton(flat, theta, nodes, y, inner)
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
        found = newton(flat, theta, trial * nodes, y, inner)
        if _reached(found)[0]:
            y = found.y
            if trial == 1:
                return found
            share = trial * growth
        else:
            share, growth = trial / growth * growth**0.5, growth**0.5
    return None

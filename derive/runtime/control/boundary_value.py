"""Two-point problems of long horizons: collocation of order six, Newton, a stable block sweep.

y = (z, q) follows y' = g(y), with z(0) given and either q(T) = phi_z(z(T)) or z(T) given.  On an
interval the mono-implicit scheme with the five Lobatto points reads
    y_b - y_a - h sum_r b_r g(Y_r) = 0,   Y_r = (1 - v_r) y_a + v_r y_b + h sum_s X_rs g(Y_s),
with stages that are explicit in the two end values; it is of order six
(J. R. Cash, A. Singhal, SIAM J. Numer. Anal. 19 (1982); W. H. Enright, P. H. Muir, SIAM J. Sci.
Comput. 17 (1996)).  Newton's linear systems are block bidiagonal.  They are solved by a Riccati
recursion for dq = E dz + e (free end, backwards) or dz = Y dq + y (fixed end, forwards): what is
carried over the mesh stays bounded on any horizon, while a product of transfer matrices would grow
like exp(nu T).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common import small_matrices

_R = float(np.sqrt(21.0))
POINTS = np.array([0.0, 1.0, 0.5 - _R / 14, 0.5 + _R / 14, 0.5])
WEIGHTS = np.array([1 / 20, 1 / 20, 49 / 180, 49 / 180, 16 / 45])
_V3, _V4 = 0.5 - 9 * _R / 98, 0.5 + 9 * _R / 98
_X31, _X32 = 1 / 14 + _R / 98, -1 / 14 + _R / 98
_X41, _X42 = 1 / 14 - _R / 98, -1 / 14 - _R / 98
_X51, _X53 = -5 / 128, 7 * _R / 128  # the other two are their negatives


class Problem(NamedTuple):
    """`field(y, theta)` (2n,), `end(y_T, theta)` (n,), `start(theta)` (n,); `fixed`: z(T) given.

    `free`: the entries of z whose first value is not given; there q(0) = 0 takes its place.
    """

    field: Callable[..., Any]
    start: Callable[..., Any]
    end: Callable[..., Any]
    n: int
    fixed: bool
    free: tuple[bool, ...] = ()


class Newton(NamedTuple):
    """Nodes y (N + 1, 2n), residual norm reached, relative size of the last step, iterations."""

    y: Any
    residual: Any
    step: Any
    iterations: Any


class Blocks(NamedTuple):
    """Jacobian: intervals C dy_a + D dy_b (N, 2n, 2n), end condition `last` dy_T (n, 2n)."""

    C: Any
    D: Any
    last: Any


def apply(field: Callable[..., Any], y: Any, theta: Any) -> Any:
    return jax.vmap(field, (0, None))(y, theta)


def stages(problem: Problem, y: Any, h: Any, theta: Any) -> tuple[Any, Any]:
    """Values Y and rates g(Y) of the five points of each interval, both (5, N, 2n)."""
    k = h[:, None]
    g = apply(problem.field, y, theta)
    a, b, ga, gb = y[:-1], y[1:], g[:-1], g[1:]
    Y3 = (1 - _V3) * a + _V3 * b + k * (_X31 * ga + _X32 * gb)
    Y4 = (1 - _V4) * a + _V4 * b + k * (_X41 * ga + _X42 * gb)
    g34 = apply(problem.field, jnp.concatenate([Y3, Y4]), theta)
    g3, g4 = g34[: len(h)], g34[len(h) :]
    Y5 = (a + b) / 2 + k * (_X51 * (ga - gb) + _X53 * (g3 - g4))
    g5 = apply(problem.field, Y5, theta)
    return jnp.stack([a, b, Y3, Y4, Y5]), jnp.stack([ga, gb, g3, g4, g5])


def equations(problem: Problem, y: Any, h: Any, theta: Any) -> tuple[Any, Any, Any]:
    """Residuals: start (n,), intervals (N, 2n), end (n,)."""
    _, g = stages(problem, y, h, theta)
    inner = y[1:] - y[:-1] - h[:, None] * jnp.tensordot(WEIGHTS, g, 1)
    return first_residual(problem, y, theta), inner, problem.end(y[-1], theta)


def first_residual(problem: Problem, y: Any, theta: Any) -> Any:
    """What the first node misses of the given start, or of q(0) = 0 where z(0) is free."""
    first = y[0, : problem.n] - problem.start(theta)
    return jnp.where(np.array(problem.free), y[0, problem.n :], first) if problem.free else first


def _times(left: Any, right: Any) -> Any:
    """Products of small matrices (N, a, b) @ (N, b, c); written out, they fuse."""
    if left.shape[2] > 16:
        return left @ right
    return sum(left[:, :, i, None] * right[:, None, i] for i in range(left.shape[2]))


def blocks(problem: Problem, y: Any, h: Any, theta: Any) -> Blocks:
    """The Jacobian of `equations`, by the chain rule through the explicit stages."""
    Y, _ = stages(problem, y, h, theta)
    N, n2 = len(h), y.shape[1]
    points = jnp.concatenate([y, Y[2], Y[3], Y[4]])
    J = jax.vmap(jax.jacfwd(problem.field), (0, None))(points, theta)
    Ja, Jb, J3, J4, J5 = J[:N], J[1 : N + 1], *jnp.split(J[N + 1 :], 3)
    k, unit = h[:, None, None], jnp.eye(n2)
    # Products of all pairs in one go: small batched products cost more in calls than in sums.
    pairs = _times(jnp.concatenate([J3, J4], 1), jnp.concatenate([k * Ja, k * Jb], 2))
    a3 = (1 - _V3) * J3 + _X31 * pairs[:, :n2, :n2]
    b3 = _V3 * J3 + _X32 * pairs[:, :n2, n2:]
    a4 = (1 - _V4) * J4 + _X41 * pairs[:, n2:, :n2]
    b4 = _V4 * J4 + _X42 * pairs[:, n2:, n2:]
    inside = jnp.concatenate([_X51 * Ja + _X53 * (a3 - a4), -_X51 * Jb + _X53 * (b3 - b4)], 2)
    both = _times(J5, k * inside)
    a5, b5 = J5 / 2 + both[:, :, :n2], J5 / 2 + both[:, :, n2:]
    w = WEIGHTS
    C = -unit - k * (w[0] * Ja + w[2] * a3 + w[3] * a4 + w[4] * a5)
    D = unit - k * (w[1] * Jb + w[2] * b3 + w[3] * b4 + w[4] * b5)
    return Blocks(C, D, jax.jacfwd(problem.end)(y[-1], theta))


def sweep(
    problem: Problem, at: Blocks, first: Any, inner: Any, last: Any, *, split: bool = False
) -> Any:
    """dy (N + 1, 2n) with dz_0 = first, C dy_a + D dy_b = inner, at.last dy_T = last.

    `split`: keep what is linear in the right-hand sides apart from the matrices, so that JAX can
    transpose it; a little slower.
    """
    solved = _split if split else _joint
    if problem.fixed:
        # where z(0) is free, q(0) is given: the two change places
        order = np.arange(2 * problem.n).reshape(2, problem.n)
        if problem.free:
            order = np.where(np.array(problem.free), order[::-1], order)
        own = order.ravel()
        turned = Blocks(at.C[:, :, own], at.D[:, :, own], at.last[:, own])
        return _sweep_forwards(problem.n, turned, first, inner, last, solved)[:, own]
    return _sweep_backwards(problem.n, at, first, inner, last, solved, problem.free)


def _joint(matrix: Any, columns: Any, vector: Any) -> tuple[Any, Any]:
    out = small_matrices.solve(matrix, jnp.concatenate([columns, vector[:, None]], 1))
    return out[:, :-1], out[:, -1]


def _split(matrix: Any, columns: Any, vector: Any) -> tuple[Any, Any]:
    factors = small_matrices.factored(matrix)
    solved = small_matrices.solve_factored(factors, columns)
    return solved, small_matrices.solve_factored(factors, vector)


def _sweep_backwards(
    n: int,
    at: Blocks,
    first: Any,
    inner: Any,
    last: Any,
    solved: Callable[..., Any],
    free: tuple[bool, ...],
) -> Any:
    E_end, e_end = solved(at.last[:, n:], -at.last[:, :n], last)

    def back(carry: tuple[Any, Any], block: tuple[Any, Any, Any]) -> tuple[Any, Any]:
        E, e = carry
        C, D, r = block
        matrix = jnp.concatenate([C[:, n:], D[:, :n] + D[:, n:] @ E], 1)
        columns, vector = solved(matrix, -C[:, :n], r - D[:, n:] @ e)
        E, F, e, f = columns[:n], columns[n:], vector[:n], vector[n:]
        return (E, e), (E, e, F, f)

    _, (E, e, F, f) = jax.lax.scan(back, (E_end, e_end), (at.C, at.D, inner), reverse=True)

    if free:  # rows of dq = E dz + e where q is given, of dz = first elsewhere
        given = np.array(free)
        rows = jnp.where(given[:, None], E[0], jnp.eye(n, dtype=first.dtype))
        right = first - jnp.where(given, e[0], 0.0)
        first = solved(rows, jnp.zeros((n, 1), first.dtype), right)[1]

    def ahead(z: Any, move: tuple[Any, Any]) -> tuple[Any, Any]:
        new = move[0] @ z + move[1]
        return new, new

    _, rest = jax.lax.scan(ahead, first, (F, f))
    z = jnp.concatenate([first[None], rest])
    q = jnp.einsum("ijk,ik->ij", E, z[:-1]) + e
    q = jnp.concatenate([q, (E_end @ z[-1] + e_end)[None]])
    return jnp.concatenate([z, q], 1)


def _sweep_forwards(
    n: int, at: Blocks, first: Any, inner: Any, last: Any, solved: Callable[..., Any]
) -> Any:
    def ahead(carry: tuple[Any, Any], block: tuple[Any, Any, Any]) -> tuple[Any, Any]:
        Y, s = carry
        C, D, r = block
        matrix = jnp.concatenate([C[:, :n] @ Y + C[:, n:], D[:, :n]], 1)
        columns, vector = solved(matrix, -D[:, n:], r - C[:, :n] @ s)
        G, Y, g, s = columns[:n], columns[n:], vector[:n], vector[n:]
        return (Y, s), (G, g, Y, s)

    zero = jnp.zeros((n, n), first.dtype)
    (Y, s), (G, g, Ys, ss) = jax.lax.scan(ahead, (zero, first), (at.C, at.D, inner))
    matrix = at.last[:, :n] @ Y + at.last[:, n:]
    _, q_end = solved(matrix, zero, last - at.last[:, :n] @ s)

    def back(q: Any, move: tuple[Any, Any]) -> tuple[Any, Any]:
        new = move[0] @ q + move[1]
        return new, new

    _, rest = jax.lax.scan(back, q_end, (G, g), reverse=True)
    q = jnp.concatenate([rest, q_end[None]])
    z = jnp.einsum("ijk,ik->ij", Ys, q[1:]) + ss
    z = jnp.concatenate([first[None], z])
    return jnp.concatenate([z, q], 1)


def solve(
    problem: Problem, y: Any, nodes: Any, theta: Any, *, tolerance: float, most: int = 60
) -> Newton:
    """Damped Newton from the nodes y (N + 1, 2n); pure JAX, so it can be mapped over problems.

    Differentiable in theta by the implicit rule: the derivative of the solution is one linear
    sweep, whatever Newton did.
    """

    @jax.custom_jvp
    def solved(theta: Any, nodes: Any, y: Any) -> Newton:
        return _newton(problem, y, jnp.diff(nodes), theta, tolerance, most)

    @solved.defjvp
    def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Newton, Newton]:
        theta, nodes, y = primals
        found = solved(theta, nodes, y)

        def outer(theta: Any, nodes: Any) -> tuple[Any, Any, Any]:
            return equations(problem, found.y, jnp.diff(nodes), theta)

        _, change = jax.jvp(outer, (theta, nodes), tangents[:2])
        at = blocks(problem, found.y, jnp.diff(nodes), theta)
        dy = sweep(problem, at, *(-c for c in change), split=True)
        zero = jnp.zeros_like(found.residual)
        return found, Newton(dy, zero, zero, np.zeros(found.iterations.shape, jax.dtypes.float0))

    return solved(theta, nodes, y)


def _newton(problem: Problem, y: Any, h: Any, theta: Any, tolerance: float, most: int) -> Newton:
    def size(parts: tuple[Any, Any, Any]) -> Any:
        # Intervals count by their defect F / h, squared and integrated over time.
        first, inner, last = parts
        total = jnp.sum(first**2) + jnp.sum(inner**2 / h[:, None]) + jnp.sum(last**2)
        return jnp.where(jnp.isfinite(total), jnp.sqrt(total), jnp.inf)

    def more(state: tuple[Any, ...]) -> Any:
        _, _, _, step, count, stuck = state
        return (count < most) & (step > tolerance) & ~stuck

    def iterate(state: tuple[Any, ...]) -> tuple[Any, ...]:
        y, parts, before, _, count, _ = state
        dy = sweep(problem, blocks(problem, y, h, theta), *(-p for p in parts))
        full = jnp.max(jnp.abs(dy) / (1 + jnp.abs(y)))
        # At rounding level the residual cannot fall: a small full step is then the last one.
        small = full < 1e-7

        def unsettled(trial: tuple[Any, ...]) -> Any:
            share, _, now = trial
            enough = (now <= (1 - 0.1 * share) * before) | (small & (share == 1))
            return ~enough & (share > 1e-4)

        def halve(trial: tuple[Any, ...]) -> tuple[Any, ...]:
            share = trial[0] / 2
            there = equations(problem, y + share * dy, h, theta)
            return share, there, size(there)

        nothing = (jnp.full((), 2.0, y.dtype), parts, jnp.full((), jnp.inf, y.dtype))
        share, there, now = jax.lax.while_loop(unsettled, halve, nothing)
        good = ((now < before) | small) & jnp.isfinite(full) & jnp.isfinite(now)
        last_one = small & (now > 0.5 * before)
        new = (y + share * dy, there, now)
        y, parts, now = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, (y, parts, before))
        step = jnp.where(last_one, jnp.minimum(full, tolerance), full)
        return y, parts, now, step, count + 1, ~good

    parts = equations(problem, y, h, theta)
    start = (
        y,
        parts,
        size(parts),
        jnp.full((), jnp.inf, y.dtype),
        jnp.zeros((), int),
        jnp.zeros((), bool),
    )
    y, _, left, step, count, _ = jax.lax.while_loop(more, iterate, start)
    return Newton(y, left, step, count)

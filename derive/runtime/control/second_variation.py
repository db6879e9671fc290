"""Whether an extremal is a minimum to second order: no conjugate point, by the second variation.

Near an extremal the cost changes by 1/2 int (dz' Q dz + |w|^2) dt + 1/2 dz(T)' phi_zz dz(T) for a
change of the control, where dz' = A dz + S w, dz(0) = 0 (and dz(T) = 0 at a fixed end), S S' = G,
and [[A, -G], [-Q, rho - A']] is the Jacobian of the Hamiltonian system with the control eliminated:
a control that is held by a bound leaves G.  With w constant on short intervals this is a quadratic
form of finitely many numbers; eliminated backwards, it is positive if and only if every pivot of a
Riccati recursion is.  A pivot that is not shows a change of the control that lowers the cost: past
a conjugate point.  Nothing blows up on the way, however long the horizon.  Where a cost or the
dynamics have a kink in the state, H_xx holds a pulse: crossing it with velocity z' while H_x jumps
by j adds j j' / (j . z').
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common import small_matrices
from derive.runtime.common.compiling import brief
from derive.runtime.control import between_nodes
from derive.runtime.control import boundary_value as bvp
from derive.runtime.control.coordinates import SMALL
from derive.runtime.control.extremal_system import OVER_PROBLEMS

PIECES, FIRM, STRONG = 256, 1e-8, 1e9


class Second(NamedTuple):
    """Of one extremal: `negative`, the latest time from which on a change of the control lowers the
    cost, or -1; `constants`: the least curvature in the controls that are constant in time, over
    the largest (0 where there are none); `grazed`: whether a kink is met without crossing it."""

    negative: Any
    constants: Any
    grazed: Any


@lru_cache(maxsize=64)
def tested(flat: Any, problem: bvp.Problem, N: int) -> Any:
    """`Second` of solutions y (batch, N + 1, 2n) on nodes (batch, N + 1), for parameters theta."""
    parts = max(1, min(8, -(-PIECES // N)))
    n = flat.n

    def run(theta: Any, nodes: Any, y: Any) -> Second:
        rho = 0.0 if flat.spec.discount is None else flat.spec.discount(theta.params)
        h = jnp.repeat(jnp.diff(nodes) / parts, parts)
        left = jnp.repeat(nodes[:-1], parts) + jnp.tile(jnp.arange(parts), N) * h
        middle = between_nodes.interpolate(problem, y, nodes, left + h / 2, theta)
        J = jax.vmap(jax.jacfwd(problem.field), (0, None))(middle, theta)
        A = J[:, :n, :n] - rho / 2 * jnp.eye(n)
        G, Q = -J[:, :n, n:], -J[:, n:, :n]
        G, Q = (G + jnp.swapaxes(G, 1, 2)) / 2, (Q + jnp.swapaxes(Q, 1, 2)) / 2
        levels, axes = small_matrices.eigh(G)
        S = axes * jnp.sqrt(jnp.maximum(levels, 0.0))[:, None]
        pulses, grazed = _pulses(problem, y, nodes, theta, n)
        pulses = jnp.zeros((N, parts, n, n)).at[:, 0].set(pulses[:-1]).reshape(-1, n, n)
        if problem.fixed:
            weak = jnp.maximum(jnp.max(levels), 1e-12)
            last = STRONG * (1 + 1 / weak + jnp.max(jnp.abs(Q))) * jnp.eye(n)
            if flat.free:
                last = last * ~np.array(flat.free)
        else:
            last = jax.jacfwd(flat.terminal_rate)(y[-1, :n], theta.params)
            last = (last + last.T) / 2
        E, negative = _pivots(jax.vmap(_form)(A, S, Q, h), pulses, left, h, last)
        return Second(negative, _least(E, flat.free), grazed)

    return brief(jax.vmap(run, (OVER_PROBLEMS, 0, 0)), flat.n <= SMALL)


def _form(A: Any, S: Any, Q: Any, h: Any) -> tuple[Any, Any]:
    """(Phi, Gamma) of one interval as (n, 2n), and the cost of (dz, w) on it (2n, 2n)."""
    n = len(A)
    zero = jnp.zeros((n, n), A.dtype)
    whole = jnp.block([[A, S], [zero, zero]])
    cost = jnp.block([[Q, zero], [zero, jnp.eye(n, dtype=A.dtype)]])
    small = whole * (h / 16)
    step = jnp.eye(2 * n, dtype=A.dtype)
    for k in range(6, 0, -1):  # the exponential series of an eighth of half the interval
        step = jnp.eye(2 * n, dtype=A.dtype) + small @ step / k
    for _ in range(3):
        step = step @ step
    full = step @ step
    value = h / 6 * (cost + 4 * step.T @ cost @ step + full.T @ cost @ full)
    return full[:n], value


def _pivots(forms: tuple[Any, Any], pulses: Any, left: Any, h: Any, last: Any) -> tuple[Any, Any]:
    """The Riccati recursion backwards: E at time 0, and the first time (from the end) at which a
    pivot is not positive, or -1."""
    n = len(last)

    def back(carry: tuple[Any, Any], now: tuple[Any, ...]) -> tuple[Any, None]:
        E, negative = carry
        (move, cost), pulse, t, h = now
        whole = cost + move.T @ E @ move
        pivot, mixed = whole[n:, n:], whole[n:, :n]
        root = small_matrices.cholesky(pivot / h - FIRM * jnp.eye(n, dtype=E.dtype))
        sound = jnp.all(jnp.isfinite(root))
        safe = jnp.where(sound, pivot, jnp.eye(n, dtype=E.dtype))
        new = whole[:n, :n] - mixed.T @ small_matrices.solve(safe, mixed) + pulse
        failed = (negative < 0) & ~sound
        negative = jnp.where(failed, t, negative)
        E = jnp.where(negative < 0, (new + new.T) / 2, E)
        return (E, negative), None

    start = (last, jnp.full((), -1.0, last.dtype))
    return jax.lax.scan(back, start, (forms, pulses, left, h), reverse=True)[0]


def _least(E: Any, free: tuple[bool, ...]) -> Any:
    if not free:
        return jnp.zeros((), E.dtype)
    own = np.flatnonzero(free)
    values = small_matrices.eigvalsh(E[np.ix_(own, own)])
    return values[0] / jnp.maximum(jnp.max(jnp.abs(values)), 1e-300)


def _pulses(problem: bvp.Problem, y: Any, nodes: Any, theta: Any, n: int) -> tuple[Any, Any]:
    """Pulses of H_xx at the nodes (N + 1, n, n), and whether a kink is met along itself."""
    rate = jax.vmap(problem.field, (0, None))
    speed = rate(y, theta)
    h = jnp.diff(nodes)
    tiny = 1e-6 * jnp.concatenate([h[:1], jnp.minimum(h[1:], h[:-1]), h[-1:]])[:, None]
    before, after = rate(y - tiny * speed, theta), rate(y + tiny * speed, theta)
    jump = before[:, n:] - after[:, n:]  # of H_x = -q'
    size = jnp.max(jnp.abs(jump), 1)
    real = size > 1e-4 * (1 + jnp.max(jnp.abs(speed), 1))
    across = jnp.sum(jump * speed[:, :n], 1)
    firm = jnp.abs(across) > 1e-3 * size * jnp.max(jnp.abs(speed[:, :n]), 1)
    pulse = jump[:, :, None] * jump[:, None] / jnp.where(real & firm, across, 1.0)[:, None, None]
    return jnp.where((real & firm)[:, None, None], pulse, 0.0), jnp.any(real & ~firm)

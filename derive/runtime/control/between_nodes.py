"""What the nodes of a collocation solution say between them: defects, errors, kinks, values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.control.boundary_value import (
    POINTS,
    WEIGHTS,
    Problem,
    apply,
    blocks,
    first_residual,
    stages,
    sweep,
)


def _power_integrals() -> np.ndarray:
    """Row r: coefficients of the integral from 0 to s of the Lagrange polynomial of point r."""
    rows = []
    for r, c in enumerate(POINTS):
        others = np.delete(POINTS, r)
        polynomial = np.poly(others) / np.prod(c - others)
        rows.append(np.polyint(polynomial))
    return np.array(rows)


INTEGRALS = _power_integrals()


_SAMPLES = np.array([0.09, 0.33, 0.67, 0.91])


def _between(s: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the five rates: for (y - y_a) / h and for y', at shares s of an interval."""
    value = np.stack([np.polyval(c, s) for c in INTEGRALS])
    slope = np.stack([np.polyval(np.polyder(c), s) for c in INTEGRALS])
    return value, slope


def improved_rates(problem: Problem, y: Any, h: Any, theta: Any, rounds: int = 2) -> Any:
    """Rates (5, N, 2n) at the Lobatto points, along the polynomial they define."""
    _, g = stages(problem, y, h, theta)
    inner, _ = _between(POINTS[2:])  # (5, 3)

    def again(_: Any, g: Any) -> Any:
        Y = y[:-1] + h[:, None] * jnp.tensordot(inner.T, g, 1)
        new = apply(problem.field, Y.reshape(-1, y.shape[1]), theta).reshape(Y.shape)
        return jnp.concatenate([g[:2], new])

    return jax.lax.fori_loop(0, rounds, again, g)


def defect(problem: Problem, y: Any, nodes: Any, theta: Any) -> Any:
    """Largest |y' - g(y)| / (1 + |g(y)|) between the nodes, per interval (N,)."""
    h = jnp.diff(nodes)
    g = improved_rates(problem, y, h, theta)
    value, slope = _between(_SAMPLES)
    Y = y[:-1] + h[:, None] * jnp.tensordot(value.T, g, 1)
    true = apply(problem.field, Y.reshape(-1, y.shape[1]), theta).reshape(Y.shape)
    off = jnp.abs(jnp.tensordot(slope.T, g, 1) - true) / (1 + jnp.abs(true))
    # What the polynomial misses at the right end counts as well.
    jump = jnp.abs(y[:-1] + h[:, None] * jnp.tensordot(WEIGHTS, g, 1) - y[1:])
    return jnp.maximum(jnp.max(off, (0, 2)), jnp.max(jump / (1 + jnp.abs(y[1:])), 1))


def error(problem: Problem, y: Any, nodes: Any, theta: Any) -> Any:
    """Estimated error of the nodes: largest |dy| / (1 + |y|), dy being one Newton step towards the
    collocation solution at the same five points, which is of order eight."""
    h = jnp.diff(nodes)
    g = improved_rates(problem, y, h, theta, rounds=5)
    inner = y[1:] - y[:-1] - h[:, None] * jnp.tensordot(WEIGHTS, g, 1)
    parts = (-first_residual(problem, y, theta), -inner, -problem.end(y[-1], theta))
    dy = sweep(problem, blocks(problem, y, h, theta), *parts)
    return jnp.max(jnp.abs(dy) / (1 + jnp.abs(y)))


def kinks(problem: Problem, y: Any, nodes: Any, theta: Any, count: int) -> tuple[Any, Any, Any]:
    """Where the derivative of the field jumps along the solution: the `count` strongest candidates.

    Returns times (count,), the intervals they lie in, and the jumps left after bisection: of the
    order of rounding where there is no kink.
    """
    h = jnp.diff(nodes)
    g = improved_rates(problem, y, h, theta)

    def slope(y: Any, theta: Any) -> Any:
        """The Jacobian of the field and beside it the field, which jumps too where a cost has a
        kink in the state."""
        J = jax.vmap(jax.jacfwd(problem.field), (0, None))(y, theta)
        return jnp.concatenate([J, apply(problem.field, y, theta)[..., None]], -1)

    def gap(one: Any, two: Any) -> Any:
        return jnp.max(jnp.abs(one - two), (1, 2))

    at = slope(y, theta)
    scale = 1 + jnp.max(jnp.abs(at))
    _, i = jax.lax.top_k(gap(at[1:], at[:-1]), min(count, len(h)))

    def halve(_: Any, bracket: tuple[Any, ...]) -> tuple[Any, ...]:
        low, high, left, right = bracket
        s = (low + high) / 2
        value = jnp.stack([jnp.polyval(jnp.asarray(c), s) for c in INTEGRALS])
        middle = slope(y[i] + h[i][:, None] * jnp.einsum("rk,rkj->kj", value, g[:, i]), theta)
        first = gap(middle, left) > gap(right, middle)
        there = first[:, None, None]
        return (
            jnp.where(first, low, s),
            jnp.where(first, s, high),
            jnp.where(there, left, middle),
            jnp.where(there, middle, right),
        )

    zero = jnp.zeros(len(i), y.dtype)
    low, high, left, right = jax.lax.fori_loop(
        0, 36, halve, (zero, zero + 1, at[:-1][i], at[1:][i])
    )
    return nodes[i] + (low + high) / 2 * h[i], i, gap(left, right) / scale


def interpolate(problem: Problem, y: Any, nodes: Any, times: Any, theta: Any) -> Any:
    """y at `times` (k,) by the polynomials that `defect` judges: (k, 2n)."""
    h = jnp.diff(nodes)
    g = improved_rates(problem, y, h, theta)
    i = jnp.clip(jnp.searchsorted(nodes, times, side="right") - 1, 0, len(h) - 1)
    s = (times - nodes[i]) / h[i]
    value = jnp.stack([jnp.polyval(jnp.asarray(c), s) for c in INTEGRALS])  # (5, k)
    return y[i] + h[i][:, None] * jnp.einsum("rk,rkj->kj", value, g[:, i])


def integral(values: Callable[..., Any], problem: Problem, y: Any, nodes: Any, theta: Any) -> Any:
    """The integral of values(t, y, theta) along the solution, with the order of the scheme."""
    h = jnp.diff(nodes)
    Y, _ = stages(problem, y, h, theta)
    t = nodes[:-1] + h * jnp.asarray(POINTS)[:, None]
    found = jax.vmap(jax.vmap(values, (0, 0, None)), (0, 0, None))(t, Y, theta)
    return jnp.sum(h * jnp.tensordot(WEIGHTS, found, 1))

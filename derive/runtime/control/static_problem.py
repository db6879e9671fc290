"""Static optima: the equilibria of the optimality system, by Levenberg's method from many starts.

The unknowns are w = (z, q, v); the equations f = 0, the costate rate = 0 and H_u = 0 (with bounds
or norms: v = the minimiser of H), on the sphere together with |x_i| = 1 and x_i . p_i = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common import small_matrices
from derive.runtime.control.coordinates import Flat, on_sphere, radial, tangent


class StaticPoint(NamedTuple):
    """A static point: vectors z, q (n,), v (m,), its running cost, |equations| and kind."""

    z: np.ndarray
    q: np.ndarray
    v: np.ndarray
    cost: float
    residual: float
    minimum: bool


def static_equations(flat: Flat, w: Any, params: Any) -> Any:
    n = flat.n
    z, q, v = w[:n], w[n : 2 * n], w[2 * n :]
    law = flat.law if flat.spec.bounds or flat.spec.sparse else None
    last = v - law(z, q, v, params) if law else flat.stationarity(z, q, v, params)
    rate = flat.rate(z, v, params)
    if flat.free:  # c' = 0 says nothing of a constant control, and nothing fixes its costate
        rate = jnp.where(np.array(flat.free), q, rate)
    parts = [
        tangent(flat, z, rate),
        tangent(flat, z, flat.costate_rate(z, q, v, params)),
        last,
        (radial(flat, z, z) - 1) / 2,
        radial(flat, z, q),
    ]
    return jnp.concatenate(parts)


@lru_cache(maxsize=32)
def _search(flat: Flat, most: int) -> Any:
    def run(w: Any, params: Any) -> tuple[Any, Any]:
        def equations(w: Any) -> Any:
            return static_equations(flat, w, params)

        def more(state: tuple[Any, ...]) -> Any:
            _, size, damping, count = state
            return (count < most) & (size > 1e-26) & (damping < 1e12)

        def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
            w, size, damping, count = state
            r, J = equations(w), jax.jacfwd(equations)(w)
            normal = J.T @ J
            scale = damping * jnp.minimum(jnp.sqrt(size), 1.0)
            change = small_matrices.solve(normal + scale * jnp.eye(len(w)), J.T @ r)
            new = equations(w - change)
            fresh = jnp.sum(new**2)
            good = fresh < size
            return (
                jnp.where(good, w - change, w),
                jnp.where(good, fresh, size),
                jnp.where(good, jnp.maximum(damping / 5, 1e-12), damping * 4),
                count + 1,
            )

        first = (w, jnp.sum(equations(w) ** 2), jnp.asarray(1e-2, w.dtype), 0)
        w, size, _, _ = jax.lax.while_loop(more, step, first)
        return w, jnp.sqrt(size)

    return jax.jit(jax.vmap(run, (0, None)))


@lru_cache(maxsize=32)
def _pieces(flat: Flat) -> Any:
    """The equations at w, their Jacobian, and the running cost."""

    def find(w: Any, params: Any) -> tuple[Any, Any, Any]:
        n = flat.n
        value = static_equations(flat, w, params)
        slope = jax.jacfwd(lambda w: static_equations(flat, w, params))(w)
        return value, slope, flat.running(w[:n], w[2 * n :], params)

    return jax.jit(find)


def starts(
    flat: Flat, candidates: Sequence[np.ndarray], count: int, rng: np.random.Generator
) -> np.ndarray:
    """Starting vectors (count, 2n + m): the candidates for z first, then random ones."""
    n, m = flat.n, flat.m
    out = []
    for k in range(max(count, len(candidates) + 1)):
        if k < len(candidates):
            z, noise = np.asarray(candidates[k], float), 0.0
        else:
            near = candidates[k % (len(candidates) + 1) - 1] if candidates else None
            base = near if near is not None and k % (len(candidates) + 1) else _centre(flat)
            noise = float(rng.choice([0.1, 0.5, 1.0]))
            z = base + noise * rng.standard_normal(n)
        z = np.asarray(on_sphere(flat, jnp.asarray(z)))
        rest = noise * rng.standard_normal(n + m)
        out.append(np.concatenate([z, rest]))
    return np.array(out)


def _centre(flat: Flat) -> np.ndarray:
    """Zero; the unit matrix for symmetric matrices, which often are covariances."""
    x = flat.point(np.zeros(flat.n))
    parts = [
        np.eye(part.shape[0]) if name in flat.spec.symmetric else part
        for name, part in zip(flat.spec.state._fields, x, strict=True)
    ]
    return np.asarray(flat.pack_x(flat.spec.state(*parts)))


def static_points(
    flat: Flat, params: Any, first: np.ndarray, *, most: int = 300, close: float = 1e-5
) -> list[StaticPoint]:
    """All different static points that the starts `first` (k, 2n + m) reach, cheapest first."""
    w, size = (np.asarray(a) for a in _search(flat, most)(jnp.asarray(first), params))
    found: list[StaticPoint] = []
    pieces = _pieces(flat)
    n = flat.n
    for k in np.argsort(np.where(np.isfinite(size), size, np.inf)):
        if not np.isfinite(size[k]) or size[k] > 1e-5:
            break
        point = w[k]
        value, slope, cost = (jax.tree.map(np.asarray, p) for p in pieces(point, params))
        for _ in range(4):
            new = point - np.linalg.lstsq(slope, value, rcond=1e-12)[0]
            trial = jax.tree.map(np.asarray, pieces(new, params))
            if not np.linalg.norm(trial[0]) < np.linalg.norm(value):
                break
            point, (value, slope, cost) = new, trial
        residual = float(np.linalg.norm(value))
        scale = 1 + float(np.max(np.abs(point)))
        if not residual < 1e-9 * scale**2:
            continue
        z, q, v = point[:n], point[n : 2 * n], point[2 * n :]
        here = np.concatenate([z, v])
        if any(np.max(np.abs(here - np.concatenate([s.z, s.v]))) < close * scale for s in found):
            continue
        found.append(StaticPoint(z, q, v, float(cost), residual, True))
    return sorted(found, key=lambda s: s.cost)


def goals(flat: Flat, params: Any) -> list[np.ndarray]:
    """Data with the shape of the state: they may be goals."""
    spec = flat.spec
    names = spec.state._fields
    return [
        np.asarray(flat.pack_x(spec.state(getattr(params, name))))
        for name, shape in spec.param_shapes.items()
        if len(names) == 1 and tuple(shape) == tuple(spec.state_shapes[names[0]])
    ]

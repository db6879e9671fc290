"""The flow of tokens, and their path under noise, as pure functions for JAX to transform.

Fixed steps of the classical Runge-Kutta scheme, no check of values: what `solve` does around it
(step control, estimate of the error, blow-up) is left to the caller, so that jit, vmap and grad go
through.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from derive.runtime.common.matrix_functions import factor
from derive.runtime.common.pure import real, whole
from derive.runtime.common.records import by_name
from derive.runtime.flows.solver import unit
from derive.runtime.flows.specification import FlowModel
from derive.runtime.flows.words import EXACT, tangent


def flow(spec: FlowModel, x0: Any, params: Any, *, t1: Any, steps: int) -> jax.Array:
    """Tokens (steps + 1, n, d) at 0, h, ..., t1, h = t1 / steps; see a generated module's `flow`.

    On the sphere the start is divided by its length, and so is the end of every step; the order,
    four, is kept.
    """
    start, params = _given(spec, x0, params, "flow(x, params, t1=t1, steps=steps)")
    h = jnp.asarray(t1, start.dtype) / whole(steps)

    def step(x: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
        new = _moved(spec, x, params, h)
        return new, new

    _, found = jax.lax.scan(step, start, length=steps)
    return jnp.concatenate([start[None], found])


def path(spec: FlowModel, key: Any, x0: Any, params: Any, *, t1: Any, steps: int) -> jax.Array:
    """Tokens (steps + 1, n, d) under noise at 0, h, ..., t1; see a generated module's `path`.

    Half of a step's noise, the velocity by the classical Runge-Kutta scheme, the other half; on the
    sphere noise goes along great circles (see `_shaken`).  The law of the tokens converges with h.
    """
    assert spec.noise_rate is not None
    start, params = _given(spec, x0, params, "path(key, x, params, t1=t1, steps=steps)")
    h = jnp.asarray(t1, start.dtype) / whole(steps)
    root = factor(spec.noise_rate(start, params)) * jnp.sqrt(h / 2)

    def step(x: jax.Array, number: Any) -> tuple[jax.Array, jax.Array]:
        normals = jax.random.normal(jax.random.fold_in(key, number), (2, *x.shape), x.dtype)
        new = _shaken(spec, x, normals[0], root)
        new = _shaken(spec, _moved(spec, new, params, h), normals[1], root)
        return new, new

    _, found = jax.lax.scan(step, start, jnp.arange(steps))
    return jnp.concatenate([start[None], found])


def _shaken(spec: FlowModel, x: jax.Array, normals: jax.Array, root: jax.Array) -> jax.Array:
    """Tokens after a move z = root normals of their own, root symmetric.

    On the sphere x' = P_x z in Stratonovich's sense: in the tangent z less the drift P_x C x / 2 of
    its covariance C, which vanishes where noise is the same in all directions; as far along the
    great circle.
    """
    move = jnp.matmul(normals, root, precision=EXACT)
    if not spec.sphere:
        return x + move
    move = move - jnp.matmul(jnp.matmul(x, root, precision=EXACT), root, precision=EXACT) / 2
    move = tangent(move, x)
    square = jnp.sum(move**2, axis=-1, keepdims=True)
    size = jnp.sqrt(jnp.maximum(square, jnp.finfo(x.dtype).tiny))
    return unit(jnp.cos(size) * x + jnp.sin(size) / size * move, 1)


def _given(spec: FlowModel, x0: Any, params: Any, call: str) -> tuple[jax.Array, Any]:
    x = real(x0, "x0")
    if x.ndim != 2:
        raise ValueError(
            f"x0 has shape {x.shape}, not that of one system (n, d); map over several: "
            f"jax.vmap(lambda x: {call})"
        )
    given = by_name(spec.params, params)
    return _home(spec, x), spec.params(*(jnp.asarray(value, x.dtype) for value in given))


def _home(spec: FlowModel, x: jax.Array) -> jax.Array:
    return unit(x, 1) if spec.sphere else x


def _moved(spec: FlowModel, x: jax.Array, params: Any, h: jax.Array) -> jax.Array:
    """One step of the classical Runge-Kutta scheme."""

    def rate(x: jax.Array) -> jax.Array:
        return spec.velocity(_home(spec, x), params)

    one = rate(x)
    two = rate(x + h / 2 * one)
    three = rate(x + h / 2 * two)
    four = rate(x + h * three)
    return _home(spec, x + h * (one + 2 * two + 2 * three + four) / 6)

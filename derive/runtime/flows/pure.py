"""The flow of tokens as a pure function of start and parameters, for JAX to transform.

Fixed steps of the classical Runge-Kutta scheme, no check of values: what `solve` does around it
(step control, estimate of the error, blow-up) is left to the caller, so that jit, vmap and grad go
through.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from derive.runtime.common.pure import real, whole
from derive.runtime.common.records import by_name
from derive.runtime.flows.solver import unit
from derive.runtime.flows.specification import FlowModel


def flow(spec: FlowModel, x0: Any, params: Any, *, t1: Any, steps: int) -> jax.Array:
    """Tokens (steps + 1, n, d) at 0, h, ..., t1, h = t1 / steps; see a generated module's `flow`.

    On the sphere the start is divided by its length, and so is the end of every step; the order,
    four, is kept.
    """
    x = real(x0, "x0")
    if x.ndim != 2:
        raise ValueError(
            f"x0 has shape {x.shape}, not that of one system (n, d); map over several: "
            "jax.vmap(lambda x: flow(x, params, t1=t1, steps=steps))"
        )
    given = by_name(spec.params, params)
    params = spec.params(*(jnp.asarray(value, x.dtype) for value in given))
    h = jnp.asarray(t1, x.dtype) / whole(steps)

    def on(x: jax.Array) -> jax.Array:
        return unit(x, 1) if spec.sphere else x

    def rate(x: jax.Array) -> jax.Array:
        return spec.velocity(on(x), params)

    def step(x: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
        one = rate(x)
        two = rate(x + h / 2 * one)
        three = rate(x + h / 2 * two)
        four = rate(x + h * three)
        new = on(x + h * (one + 2 * two + 2 * three + four) / 6)
        return new, new

    start = on(x)
    _, found = jax.lax.scan(step, start, length=steps)
    return jnp.concatenate([start[None], found])

"""A plan as one pure function of JAX: for jit, vmap and grad, and inside other models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.flows.match.plan import Plan

Module = Callable[..., jax.Array]


def _tokens(plan: Plan, given: Any) -> jax.Array:
    x, d = jnp.asarray(given), plan.inputs.x.shape[2]
    if x.ndim != 2 or x.shape[1] != d:
        raise ValueError(f"x must have shape (n, {d}), got {x.shape}")
    if plan.targets.counts.max() > 1 and x.dtype != jnp.float64:
        raise ValueError(
            f"x is {x.dtype}: this plan tells tokens apart by digits that it does not have; pass "
            "float64 under jax.config.update('jax_enable_x64', True), or use plan.apply"
        )
    return x


def module(plan: Plan, steps: int) -> Module:
    """f(x, masses=None, theta=None, times=None): tokens (n, d) of one law at the end of the plan.

    `steps` of the classical Runge-Kutta scheme a piece, tokens put back on the sphere after each.
    `theta`, `times`: as `Plan.theta` and `Plan.times` hold them; None: the plan's own.  Raises
    ValueError for float32 where targets have several points: it does not tell tokens apart.
    """
    velocity = plan.spec.uniform_velocity
    assert velocity is not None
    own = (plan.spec.params(*(np.asarray(x) for x in plan.theta)), plan.times)

    def unit(x: jax.Array) -> jax.Array:
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

    def apply(x: Any, masses: Any = None, theta: Any = None, times: Any = None) -> jax.Array:
        x = unit(_tokens(plan, x))
        share = jnp.ones(len(x), x.dtype) if masses is None else jnp.asarray(masses, x.dtype)
        share = share / share.sum()
        kept = jax.tree.map(lambda y: jnp.asarray(y, x.dtype), own[0] if theta is None else theta)
        lengths = jnp.diff(jnp.asarray(own[1] if times is None else times, x.dtype))

        def piece(x: jax.Array, given: Any) -> tuple[jax.Array, None]:
            params, t = given
            h = t / steps

            def step(x: jax.Array, _: None) -> tuple[jax.Array, None]:
                rate = lambda y: velocity(y, share, params)  # noqa: E731
                first = rate(x)
                second = rate(unit(x + h / 2 * first))
                third = rate(unit(x + h / 2 * second))
                last = rate(unit(x + h * third))
                return unit(x + h / 6 * (first + 2 * second + 2 * third + last)), None

            return jax.lax.scan(step, x, None, length=steps)[0], None

        return jax.lax.scan(piece, x, (kept, lengths))[0]

    return apply

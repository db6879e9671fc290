"""Cheap controls to compare a solution with: constant ones, and moves at full amplitude, then rest.

A trial is a control that the problem admits; if it costs less, what was found is no optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.compiling import brief
from derive.runtime.control.coordinates import SMALL, Flat
from derive.runtime.control.replay import advance

MARGIN = 1e-6  # relative: below it, a lower cost may be the error of either side


@lru_cache(maxsize=32)
def _constant(flat: Flat) -> Any:
    n = flat.n

    def cost(z: Any, v: Any, T: Any, params: Any) -> Any:
        rho = 0.0 if flat.spec.discount is None else flat.spec.discount(params)

        def rate(t: Any, y: Any) -> Any:
            tail = jnp.exp(-rho * t) * flat.running(y[:n], v, params)
            return jnp.concatenate([flat.rate(y[:n], v, params), tail[None]])

        def total(steps: int) -> tuple[Any, Any]:
            y = advance(rate, jnp.append(z, 0.0), 0.0, T, steps)
            return y[n] + jnp.exp(-rho * T) * flat.terminal(y[:n], params), y[:n]

        (fine, last), (rough, _) = total(1024), total(512)
        return fine + jnp.abs(fine - rough), last

    each = jax.vmap(cost, (None, 0, None, None))
    return brief(jax.vmap(each, (0, None, None, None)), flat.n <= SMALL)


def constant_controls(
    flat: Flat, z0: Any, controls: Sequence[Any], T: float, params: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Costs (batch, k) of constant controls from each z0, their error added, and last states.

    nan or inf where the state does not exist up to T.
    """
    found = _constant(flat)(jnp.asarray(z0), jnp.asarray(np.array(controls)), T, params)
    return np.asarray(found[0]), np.asarray(found[1])


@lru_cache(maxsize=32)
def _moves(flat: Flat, count: int = 256) -> Any:
    n = flat.n

    def rate(v: Any, params: Any) -> Any:
        still = jnp.zeros(flat.m, v.dtype)

        def at(_: Any, y: Any) -> Any:
            tail = flat.running(y[:n], still, params)
            return jnp.concatenate([flat.rate(y[:n], v, params), tail[None]])

        return at

    def total(y: Any, s: Any, T: Any, price: Any, params: Any) -> Any:
        rest = flat.running(y[:n], jnp.zeros(flat.m, y.dtype), params)
        return y[n] + price * s + (T - s) * rest

    def one(z: Any, v: Any, T: Any, price: Any, params: Any) -> Any:
        h, first = T / count, jnp.append(z, 0.0)

        def step(y: Any, k: Any) -> tuple[Any, Any]:
            y = advance(rate(v, params), y, k * h, h, 1)
            return y, total(y, (k + 1) * h, T, price, params)

        _, costs = jax.lax.scan(step, first, jnp.arange(count))
        s = h * (1 + jnp.argmin(jnp.where(jnp.isfinite(costs), costs, jnp.inf)))
        y = advance(rate(v, params), first, 0.0, s, count)
        return total(y, s, T, price, params), s

    return brief(jax.vmap(one, (None, 0, None, None, None)), flat.n <= SMALL)


def full_moves(
    flat: Flat, z0: Any, controls: Any, T: float, price: float, params: Any
) -> tuple[float, int, float]:
    """The least cost of acting by one of `controls` (k, m), at `price` per unit of time, until some
    s and resting then: (cost, which, s).  For dynamics that rest without control."""
    costs, stops = _moves(flat)(jnp.asarray(z0), jnp.asarray(controls), T, price, params)
    costs = np.where(np.isfinite(costs), costs, np.inf)
    best = int(np.argmin(costs))
    return float(costs[best]), best, float(np.asarray(stops)[best])


def cheaper(trial: float, found: float) -> bool:
    """Whether a trial beats a solution by more than rounding and truncation."""
    return bool(trial < found - MARGIN * (1 + abs(found)))

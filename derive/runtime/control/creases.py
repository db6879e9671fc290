"""Kinks of dynamics and costs in the state: where first or second derivatives of H jump."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.control.coordinates import Flat
from derive.runtime.control.function_checks import show
from derive.runtime.control.static_problem import goals

_STEP, _DIRECTIONS = 1e-6, 12


@lru_cache(maxsize=32)
def _slopes(flat: Flat) -> Any:
    """First derivatives of H by the state, and second ones by everything, at states z (k, n)."""

    def find(z: Any, q: Any, v: Any, params: Any) -> tuple[Any, Any]:
        first = flat.costate_rate(z, q, v, params)
        second = jnp.concatenate(
            [
                jax.jacfwd(flat.costate_rate, (0))(z, q, v, params),
                jax.jacfwd(flat.rate, 0)(z, v, params),
                jax.jacfwd(flat.stationarity, 0)(z, q, v, params),
            ]
        )
        return first, second

    return jax.jit(jax.vmap(find, (0, None, None, None)))


def creased(flat: Flat, z: Any, q: Any, v: Any, params: Any) -> bool:
    """Whether a state sits on a kink: derivatives of H differ on its two sides."""
    rng = np.random.default_rng(0)
    away = rng.standard_normal((_DIRECTIONS, flat.n))
    step = _STEP * (1 + np.abs(np.asarray(z)))
    both = np.concatenate([z + step * away, z - step * away])
    first, second = (np.asarray(a) for a in _slopes(flat)(both, q, v, params))
    for value in (first, second):
        if not np.all(np.isfinite(value)):
            continue
        jump = np.max(np.abs(value[:_DIRECTIONS] - value[_DIRECTIONS:]), initial=0.0)
        if jump > 1e-3 * (1 + np.max(np.abs(value), initial=0.0)):
            return True
    return False


def creased_cost(flat: Flat, z: Any, params: Any) -> bool:
    """The same for the running cost without control."""
    return creased(flat, z, np.zeros(flat.n), np.zeros(flat.m), params)


def kinked_goal(flat: Flat, params: Any) -> str | None:
    """Words on a goal at which the dynamics or a cost have a kink, if there is one."""
    for z in (*goals(flat, params), np.zeros(flat.n)):
        if creased_cost(flat, z, params):
            return (
                f"the dynamics or a cost have a kink at {show(flat.point(z))}: if the optimum "
                "rests there it arrives exactly, which no smooth extremal does; make it smooth, "
                "sqrt(x**2 + eps) for |x| say, or price its square"
            )
    return None

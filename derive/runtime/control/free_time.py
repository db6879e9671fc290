"""A horizon that is chosen too: the problem on the unit interval, its length T one more state.

With time in units of T, x' = T f and the cost is T L; T' = 0, and its costate p_T' = -H vanishes at
both ends.  So H, which is conserved, is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np

from derive.runtime.control.coordinates import Flat


@lru_cache(maxsize=16)
def timed(flat: Flat) -> Flat:
    """`flat` with its horizon as last entry of the state; forces on the control as they are."""
    n = flat.n

    def short(function: Callable[..., Any]) -> Callable[..., Any]:
        """The function of z and q without T and its costate."""
        return lambda z, q, *rest: function(z[:n], q[:n], *rest)

    def rate(z: Any, v: Any, params: Any) -> Any:
        return jnp.append(z[n] * flat.rate(z[:n], v, params), 0.0)

    def costate_rate(z: Any, q: Any, v: Any, params: Any) -> Any:
        H = flat.hamiltonian(z[:n], q[:n], v, params)
        return jnp.append(z[n] * flat.costate_rate(z[:n], q[:n], v, params), -H)

    return flat._replace(
        n=n + 1,
        point=lambda z: flat.point(z[:n]),
        costate=lambda q: flat.costate(q[:n]),
        rate=rate,
        costate_rate=costate_rate,
        stationarity=short(flat.stationarity),
        law=short(flat.law),
        free_law=short(flat.free_law),
        running=lambda z, v, params: z[n] * flat.running(z[:n], v, params),
        hamiltonian=lambda z, q, v, params: z[n] * flat.hamiltonian(z[:n], q[:n], v, params),
        terminal=lambda z, params: flat.terminal(z[:n], params),
        terminal_rate=lambda z, params: jnp.append(flat.terminal_rate(z[:n], params), 0.0),
        free=(*(flat.free or (False,) * n), True),
    )


def lengths(flat: Flat, y: Any) -> np.ndarray:
    """The time that a unit of the solution's own time takes (batch, 1); y (batch, N + 1, 2n)."""
    if not flat.spec.free_time:
        return np.ones((len(y), 1))
    return np.asarray(y)[:, 0, flat.n - 1, None]

"""A returned solution run again: its control through the dynamics, by another integrator.

The solvers never use this file's scheme (Dormand and Prince, many equal steps in every interval),
so a state that does not follow its control, or a costate its equation, shows here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.tableaus import DORMAND_PRINCE


def advance(rate: Callable[..., Any], y: Any, start: Any, length: Any, steps: int) -> Any:
    """y(start + length) of y' = rate(t, y), by `steps` equal steps of order five."""
    h, table = length / steps, DORMAND_PRINCE
    stages = len(table.b)
    matrix = np.zeros((stages, stages))
    for k, row in enumerate(table.a):
        matrix[k, : len(row)] = row

    def step(y: Any, k: Any) -> tuple[Any, None]:
        t = start + k * h

        def stage(slopes: Any, s: Any) -> tuple[Any, None]:
            row = jnp.asarray(matrix, y.dtype)[s]
            slope = rate(t + h * jnp.sum(row), y + h * row @ slopes)
            return slopes.at[s].set(slope), None

        # stages one by one: their rate stands once in the program, which compiles sooner
        zero = jnp.zeros((stages, *y.shape), y.dtype)
        slopes = jax.lax.scan(stage, zero, jnp.arange(stages))[0]
        return y + h * jnp.asarray(table.b, y.dtype) @ slopes, None

    return jax.lax.scan(step, y, jnp.arange(steps))[0]

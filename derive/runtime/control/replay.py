"""A returned solution run again: its control through the dynamics, by another integrator.

The solvers never use this file's scheme (Dormand and Prince, many equal steps in every interval),
so a state that does not follow its control, or a costate its equation, shows here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from derive.runtime.common.tableaus import DORMAND_PRINCE


def advance(rate: Callable[..., Any], y: Any, start: Any, length: Any, steps: int) -> Any:
    """y(start + length) of y' = rate(t, y), by `steps` equal steps of order five."""
    h = length / steps
    table = DORMAND_PRINCE

    def step(y: Any, k: Any) -> tuple[Any, None]:
        t, slopes = start + k * h, list[Any]()
        for row in table.a:
            there = y + h * sum((a * s for a, s in zip(row, slopes, strict=True)), 0.0 * y)
            slopes.append(rate(t + h * sum(row), there))
        return y + h * sum(b * s for b, s in zip(table.b, slopes, strict=True)), None

    return jax.lax.scan(step, y, jnp.arange(steps))[0]

"""What pure functions of a start and parameters check before they are traced.

Values are not looked at: under jit, vmap and grad there are none.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def real(start: Any, what: str) -> jax.Array:
    """A start as an array of its own precision; Python's numbers and lists have JAX's default.

    Raises ValueError where JAX would lower the precision of an array without a word.
    """
    wanted = getattr(start, "dtype", None)
    array = jnp.asarray(start)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(float)
    elif wanted is not None and np.dtype(wanted) == np.float64 and array.dtype != jnp.float64:
        raise ValueError(
            f"{what} is float64 and JAX holds float32: call "
            'jax.config.update("jax_enable_x64", True) first, or pass it as float32'
        )
    return array


def whole(steps: Any) -> int:
    """The number of steps, which shapes the result and is static under jit."""
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"steps must be a whole number >= 1 (static under jit), got {steps!r}")
    return steps


def no_tracers(asked: str, pure: str, *given: Any) -> None:
    """Refuse values under a transformation of JAX where NumPy arrays are expected.

    Raises TypeError that names what can be transformed.
    """
    leaves = jax.tree.leaves(given)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        raise TypeError(
            f"{asked} takes and gives NumPy arrays and cannot be transformed by jit, vmap or grad; "
            f"{pure}"
        )

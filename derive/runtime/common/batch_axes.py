"""Batch axes in front of an array's own."""

from __future__ import annotations

import jax


def padded(x: jax.Array, core: int, lead: int) -> jax.Array:
    """x (..., its `core` own axes) with `lead` batch axes, those missing being of length one."""
    missing = lead - (x.ndim - core)
    return x if not missing else x.reshape((1,) * missing + x.shape)

"""`jax.jit` for programs whose bits must not depend on how many paths they carry."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Newer XLA hands reductions (and what feeds them) over some 4096 elements to a library on CPU,
# which rounds differently from its own loops: a path's bits would depend on its block's size.
STEADY = {"xla_cpu_experimental_ynn_fusion_type": ""}


@functools.cache
def _options() -> dict[str, str] | None:
    """`STEADY` where this XLA knows it and it concerns the device, else None."""
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda x: x, compiler_options=STEADY)(jnp.zeros(1))
    except jax.errors.JaxRuntimeError:
        return None  # older than the library
    return dict(STEADY)


def jit(function: Callable[..., Any]) -> Any:
    """Jitted `function`; call it outside other jitted code."""
    return jax.jit(function, compiler_options=_options())

"""How programs are compiled: with steady bits, or in little time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Newer XLA hands reductions (and what feeds them) over some 4096 elements to a library on CPU,
# which rounds differently from its own loops: a path's bits would depend on its block's size.
STEADY = {"xla_cpu_experimental_ynn_fusion_type": ""}


# What takes XLA a third of the time; code that runs for milliseconds does not miss the rest.
BRIEF = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


@functools.cache
def _known(options: tuple[tuple[str, Any], ...]) -> dict[str, Any] | None:
    """The options where this XLA knows them and they concern the device, else None."""
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda x: x, compiler_options=dict(options))(jnp.zeros(1))
    except jax.errors.JaxRuntimeError:
        return None  # older than the library
    return dict(options)


def jit(function: Callable[..., Any]) -> Any:
    """Jitted `function`; call it outside other jitted code."""
    return jax.jit(function, compiler_options=_known(tuple(STEADY.items())))


def brief(function: Callable[..., Any], small: bool) -> Any:
    """Jitted `function`, compiled in little time where its arrays are `small`; call it outside
    other jitted code."""
    return jax.jit(function, compiler_options=_known(tuple(BRIEF.items())) if small else None)

"""How fine the rules are that are traced now, and how far two of them lie apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp

REACH = 9.0  # standard deviations of a normal variable that are integrated over

_finer: ContextVar[int] = ContextVar("finer", default=1)


@contextmanager
def finer(factor_: int = 2) -> Iterator[None]:
    """Rules that are traced inside have this many times the nodes."""
    token = _finer.set(factor_)
    try:
        yield
    finally:
        _finer.reset(token)


def fineness() -> int:
    """How many times the nodes, where rules are traced now."""
    return _finer.get()


def largest(pairs: list[tuple[Any, Any]], axes: Sequence[int]) -> jax.Array:
    """max over pairs of |error| / |value|, both the largest over the last axes."""
    out: Any = None
    for (wrong, right), count in zip(pairs, axes, strict=True):
        last = tuple(range(-count, 0))
        size = jnp.max(jnp.abs(right), axis=last)
        one = jnp.max(jnp.abs(wrong), axis=last) / jnp.where(size > 0, size, 1)
        out = one if out is None else jnp.maximum(out, one)
    return out

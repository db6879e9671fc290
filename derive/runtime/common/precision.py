"""float64, and products exact to the dtype, without touching the caller's global settings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np


@contextmanager
def precision(dtype: str) -> Iterator[np.dtype]:
    """Run JAX at `dtype` ("float64" or "float32") inside; hand results out as NumPy arrays.

    Raises ValueError for any other name.
    """
    if dtype not in ("float64", "float32"):
        raise ValueError(f'dtype must be "float64" or "float32", got {dtype!r}')
    with jax.enable_x64(dtype == "float64"):
        yield np.dtype(dtype)


def exact(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with every product in it exact to the dtype, on every device."""

    @functools.wraps(function)
    def inside(*arguments: Any, **given: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*arguments, **given)

    return inside

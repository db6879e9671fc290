"""float64 without touching the caller's global setting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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

"""Numbers and arrays that a user passes: taken as they are, or refused with what and where.

Counts may be Python's or NumPy's integers; truth values, text, complex numbers, masks and objects
are no numbers, however readily NumPy makes numbers of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_KINDS = {
    "b": "truth values",
    "O": "Python objects",
    "U": "text",
    "S": "text",
    "M": "dates",
    "m": "time differences",
    "V": "records",
}


def array(name: str, value: Any) -> np.ndarray:
    """`value` as a float64 array; ValueError for what holds anything but real, known numbers."""
    if np.ma.isMaskedArray(value):
        if np.ma.is_masked(value):
            raise ValueError(
                f"{name}{_first(np.ma.getmaskarray(value))} is masked; fill what is masked "
                f"({name}.filled(...)), or leave it out"
            )
        value = value.data
    try:
        found = np.asarray(value)
    except (ValueError, TypeError) as problem:
        raise ValueError(f"{name} is no array of numbers: {problem}") from None
    kind = found.dtype.kind
    if kind == "c":
        raise ValueError(
            f"{name} is complex and takes real numbers; pass {name}.real if its imaginary part "
            "means nothing"
        )
    if kind in _KINDS:
        raise ValueError(f"{name} takes real numbers, got {_KINDS[kind]} ({found.dtype})")
    return found.astype(np.float64)


def finite(name: str, value: Any) -> np.ndarray:
    """The same, refused with the place of the first entry that is not finite."""
    found = array(name, value)
    if not np.all(np.isfinite(found)):
        place = _first(~np.isfinite(found))
        value = found[~np.isfinite(found)][0]
        raise ValueError(f"{name} has entries that are not finite: {name}{place} = {value}")
    return found


def _first(which: np.ndarray) -> str:
    """The first place that is true, as it stands after a name."""
    return place(np.argwhere(which)[0])


def place(indices: Any) -> str:
    """Indices as they stand after a name; nothing for no axis."""
    return f"[{', '.join(str(int(i)) for i in indices)}]" if len(indices) else ""


def symmetric(name: str, value: np.ndarray, tolerance: float = 1e-6) -> np.ndarray:
    """The symmetric part of matrices (..., m, m); ValueError where they differ from it by more
    than `tolerance` of their largest entry."""
    turned = np.swapaxes(value, -1, -2)
    skew = np.max(np.abs(value - turned), axis=(-1, -2))
    excess = skew - tolerance * np.max(np.abs(value), axis=(-1, -2))
    if np.any(excess > 0):
        where = np.unravel_index(np.argmax(excess), skew.shape)
        raise ValueError(
            f"{name}{place(where)} is not symmetric (off by {skew[where]:.3g}); pass "
            f"({name} + {name}.T) / 2 if that is what you mean"
        )
    return (value + turned) / 2


def covariances(name: str, value: np.ndarray) -> np.ndarray:
    """Symmetric and positive semi-definite in the last two axes; singular is legal."""
    if not value.size:
        raise ValueError(f"{name} is empty: its shape is {value.shape}")
    value = symmetric(name, value)
    least = np.linalg.eigvalsh(value)[..., 0]
    if np.any(least < -1e-8 * np.max(np.abs(value), axis=(-1, -2))):
        where = np.unravel_index(np.argmin(least), least.shape)
        raise ValueError(
            f"{name}{place(where)} is not positive semi-definite: its smallest eigenvalue is "
            f"{least[where]:.3g}; a covariance never has a negative one (zero is legal)"
        )
    return value


def number(name: str, value: Any) -> float:
    """One real number, which may be infinite or nan."""
    found = array(name, value)
    if found.ndim:
        raise ValueError(f"{name} takes one number, got an array of shape {found.shape}")
    return float(found)


def positive(name: str, value: Any) -> float:
    found = number(name, value)
    if not found > 0:
        raise ValueError(f"{name} = {found:g} must be positive")
    return found


def integer(name: str, value: Any, least: int | None = None) -> int:
    """An integer of Python's or NumPy's, at least `least`."""
    wanted = "an integer" if least is None else f"an integer >= {least}"
    if least == 1:
        wanted = "a positive integer"
    is_one = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))
    if not is_one and np.ndim(value) == 0 and getattr(value, "dtype", np.dtype("O")).kind in "iu":
        is_one = not np.ma.is_masked(value)  # an array without axes
    if not is_one or (least is not None and int(value) < least):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return int(value)


def seed(value: Any, dtype: str) -> int:
    """A seed that JAX tells from all others at this precision."""
    found = integer("seed", value)
    bits = 63 if dtype == "float64" else 31
    if not -(2**bits) <= found < 2**bits:
        raise ValueError(f"seed = {found} must lie between -2^{bits} and 2^{bits} at {dtype}")
    return found


def radius(value: Any, V: np.ndarray) -> float:
    """An exit radius that the start lies within; inf: no path exits but for an overflow."""
    found = number("exit_radius", value)
    largest = float(np.max(np.abs(V)))
    if math.isnan(found) or not found > largest:
        raise ValueError(
            f"exit_radius = {found:g} must be larger than the largest |V0|, {largest:g}"
        )
    return found

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
                f"{name} has {np.ma.count_masked(value)} masked entries; fill them "
                f"({name}.filled(...)) or leave these tokens out"
            )
        value = value.data
    try:
        found = np.asarray(value)
    except (ValueError, TypeError) as problem:
        raise ValueError(f"{name} is no array of numbers: {problem}") from None
    kind = found.dtype.kind
    if kind == "c":
        raise ValueError(
            f"{name} is complex ({found.dtype}), but takes real numbers; pass {name}.real if its "
            "imaginary part means nothing"
        )
    if kind in _KINDS:
        raise ValueError(f"{name} takes real numbers, got {_KINDS[kind]} ({found.dtype})")
    return found.astype(np.float64)


def finite(name: str, value: Any) -> np.ndarray:
    """The same, refused with the place of the first entry that is not finite."""
    found = array(name, value)
    if not np.all(np.isfinite(found)):
        place = tuple(int(k) for k in np.argwhere(~np.isfinite(found))[0])
        where = f"{name}[{', '.join(map(str, place))}]" if place else name
        raise ValueError(f"{name} has entries that are not finite: {where} = {found[place]}")
    return found


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

"""Checks of what a user passes: one message that says what, where and what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from derive.runtime.common import numbers
from derive.runtime.common.numbers import integer, number
from derive.runtime.common.records import Record, by_name


def covariance(V0: Any) -> np.ndarray:
    """V0 as a float64 array (m, m); symmetric and positive semi-definite, singular allowed."""
    V = numbers.array("V0", V0)
    if V.ndim != 2 or V.shape[0] != V.shape[1] or not V.size:
        raise ValueError(f"V0 must be a square matrix (m, m), got shape {V.shape}")
    return numbers.covariances("V0", numbers.finite("V0", V))


def start(V: np.ndarray, unit_rows: bool, width: str, size: float | None) -> None:
    """Tokens of unit length have V_aa = 1, and `size` units hold `size` independent tokens."""
    if unit_rows and np.max(np.abs(np.diag(V) - 1)) > 1e-6:
        worst = int(np.argmax(np.abs(np.diag(V) - 1)))
        raise ValueError(
            f"this model keeps every token at unit length, V_aa = 1, but V0[{worst},{worst}] = "
            f"{V[worst, worst]:g}; pass V0 / sqrt(outer(diag(V0), diag(V0)))"
        )
    if size is None:
        return
    values = np.linalg.eigvalsh(V)
    rank = int(np.sum(values > 1e-8 * max(values[-1], 0)))
    if rank > size:
        raise ValueError(
            f"V0 has rank {rank}, but tokens of {width} = {size:g} units span no more than that: "
            f"take a V0 of rank {size:g} at most, or a larger {width}"
        )


KNOTS = 513  # of the table that stands for a function of depth


def parameters(
    params: Any, kind: Record, ranges: Mapping[str, Sequence[Any]], horizon: float = 1.0
) -> Any:
    """The parameters as Python floats, each inside its declared range.

    A parameter that depends on depth may be a function of t (depth / width): it becomes a table
    (2, KNOTS) of times up to `horizon` and values, read by linear interpolation.
    """
    names = kind._fields
    params = by_name(kind, params)
    if not isinstance(params, tuple) or len(params) != len(names):
        raise ValueError(f"pass Params({', '.join(f'{n}=...' for n in names)}), got {params!r}")
    values: list[Any] = []
    for name, value in zip(names, params, strict=True):
        if ranges.get(name) in (PATTERN, MATRIX):
            values.append((_pattern if ranges[name] == PATTERN else _matrix)(name, value))
            continue
        varies = name in ranges and ranges[name][5:] == (True,)
        if varies and (callable(value) or np.ndim(value) == 2):
            values.append(_table(name, value, ranges[name], horizon))
            continue
        if callable(value) or np.ndim(value):
            raise ValueError(
                f"{name} takes one number; to let it depend on depth, declare it so in the "
                f'definition: params("{name}: ..., depends on depth")'
            )
        values.append(number(name, value))
        in_range(name, values[-1], ranges)
    return kind(*values)


def value_of(params: Any, name: str, default: Any) -> Any:
    """A parameter if there is one of that name; named tuples have methods beside their fields."""
    return getattr(params, name) if name in params._fields else default


def in_range(name: str, number: float, ranges: Mapping[str, Sequence[Any]]) -> None:
    """Raises ValueError for a number outside of the range that the definition states."""
    if math.isnan(number):
        raise ValueError(f"{name} is not a number")
    if name in ranges:
        low, high, low_open, high_open, text = ranges[name][:5]
        low, high = float(low), float(high)
        above = number > low if low_open else number >= low
        below = number < high if high_open else number <= high
        if not (above and below):
            raise ValueError(f"{name} = {number:g} is outside its range: {text}")


def _table(name: str, value: Any, allowed: Sequence[Any], horizon: float) -> np.ndarray:
    """Times and values (2, knots) of a parameter along the depth."""
    if callable(value):
        times = np.linspace(0.0, horizon, KNOTS)
        table = np.stack([times, [number(f"{name}({t:g})", value(t)) for t in times]])
    else:
        table = numbers.array(name, value)
    ordered = table.ndim == 2 and table.shape[0] == 2 and np.all(np.diff(table[0]) > 0)
    if not ordered or not table.shape[1]:
        raise ValueError(f"{name}: a table is an array (2, knots): increasing times, then values")
    for entry in table[1]:
        in_range(name, float(entry), {name: allowed})
    return table


PATTERN, MATRIX = "rows sum to one", "square matrix"


def _matrix(name: str, value: Any) -> np.ndarray:
    """Given numbers (m, m)."""
    p = numbers.array(name, value)
    if p.ndim != 2 or p.shape[0] != p.shape[1] or not p.size:
        raise ValueError(f"{name} must be a square matrix (m, m), got shape {p.shape}")
    if not np.all(np.isfinite(p)):
        raise ValueError(f"{name} must be finite")
    return p


def _pattern(name: str, value: Any) -> np.ndarray:
    """A base pattern (m, m): non-negative, rows summing to one."""
    p = _matrix(name, value)
    rows = p.sum(axis=1)
    worst = int(np.argmax(np.abs(rows - 1)))
    if abs(rows[worst] - 1) > 1e-6 or p.min() < 0:
        raise ValueError(
            f"{name} is no row-stochastic matrix: row {worst} sums to {rows[worst]:.6g}, least "
            f"entry {p.min():.3g}; divide every row by its sum, masked entries zero"
        )
    return p / rows[:, None]


def times(saves: Any, t1: float) -> np.ndarray:
    """Save times in [0, t1], increasing; None: 0 and t1; an integer: that many, equally spaced."""
    t1 = number("t1", t1)
    if not (math.isfinite(t1) and t1 > 0):
        raise ValueError(f"t1 = {t1} must be a positive time")
    if saves is None:
        return np.array([0.0, t1])
    if np.ndim(saves) == 0:
        return np.linspace(0.0, t1, save_count(saves))
    out = numbers.array("saves", saves)
    finite = out.ndim == 1 and len(out) and np.all(np.isfinite(out))
    if not finite or np.any(np.diff(out) <= 0):
        raise ValueError("saves must be an increasing list of times, or their number")
    if out[0] < 0 or out[-1] > t1 * (1 + 1e-12):
        raise ValueError(f"saves must lie in [0, t1 = {t1:g}], got {out[0]:g} to {out[-1]:g}")
    return out


def save_count(saves: Any) -> int:
    count = integer("saves", saves)
    if count < 2:
        raise ValueError("saves, as a number, must be at least 2 (start and end)")
    return count


def positive_integer(name: str, value: Any) -> int:
    return integer(name, value, 1)


def path_range(first: Any, paths: Any) -> tuple[int, int]:
    """Paths first, ..., first + paths - 1 have 32-bit numbers."""
    paths, first = integer("paths", paths, 1), integer("first", first, 0)
    if first + paths > 2**32:
        raise ValueError(
            f"paths are numbered below 2^32 = {2**32}, got {first} to {first + paths - 1}; "
            "use another seed for more"
        )
    return first, paths

"""What a user passes to a control problem, held to its declaration: shapes, kinds and ranges.

Every refusal is a ValueError that says which array, what is wrong with it, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from derive.runtime.common.inputs import in_range
from derive.runtime.common.numbers import finite, number, symmetric
from derive.runtime.common.records import by_name
from derive.runtime.control.coordinates import bind_sizes
from derive.runtime.control.results import Turnpike
from derive.runtime.control.specification import ControlModel

SYMMETRIC = 1e-8  # how far from it, of the largest entry, rounding may be


def real_array(name: str, value: Any) -> np.ndarray:
    """`value` as an array of float64, finite and not empty."""
    found = finite(name, value)
    if not found.size:
        raise ValueError(f"{name} is empty: its shape is {found.shape}")
    return found


def checked_params(spec: ControlModel, params: Any) -> tuple[Any, dict[str, tuple[Any, ...]]]:
    """Params of float64 arrays that are what the definition declared, and the sizes they fix."""
    names = spec.params._fields
    params = by_name(spec.params, params)
    if not isinstance(params, tuple) or len(params) != len(names):
        raise ValueError(f"pass Params({', '.join(f'{n}=...' for n in names)}), got {params!r}")
    values = spec.params(*(real_array(n, v) for n, v in zip(names, params, strict=True)))
    sizes: dict[str, tuple[Any, ...]] = {}
    bind_sizes(spec.param_shapes, values._asdict(), sizes)
    for name, value in values._asdict().items():
        for entry in np.ravel(value) if name in spec.ranges else ():
            in_range(name, float(entry), spec.ranges)
        _check_kind(name, value, spec.kinds.get(name, ""))
    _check_bounds(spec, values)
    if spec.discount is not None and np.any(np.asarray(spec.discount(values)) < 0):
        raise ValueError(
            f"the discount {float(np.min(spec.discount(values))):g} is negative: costs at time t "
            "would count more and more; a rate rho >= 0 counts them exp(-rho t)"
        )
    return values, sizes


def _check_kind(name: str, value: np.ndarray, kind: str) -> None:
    if kind == "symmetric":
        symmetric(name, value, SYMMETRIC)
    if kind == "positive" and np.min(value) <= 0:
        where = tuple(int(k) for k in np.unravel_index(np.argmin(value), value.shape))
        raise ValueError(f"{name} is declared positive, but {name}{list(where)} = {value[where]:g}")


def number_of(value: Any, params: Any) -> Any:
    """A limit of a bound: a number, the name of a parameter or a function of them."""
    if callable(value):
        return value(params)
    return getattr(params, value) if isinstance(value, str) else value


def _check_bounds(spec: ControlModel, params: Any) -> None:
    for name, (kind, *limits) in spec.bounds.items():
        limits = [number_of(v, params) for v in limits]
        if kind == "box" and np.any(np.asarray(limits[0]) >= np.asarray(limits[1])):
            raise ValueError(
                f"the bounds of {name} cross: low {limits[0]} is not below high {limits[1]}"
            )
        if kind != "box" and np.any(np.asarray(limits[-1]) <= 0):
            raise ValueError(f"the bound on the norm of {name} must be positive, got {limits[-1]}")


def checked_state(
    spec: ControlModel, x: Any, sizes: dict[str, tuple[Any, ...]], what: str
) -> tuple[Any, int | None]:
    """A State of arrays, and the size of its leading batch axis (None: no batch)."""
    names = spec.state._fields
    if isinstance(x, Mapping):
        if set(x) != set(names):
            raise ValueError(f"{what} must have the fields {', '.join(names)}, got {sorted(x)}")
        x = spec.state(**x)
    if not isinstance(x, tuple) and len(names) == 1:
        x = spec.state(x)
    if not isinstance(x, tuple) or len(x) != len(names):
        raise ValueError(f"{what} must be State({', '.join(f'{n}=...' for n in names)})")
    extra = {np.ndim(v) - len(spec.state_shapes[n]) for n, v in zip(names, x, strict=True)}
    batch = len(x[0]) if extra == {1} else None
    if batch == 0:
        raise ValueError(f"{what} is an empty batch")
    x = spec.state(*(real_array(f"{what}.{n}", v) for n, v in zip(names, x, strict=True)))
    one = x._asdict() if batch is None else {n: v[0] for n, v in x._asdict().items()}
    bind_sizes(spec.state_shapes, one, sizes)
    if batch is not None and len({len(v) for v in x}) > 1:
        raise ValueError(f"the fields of {what} have different batch sizes")
    for name, value in x._asdict().items():
        if name in spec.symmetric:
            symmetric(f"{what}.{name}", value, SYMMETRIC)
        if name in spec.sphere:
            norms = np.linalg.norm(value, axis=-1)
            if np.max(np.abs(norms - 1)) > 1e-6:
                raise ValueError(
                    f"the rows of {what}.{name} must have norm 1, got {norms.min():.6g} to "
                    f"{norms.max():.6g}; divide each row by its norm"
                )
    return x, batch


def sizes_of(sizes: dict[str, tuple[Any, ...]]) -> dict[str, int]:
    return {name: int(size) for name, (size, _) in sizes.items()}


def checked_turnpike(near: Any) -> Turnpike:
    if not isinstance(near, Turnpike):
        raise ValueError(f"near takes what turnpike(...) returns, got {type(near).__name__}")
    return near


def horizon(T: Any) -> float:
    """T as a positive, finite time."""
    value = number("the horizon T", T)
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"the horizon T = {value:g} must be a positive, finite time")
    return value


def small_number(name: str, value: Any) -> float:
    """A positive number below one."""
    found = number(name, value)
    if not 0 < found < 1:
        raise ValueError(f"{name} must be positive and below 1, got {found:g}")
    return found

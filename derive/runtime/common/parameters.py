"""Parameters that are arrays with symbolic shapes and may carry leading batch axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from derive.runtime.common.inputs import in_range
from derive.runtime.common.numbers import finite
from derive.runtime.common.records import Record, by_name


def parameters(
    kind: Record,
    shapes: Mapping[str, tuple[str, ...]],
    params: Any,
    dims: dict[str, int],
    source: str = "mean0",
    ranges: Mapping[str, Sequence[Any]] = MappingProxyType({}),
) -> tuple[dict[str, np.ndarray], dict[str, tuple[int, ...]]]:
    """Arrays by name, and their batch axes; sizes not known before are added to `dims`.

    `ranges`: of numbers, by parameter, as `inputs.in_range` takes them.
    """
    names = kind._fields
    params = by_name(kind, params)
    if not isinstance(params, (tuple, list)) or len(params) != len(names):
        wanted = ", ".join(f"{n}=..." for n in names)
        raise ValueError(f"pass Params({wanted}), got {type(params).__name__}")
    values, axes = {}, {}
    origin = dict.fromkeys(dims, source)
    for name, given in zip(names, params, strict=True):
        x = finite(name, given)
        for entry in x.ravel() if name in ranges else ():
            in_range(name, float(entry), ranges)
        shape = tuple(shapes.get(name, ()))
        text = f"({', '.join(shape)}{',' if len(shape) == 1 else ''})"
        if x.ndim < len(shape):
            raise ValueError(f"{name} must have shape {text}, got {x.shape}")
        own = x.shape[x.ndim - len(shape) :]
        for symbol, size in zip(shape, own, strict=True):
            if dims.setdefault(symbol, size) != size:
                raise ValueError(
                    f"{name} must have shape {text}, got {own}: {symbol} is {size} here and "
                    f"{dims[symbol]} in {origin[symbol]}"
                )
            origin.setdefault(symbol, name)
        values[name], axes[name] = x, x.shape[: x.ndim - len(shape)]
    return values, axes


def together(
    leads: Mapping[str, tuple[int, ...]],
    values: dict[str, np.ndarray],
    axes: Mapping[str, tuple[int, ...]],
) -> tuple[tuple[int, ...], frozenset[str]]:
    """The common batch axes of `leads`, and the parameters that have any, broadcast to them."""
    try:
        lead = np.broadcast_shapes(*leads.values())
    except ValueError:
        shown = ", ".join(f"{name} {shape}" for name, shape in leads.items() if shape)
        raise ValueError(f"batch axes do not broadcast against each other: {shown}") from None
    batched = frozenset(name for name, shape in axes.items() if shape)
    for name in batched:
        x = values[name]
        values[name] = np.broadcast_to(x, (*lead, *x.shape[len(axes[name]) :]))
    return lead, batched

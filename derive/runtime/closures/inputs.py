"""Checks of what a user passes to a Gaussian closure: what is wrong, where, and what to do."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from derive.runtime.closures.specification import ClosureModel
from derive.runtime.common.numbers import covariances, finite
from derive.runtime.common.records import by_name


class Laws(NamedTuple):
    """Checked input: float64 arrays, `lead` the common batch axes; `dims` sizes by name."""

    mean: np.ndarray  # (*lead, d) or (*lead, B, d)
    cov: np.ndarray
    params: dict[str, np.ndarray]
    batched: frozenset[str]  # parameters that differ from law to law, broadcast to `lead`
    lead: tuple[int, ...]
    dims: dict[str, int]


def laws(spec: ClosureModel, mean0: Any, cov0: Any, params: Any) -> Laws:
    mean, cov = finite("mean0", mean0), finite("cov0", cov0)
    own = 2 if spec.positional else 1
    wanted = "(..., B, d) and (..., B, d, d)" if spec.positional else "(..., d) and (..., d, d)"
    if mean.ndim < own or cov.ndim < own + 1:
        raise ValueError(
            f"mean0 and cov0 must have shapes {wanted}, got {mean.shape} and {cov.shape}"
        )
    sizes = mean.shape[-own:]
    if cov.shape[-own - 1 :] != (*sizes, sizes[-1]):
        raise ValueError(
            f"mean0 and cov0 must have shapes {wanted}; mean0 has {mean.shape}, "
            f"cov0 has {cov.shape}: the last axes do not match"
        )
    cov = covariances("cov0", cov)
    dims = {"d": sizes[-1], **({"B": sizes[0]} if spec.positional else {})}
    values, axes = parameters(spec, params, dims)
    leads = {"mean0": mean.shape[:-own], "cov0": cov.shape[: -own - 1], **axes}
    try:
        lead = np.broadcast_shapes(*leads.values())
    except ValueError:
        shown = ", ".join(f"{name} {shape}" for name, shape in leads.items() if shape)
        raise ValueError(f"batch axes do not broadcast against each other: {shown}") from None
    batched = frozenset(name for name, shape in axes.items() if shape)
    for name in batched:
        x = values[name]
        values[name] = np.broadcast_to(x, (*lead, *x.shape[len(axes[name]) :]))
    return Laws(
        np.broadcast_to(mean, (*lead, *sizes)),
        np.broadcast_to(cov, (*lead, *sizes, sizes[-1])),
        values,
        batched,
        lead,
        dims,
    )


def parameters(
    spec: ClosureModel, params: Any, dims: dict[str, int], source: str = "mean0"
) -> tuple[dict[str, np.ndarray], dict[str, tuple[int, ...]]]:
    """Arrays by name, and their batch axes; sizes not known before are added to `dims`."""
    names = spec.params._fields
    params = by_name(spec.params, params)
    if not isinstance(params, (tuple, list)) or len(params) != len(names):
        wanted = ", ".join(f"{n}=..." for n in names)
        raise ValueError(f"pass Params({wanted}), got {type(params).__name__}")
    values, axes = {}, {}
    origin = dict.fromkeys(dims, source)
    for name, given in zip(names, params, strict=True):
        x = finite(name, given)
        shape = tuple(spec.param_shapes.get(name, ()))
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


def factor(cov: np.ndarray) -> np.ndarray:
    """F with F F^T = cov, by eigenvectors; eigenvalues that are rounding give zero columns."""
    values, vectors = np.linalg.eigh(cov)
    floor = 8 * cov.shape[-1] * np.finfo(cov.dtype).eps * np.maximum(values[..., -1:], 0)
    return vectors * np.sqrt(np.where(values > floor, values, 0))[..., None, :]

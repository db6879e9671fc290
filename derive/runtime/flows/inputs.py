"""Checks of what a user passes to a flow of tokens: what is wrong, where, and what to do."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from derive.runtime.common.numbers import finite, number, place, positive, symmetric
from derive.runtime.common.parameters import parameters, together
from derive.runtime.flows.specification import FlowModel

OFF = {np.dtype(np.float32): 1e-5, np.dtype(np.float16): 1e-2}  # of unit length, by rounding
ROUNDED = 1e-11  # ... of float64


class Systems(NamedTuple):
    """Checked input: float64 arrays, `lead` the common batch axes."""

    x: np.ndarray  # (*lead, n, d)
    params: dict[str, np.ndarray]
    batched: frozenset[str]  # parameters that differ from system to system, broadcast to `lead`
    lead: tuple[int, ...]


def systems(spec: FlowModel, x0: Any, params: Any, project: bool) -> Systems:
    rounding = OFF.get(getattr(x0, "dtype", None), ROUNDED)
    x = finite("x0", x0)
    if x.ndim < 2 or not x.size:
        raise ValueError(f"x0 must have shape (..., n, d): n tokens of d entries, got {x.shape}")
    n, d = x.shape[-2:]
    if n < 2:
        raise ValueError(
            f"x0 holds one token, {x.shape}; tokens move among others: pass two or more"
        )
    if spec.sphere:
        x = on_sphere("x0", x, project, rounding)
    values, axes = parameters(
        spec.params, spec.param_shapes, params, {"n": n, "d": d}, "x0", spec.ranges
    )
    lead, batched = together({"x0": x.shape[:-2], **axes}, values, axes)
    return Systems(np.broadcast_to(x, (*lead, n, d)), values, batched, lead)


def on_sphere(name: str, x: np.ndarray, project: bool, rounding: float = ROUNDED) -> np.ndarray:
    if x.shape[-1] < 2:
        raise ValueError(f"{name} has one entry a token: the sphere of that dimension is two points")
    lengths = np.linalg.norm(x, axis=-1)
    off = np.abs(lengths - 1)
    if not project and np.max(off) > rounding:
        worst = np.unravel_index(np.argmax(off), off.shape)
        raise ValueError(
            f"{name}{place(worst)} has length {lengths[worst]:.12g}, {off[worst]:.3g} off the unit "
            "sphere on which this model's tokens live; pass project=True if their directions are "
            "what you mean"
        )
    if np.min(lengths) == 0:
        where = np.unravel_index(np.argmin(lengths), lengths.shape)
        raise ValueError(f"{name}{place(where)} is zero and has no direction to project on the sphere")
    return x / lengths[..., None]


def tolerance(rtol: Any, atol: Any, kind: np.dtype) -> tuple[float, float | None]:
    rtol = number("rtol", rtol)
    least = 8 * float(np.finfo(kind).eps)
    if not least <= rtol < 1:
        raise ValueError(
            f"rtol = {rtol:g} must lie in [{least:.2g}, 1): eight roundings of {kind} at least"
            + ("; pass rtol=1e-5, say" if kind == np.float32 else "")
        )
    return rtol, None if atol is None else positive("atol", atol)


def fraction(name: str, value: Any) -> float:
    found = number(name, value)
    if not 0 < found < 1:
        raise ValueError(f"{name} = {found:g} must lie in (0, 1)")
    return found


class Start(NamedTuple):
    """Checked clusters: inner products, masses with sum one, one set of parameters."""

    gram: np.ndarray
    masses: np.ndarray
    params: dict[str, np.ndarray]


def clusters(spec: FlowModel, gram0: Any, masses: Any, params: Any) -> Start:
    R = finite("gram0", gram0)
    if R.ndim != 2 or R.shape[0] != R.shape[1] or len(R) < 2:
        raise ValueError(f"gram0 must have shape (K, K) with K >= 2 clusters, got {R.shape}")
    R = symmetric("gram0", R, 1e-10)
    if spec.sphere and np.max(np.abs(np.diag(R) - 1)) > 1e-10:
        worst = int(np.argmax(np.abs(np.diag(R) - 1)))
        raise ValueError(
            f"gram0[{worst}, {worst}] = {R[worst, worst]:.12g}, but clusters on the sphere have "
            "length one; divide by sqrt(outer(diag, diag))"
        )
    least = float(np.linalg.eigvalsh(R)[0])
    if least < -1e-10 * max(float(np.max(np.abs(R))), 1.0) * len(R):
        raise ValueError(
            f"gram0 is not positive semi-definite (smallest eigenvalue {least:.3g}): no vectors "
            "have these inner products"
        )
    return Start(R, weights(masses, len(R)), _single(spec, params, len(R)))


def weights(masses: Any, count: int) -> np.ndarray:
    found = finite("masses", masses)
    if found.shape != (count,):
        raise ValueError(f"masses must have shape ({count},), one a cluster, got {found.shape}")
    if np.min(found) <= 0:
        worst = int(np.argmin(found))
        raise ValueError(f"masses[{worst}] = {found[worst]:g} must be positive")
    total = math.fsum(found)
    if abs(total - 1) > 1e-9:
        raise ValueError(f"masses sum to {total:.12g}, not to one; pass masses / masses.sum()")
    return found / total


def _single(spec: FlowModel, params: Any, count: int) -> dict[str, np.ndarray]:
    values, axes = parameters(
        spec.params, spec.param_shapes, params, {"n": count}, "gram0", spec.ranges
    )
    batched = [name for name, shape in axes.items() if shape]
    if batched:
        raise ValueError(f"clusters take one set of parameters; {batched[0]} has batch axes")
    return values

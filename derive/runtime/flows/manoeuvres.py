"""Array words of manoeuvres: parameters that move whole laws, and how long they take.

Arrays of NumPy give arrays of NumPy, whatever the precision of JAX is; JAX arrays give JAX arrays,
under jit too.  Imports jax and numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

CORNER = 1e-7  # relative: a quadratic nearer to c E^2 or to a constant has no digits left here


def vectors(**given: Any) -> list[Any]:
    """Arrays of floating point, all of one shape (d,); raises ValueError where they are not."""
    arrays = [v if isinstance(v, jax.Array) else np.asarray(v) for v in given.values()]
    shapes = {np.shape(v) for v in arrays}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        told = ", ".join(f"{n} {np.shape(v)}" for n, v in zip(given, arrays, strict=True))
        raise ValueError(f"vectors of one shape (d,) are needed, not {told}")
    return [v if v.dtype.kind == "f" else v.astype(float) for v in arrays]


def filled(shape: tuple[int, ...], value: Any, like: Any) -> Any:
    """An array of that shape with `value`, which broadcasts, in the dtype of `like`."""
    xp = _library(value, like)
    return xp.broadcast_to(xp.asarray(value, like.dtype), shape)


def elementary(name: str, value: Any) -> Any:
    """A function of numbers by name."""
    return getattr(_library(value), name)(value)


def positive_part(value: Any) -> Any:
    """The positive part of numbers or arrays."""
    return _library(value).maximum(value, 0)


def time_by_roots(poles: Sequence[tuple[Any, Any]], start: Any, end: Any) -> Any:
    """sum of share * log((end - root) / (start - root)) over (share, root): the time from start to
    end, infinite where a root lies between."""
    xp = _library(start, end, *(x for pole in poles for x in pole))
    with np.errstate(all="ignore"):
        way = end - start
        parts = [share * xp.log1p(way / (start - root)) for share, root in poles]
        blocked = [(start - root) * (end - root) <= 0 for _, root in poles]
        never = np.logical_or.reduce(blocked) if xp is np else xp.stack(blocked).any(0)
        return xp.where(never & (way != 0), xp.inf, sum(parts))


def time_of_exponentials(N: Sequence[Any], Q: Sequence[Any], start: Any, end: Any) -> Any:
    """The integral of N(E) du / Q(E), E = exp(u), from start to end, N, Q = (1, E, E^2)'s numbers.

    It is a time where N > 0: infinite where Q has a root on the way or is negative, nan where Q is
    all but a multiple of E^2 or a constant.
    """
    xp = _library(start, end, *N, *Q)
    start, end, c, b, a = (xp.asarray(v) for v in (start, end, *Q))
    with np.errstate(all="ignore"):
        half = b / 2
        many = abs(a * c) <= half**2 / 2
        time = xp.where(
            many,
            _by_reciprocal_roots(xp, N, (c, half, a), start, end),
            _by_fractions(xp, N, (c, half, a), start, end),
        )
        first, last = xp.exp(start), xp.exp(end)
        low, high = c + (b + a * first) * first, c + (b + a * last) * last
        trough = (a * first + half) * (a * last + half) < 0
        closed = (low <= 0) | (high <= 0) | (trough & (a > 0) & (half**2 >= a * c))
        corner = half**2 + abs(a * c) < CORNER * (a**2 + c**2)
        time = xp.where(corner, xp.nan, time)
        return xp.where(closed & (start != end), xp.inf, time)


def _by_reciprocal_roots(xp: Any, N: Any, Q: Any, start: Any, end: Any) -> Any:
    """Q = S (E - r) (1 - rho E): no digits are lost where r or rho is small."""
    (n0, n1, n2), (c, half, a) = N, Q
    sign = xp.where(half < 0, -1.0, 1.0)
    root = xp.sqrt(half**2 - a * c)
    S = half + sign * root
    r, rho = -c / S, -a / S
    own = (n0 * rho + n1 + n2 * r) * (end - start)
    at_r = (n0 + (n1 + n2 * r) * r) * _log_share(xp, r, xp.exp(-start), xp.exp(-end))
    at_rho = (n2 + (n1 + n0 * rho) * rho) * _log_share(xp, rho, xp.exp(start), xp.exp(end))
    return (own + at_r - at_rho) / (2 * sign * root)


def _log_share(xp: Any, r: Any, first: Any, last: Any) -> Any:
    """log((1 - r last) / (1 - r first)) / r."""
    way = -(last - first) / (1 - r * first)
    return way * xp.where(r * way == 0, 1.0, xp.log1p(r * way) / (r * way))


def _by_fractions(xp: Any, N: Any, Q: Any, start: Any, end: Any) -> Any:
    """N / (E Q) = A / E + (B Q' + F) / Q: no digits are lost where Q has all but a double root."""
    (n0, n1, n2), (c, half, a) = N, Q
    first, last = xp.exp(start), xp.exp(end)
    A = n0 / c
    B = (n2 - A * a) / (2 * a)
    F = n1 - (A + B) * 2 * half
    low = c + (2 * half + a * first) * first
    rise = (last - first) * (a * (first + last) + 2 * half)
    across = a * first * last + half * (first + last) + c
    area = _area(xp, half**2 - a * c, last - first, across)
    return A * (end - start) + B * xp.log1p(rise / low) + F * area


def _area(xp: Any, D: Any, way: Any, across: Any) -> Any:
    """The integral of dE / Q: an inverse tangent, hyperbolic where D > 0, way / across at D = 0."""
    root = xp.sqrt(abs(D))
    straight = way / across
    small = root * abs(straight) < 1e-4
    bent = xp.where(D > 0, xp.arctanh(root * straight), xp.arctan2(root * way, across)) / root
    return xp.where(small & (across > 0), straight * (1 + D * straight**2 / 3), bent)


def _library(*values: Any) -> Any:
    return jnp if any(isinstance(v, jax.Array) for v in values) else np

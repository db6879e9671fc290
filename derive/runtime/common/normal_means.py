"""E f(s) over a normal variable s, with derivatives that are right at a variance of zero.

The nodes m + sqrt(v) z have no derivative by v at v = 0, and lose its digits near it; E f has: by
Price's rule half of E f''.  Imports jax and numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.batch_axes import padded
from derive.runtime.common.fineness import REACH, fineness

Scalar = Callable[..., jax.Array]  # of the variable, and of what else is given
Given = tuple[jax.Array, ...]
NODES, SIDE = 241, 48


def gaussian_mean(
    function: Scalar, mean: Any, var: Any, kinks: Any = (), given: Any = ()
) -> jax.Array:
    """E function(s, *given), s ~ N(mean, var), entry by entry.

    Trapezoidal rule over the standard normal: for a function with its nearest singularity at
    distance a from the real axis the error is exp(-2 pi a / (h sqrt(var))), h = 0.075; with kinks,
    Gauss-Legendre between them.  Derivatives of every order, at a variance of zero too; there, the
    one by the variance is infinite if the mean is at a kink (a number of the order 1e77 here).
    """
    dtype = jnp.result_type(mean, var)
    mean, var = jnp.asarray(mean, dtype), jnp.asarray(var, dtype)
    more = [jnp.asarray(g, dtype) for g in given]
    rank = max(a.ndim for a in (mean, var, *more))
    mean, var, *more = jnp.broadcast_arrays(*(padded(a, 0, rank) for a in (mean, var, *more)))
    if len(kinks):
        return _split_mean(function, tuple(sorted(kinks)), fineness(), mean, var, tuple(more))
    return _smooth_mean(function, fineness(), mean, var, tuple(more))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _smooth_mean(
    function: Scalar, level: int, mean: jax.Array, var: jax.Array, given: Given
) -> jax.Array:
    z = np.linspace(-REACH, REACH, NODES * level)
    w = np.exp(-(z**2) / 2)
    shape = (1,) * mean.ndim + z.shape
    spread = jnp.sqrt(jnp.maximum(var, 0))[..., None]
    at = mean[..., None] + spread * jnp.asarray(z, mean.dtype).reshape(shape)
    values = function(at, *(g[..., None] for g in given))
    return (values * jnp.asarray(w / w.sum(), mean.dtype).reshape(shape)).sum(axis=-1)


@_smooth_mean.defjvp
def _smooth_slope(
    function: Scalar, level: int, primals: tuple[Any, Any, Any], tangents: tuple[Any, Any, Any]
) -> tuple[Any, Any]:
    """Price: d E f = E f' dm + E f'' dv / 2, and so on for the derivatives of these."""
    value = _smooth_mean(function, level, *primals)
    return value, _price(function, level, *primals, *tangents)


def _price(
    function: Scalar, level: int, mean: Any, var: Any, given: Given, d_mean: Any, d_var: Any,
    d_given: Given,
) -> jax.Array:  # fmt: skip
    first = _derivative(function)
    by_mean = _smooth_mean(first, level, mean, var, given)
    by_var = _smooth_mean(_derivative(first), level, mean, var, given)
    out = by_mean * d_mean + by_var / 2 * d_var
    if given:
        out = out + _smooth_mean(_by_given(function), level, mean, var, (*given, *d_given))
    return out


def _derivative(function: Scalar) -> Scalar:
    """f' of a function that acts entry by entry."""
    return lambda s, *given: jax.jvp(lambda s: function(s, *given), (s,), (jnp.ones_like(s),))[1]


def _by_given(function: Scalar) -> Scalar:
    """The slope of a function by what is given, along the second half of it."""

    def slope(s: jax.Array, *both: jax.Array) -> jax.Array:
        here, along = both[: len(both) // 2], both[len(both) // 2 :]
        alike = tuple(jnp.broadcast_to(a, g.shape) for a, g in zip(along, here, strict=True))
        return jax.jvp(lambda *given: function(s, *given), here, alike)[1]

    return slope


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _split_mean(
    function: Scalar,
    kinks: tuple[Any, ...],
    level: int,
    mean: jax.Array,
    var: jax.Array,
    given: Given,
) -> jax.Array:
    out = _between_kinks(function, kinks, level, mean, var, given)
    return jnp.where(var > 0, out, function(mean, *given))


@_split_mean.defjvp
def _split_slope(
    function: Scalar,
    kinks: tuple[Any, ...],
    level: int,
    primals: tuple[Any, Any, Any],
    tangents: tuple[Any, Any, Any],
) -> tuple[Any, Any]:
    """By the nodes where a kink is in reach of the law, by Price where none is.

    What is not taken is computed at a place where it is finite.
    """
    mean, var, given = primals
    reach = REACH * jnp.sqrt(jnp.maximum(var, 0))
    near = jnp.stack([jnp.abs(mean - kink) <= reach for kink in kinks]).any(axis=0)
    _, by_nodes = jax.jvp(
        partial(_between_kinks, function, kinks, level),
        (mean, jnp.where(near, var, 1), given),
        tangents,
    )
    off, none = jnp.where(near, kinks[-1] + 1, mean), jnp.where(near, 0, var)
    slope = jnp.where(near, by_nodes, _price(function, level, off, none, given, *tangents))
    return _split_mean(function, kinks, level, mean, var, given), slope


def _between_kinks(
    function: Scalar,
    kinks: tuple[Any, ...],
    level: int,
    mean: jax.Array,
    var: jax.Array,
    given: Given,
) -> jax.Array:
    dtype = mean.dtype
    side = SIDE * level
    z, w = (jnp.asarray(a, dtype) for a in np.polynomial.legendre.leggauss(side))
    # large, not infinite, slopes at zero: a change that is zero there stays zero
    floor = float(jnp.finfo(dtype).tiny) ** 0.5
    spread = jnp.sqrt(var + floor)
    ends = [jnp.full(mean.shape, -REACH, dtype)]
    for kink in kinks:
        ends.append(jnp.clip((kink - mean) / spread, -REACH, REACH))
    ends.append(jnp.full(mean.shape, REACH, dtype))
    out = jnp.zeros(mean.shape, dtype)
    for low, high in zip(ends[:-1], ends[1:], strict=True):
        # two halves, so that the bulk of the normal stays resolved
        middle = (low + high) / 2
        for a, b in ((low, middle), (middle, high)):
            half = ((b - a) / 2)[..., None]
            at = ((a + b) / 2)[..., None] + half * z.reshape((1,) * mean.ndim + (side,))
            density = jnp.exp(-at * at / 2) / np.sqrt(2 * np.pi)
            reached = mean[..., None] + spread[..., None] * at
            values = function(reached, *(g[..., None] for g in given))
            weight = w.reshape((1,) * mean.ndim + (side,))
            out = out + (half * weight * density * values).sum(axis=-1)
    return out

"""Quadratures of generated Gaussian closures, and the estimates of their errors.

One-dimensional: `gaussian_mean` (function of a normal variable), `fourier_mean` (Fourier integral).
Every rule converges exponentially, so its error is the distance to the same rule made finer
(`quadrature_error`).  Over the law of the queries: `derive.runtime.closure_cubature`.  Imports jax
and numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.closure_cubature import cubature_error, cubature_rates
from derive.runtime.closure_fineness import REACH, fineness, finer, largest
from derive.runtime.closure_ops import _padded

__all__ = [
    "cubature_error",
    "cubature_rates",
    "finer",
    "fourier_mean",
    "gaussian_mean",
    "quadrature_error",
]

NODES, SIDE = 241, 48
LEVELS = 33  # scales 1, 2, 4, ... of the argument of a function


def quadrature_error(
    function: Callable[..., Any], axes: Sequence[int], *arguments: Any
) -> jax.Array:
    """Relative error of the quadratures in function(*arguments), the largest of its outputs.

    The distance to the same rules with twice the nodes, per law; `axes`: of each output, how many
    axes belong to one law.
    """
    plain = jax.tree.leaves(function(*arguments))
    with finer():
        better = jax.tree.leaves(function(*arguments))
    return largest([(p - b, b) for p, b in zip(plain, better, strict=True)], axes)


def gaussian_mean(
    function: Callable[[jax.Array], jax.Array], mean: Any, var: Any, kinks: Any = ()
) -> jax.Array:
    """E function(s), s ~ N(mean, var), entry by entry.

    Trapezoidal rule over the standard normal: for a function with its nearest singularity at
    distance a from the real axis the error is exp(-2 pi a / (h sqrt(var))), h = 0.075.
    """
    nodes = NODES * fineness()
    z = np.linspace(-REACH, REACH, nodes)
    w = np.exp(-(z**2) / 2)
    dtype = jnp.result_type(mean, var)
    mean, var = jnp.asarray(mean)[..., None], jnp.asarray(var)[..., None]
    rank = max(mean.ndim, var.ndim)
    mean, var = _padded(mean, 0, rank), _padded(var, 0, rank)
    shape = (1,) * (rank - 1) + (nodes,)
    # the square root at a variance of zero has no derivative; none is needed there
    safe = jnp.where(var > 0, var, 1)
    spread = jnp.where(var > 0, jnp.sqrt(safe), 0)
    if len(kinks):
        return _piecewise_mean(function, mean[..., 0], spread[..., 0], kinks)
    at = mean + spread * jnp.asarray(z, dtype).reshape(shape)
    return (function(at) * jnp.asarray(w / w.sum(), dtype).reshape(shape)).sum(axis=-1)


def _piecewise_mean(
    function: Callable[[jax.Array], jax.Array], mean: jax.Array, spread: jax.Array, kinks: Any
) -> jax.Array:
    """The same for a function with kinks: Gauss-Legendre between them."""
    dtype = mean.dtype
    side = SIDE * fineness()
    z, w = (jnp.asarray(a, dtype) for a in np.polynomial.legendre.leggauss(side))
    safe = jnp.where(spread > 0, spread, 1)
    ends = [jnp.full(mean.shape, -REACH, dtype)]
    for kink in sorted(kinks):
        place = jnp.where(spread > 0, (kink - mean) / safe, REACH)
        ends.append(jnp.clip(place, -REACH, REACH))
    ends.append(jnp.full(mean.shape, REACH, dtype))
    out = jnp.zeros(mean.shape, dtype)
    for low, high in zip(ends[:-1], ends[1:], strict=True):
        # two halves, so that the bulk of the normal stays resolved
        middle = (low + high) / 2
        for a, b in ((low, middle), (middle, high)):
            half = ((b - a) / 2)[..., None]
            at = ((a + b) / 2)[..., None] + half * z.reshape((1,) * mean.ndim + (side,))
            density = jnp.exp(-at * at / 2) / np.sqrt(2 * np.pi)
            values = function(mean[..., None] + spread[..., None] * at)
            weight = w.reshape((1,) * mean.ndim + (side,))
            out = out + (half * weight * density * values).sum(axis=-1)
    return jnp.where(spread > 0, out, function(mean))


@lru_cache(maxsize=64)
def _frequencies(
    derivative: Callable[[jax.Array], jax.Array],
    order: int,
    reach: float,
    support: float,
    count: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes u and weights (real and imaginary part) for each scale, (LEVELS, count).

    weight = phi(u) du / pi / (iu)^order, phi the transform of `derivative`: a trapezoidal sum of
    spacing 2 pi / (2.5 reach), so that what is folded back lies beyond 1.5 reach.
    """
    half = int(np.ceil(support * 2.5 * reach / (2 * np.pi)))
    s = np.linspace(-support, support, 2 * half + 1)
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        values = np.asarray(derivative(jnp.asarray(s))) * (support / half)
    even, odd = (values + values[::-1]) / 2, (values - values[::-1]) / 2
    nodes, weights = [], []
    for level in range(LEVELS):
        scale = 1 / (1 + 2.0**level)
        h = np.arcsinh(reach / scale) / count
        t = h * (np.arange(count) + 0.5)
        u = scale * np.sinh(t)
        phase = np.outer(u, s)
        transform = np.cos(phase) @ even - 1j * (np.sin(phase) @ odd)
        nodes.append(u)
        weights.append(transform * (scale * np.cosh(t) * h / np.pi) / (1j * u) ** order)
    w = np.array(weights)
    return np.array(nodes), w.real.copy(), w.imag.copy()


def fourier_mean(
    wave: Callable[[Any], tuple[Any, ...]],
    powers: list[tuple[Any, ...]],
    taylor: list[float],
    derivative: Callable[[jax.Array], jax.Array],
    size: Any,
    reach: float,
    support: float,
    count: int,
) -> tuple[jax.Array, ...]:
    """Averages of f(s) * polynomials from those of e^{ius}: Taylor part plus Fourier integral.

    `wave(u)`: the averages with e^{ius} for f, complex.  `powers[j]`: with s^j for f.  `taylor[j]`:
    f^(j)(0)/j!.  `derivative`: f^(k), k = len(powers), integrable with light tails.  `size`: E s^2,
    the scale on which e^{ius} changes.  f^(k) is below rounding outside [-support, support], its
    transform beyond the frequency reach.  `count`: nodes.

    u = sinh(t) / (1 + r), r about sqrt(size), midpoints in t: the nearest singularity of the
    average, at distance about 1 / r in u, stays at distance pi/2 in t.  r is a power of two, so the
    nodes and the transform are tables.
    """
    k = len(powers)
    dtype = jnp.result_type(size, float)
    tables = _frequencies(derivative, k, reach, support, count * fineness())
    level = jnp.round(jnp.log2(jnp.maximum(size, 1.0)) / 2).astype(jnp.int32)
    level = jnp.minimum(level, LEVELS - 1)
    u, real, imaginary = (jnp.moveaxis(jnp.asarray(table, dtype)[level], -1, 0) for table in tables)

    start = jax.eval_shape(wave, u[0])
    lead = u.ndim - 1
    cores = [a.ndim - lead for a in start]
    beside = lambda x, core: x.reshape(x.shape + (1,) * core)  # noqa: E731
    powers = [
        tuple(_padded(p, core, lead) for p, core in zip(pair, cores, strict=True))
        for pair in powers
    ]

    def one(carry: Any, node: Any) -> tuple[Any, None]:
        at, a, b = node
        out = []
        for position, (sum_, value) in enumerate(zip(carry, wave(at), strict=True)):
            core = cores[position]
            re, im = jnp.real(value), jnp.imag(value)
            for j in range(k):  # e^{ius} minus its Taylor part
                share = at**j / float(np.prod(np.arange(1, j + 1)))
                part = beside(share, core) * powers[j][position]
                re = re - (1, 0, -1, 0)[j % 4] * part
                im = im - (0, 1, 0, -1)[j % 4] * part
            out.append(sum_ + beside(a, core) * re - beside(b, core) * im)
        return tuple(out), None

    carry = tuple(jnp.zeros(a.shape, dtype) for a in start)
    out, _ = jax.lax.scan(one, carry, (u, real, imaginary))
    for j in range(k):
        out = tuple(o + taylor[j] * p for o, p in zip(out, powers[j], strict=True))
    return out

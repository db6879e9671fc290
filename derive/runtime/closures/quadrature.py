"""Quadratures of generated Gaussian closures, and the estimates of their errors.

One-dimensional: `gaussian_mean` (function of a normal variable), `fourier_mean` (Fourier integral).
Every rule converges exponentially, so its error is the distance to the same rule made finer
(`quadrature_error`).  Over the law of the queries: `derive.runtime.closures.cubature`.  Imports jax
and numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.closures.cubature import cubature_error, cubature_rates
from derive.runtime.closures.cubature_nodes import key_nodes
from derive.runtime.common.batch_axes import padded
from derive.runtime.common.batched_words import contract
from derive.runtime.common.fineness import fineness, finer, largest
from derive.runtime.common.matrix_functions import factor
from derive.runtime.common.normal_means import gaussian_mean

__all__ = [
    "cubature_error",
    "cubature_rates",
    "finer",
    "fourier_mean",
    "gaussian_mean",
    "law_nodes",
    "node_weights",
    "quadrature_error",
]


def law_nodes(mean: Any, cov: Any) -> jax.Array:
    """Nodes of N(mean, cov), (..., nodes, d): product rules to dimension 3, above it lattices."""
    z, _ = key_nodes(jnp.shape(mean)[-1], fineness(), jnp.result_type(mean))
    away = contract("ij,kj->ki", factor(cov), z)
    lead = max(jnp.ndim(mean) - 1, away.ndim - 2)
    return padded(mean[..., None, :], 2, lead) + padded(away, 2, lead)


def node_weights(mean: Any) -> jax.Array:
    """Their weights, (nodes,), of sum one."""
    return key_nodes(jnp.shape(mean)[-1], fineness(), jnp.result_type(mean))[1]


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
        tuple(padded(p, core, lead) for p, core in zip(pair, cores, strict=True)) for pair in powers
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

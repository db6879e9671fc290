"""Array words of generated token flows: tangents, masses, means over the sphere.

Imports jax and numpy alone.  Everything is pure and keeps the dtype of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

EXACT = jax.lax.Precision.HIGHEST
NODES = 256  # of the angle: means of analytic functions are exact to rounding up to beta = 1e3
LARGEST = 40_000  # dimension: the uniform law's angles crowd within 1 / sqrt(d)


def relu(value: jax.Array) -> jax.Array:
    """The positive part."""
    return jax.nn.relu(value)


def exp_or_nan(value: jax.Array) -> jax.Array:
    """exp, and nan where the third power of it would overflow."""
    value = jnp.asarray(value)
    most = float(np.log(jnp.finfo(jnp.result_type(value, float)).max)) / 3
    return jnp.where(value < most, jnp.exp(value), jnp.nan)


def tangent(velocity: jax.Array, x: jax.Array) -> jax.Array:
    """v - <v, x> x for tokens x (n, d) of unit length."""
    return velocity - jnp.sum(velocity * x, axis=-1, keepdims=True) * x


def equal_masses(like: jax.Array) -> jax.Array:
    """Masses 1/n of the n rows of `like` (n, ...)."""
    n = jnp.shape(like)[0]
    return jnp.full(n, 1 / n, jnp.asarray(like).dtype)


def towards(products: jax.Array) -> jax.Array:
    """T[a, b, k] = <P_a x_k, x_b> = R[k, b] - R[a, b] R[a, k] of unit vectors, R (n, n).

    Taken term by term, so that T[a, b, a] is zero: a sum over k weighted by what a sees keeps the
    digits of small weights.
    """
    R = jnp.asarray(products)
    return R.T[None, :, :] - R[:, :, None] * R[:, None, :]


def in_frame(
    velocity: Callable[[jax.Array], jax.Array], M: jax.Array, z: jax.Array, t: Any
) -> jax.Array:
    """exp(-t M) (v(x) - M x) for tokens x = exp(t M) z, (n, d)."""
    ahead = jax.scipy.linalg.expm(t * M)
    back = jax.scipy.linalg.expm(-t * M)
    x = jnp.matmul(z, ahead.T, precision=EXACT)
    rest = velocity(x) - jnp.matmul(x, M.T, precision=EXACT)
    return jnp.matmul(rest, back.T, precision=EXACT)


def in_frame_of_average(
    attention: Callable[[jax.Array], jax.Array], M: jax.Array, z: jax.Array, t: Any
) -> jax.Array:
    """sum_b P_ab M (z_b - z_a), P the attention (n, n) of tokens x = exp(t M) z: no large terms
    cancel, as M commutes with exp(t M) and rows of P sum to one."""
    x = jnp.matmul(z, jax.scipy.linalg.expm(t * M).T, precision=EXACT)
    mean = jnp.matmul(attention(x), z, precision=EXACT)
    return jnp.matmul(mean - z, M.T, precision=EXACT)


def cosines(theta: jax.Array) -> jax.Array:
    """cos(theta_a - theta_b), (n, n)."""
    return jnp.cos(theta[:, None] - theta[None, :])


def sines(theta: jax.Array) -> jax.Array:
    """sin(theta_b - theta_a), (n, n)."""
    return jnp.sin(theta[None, :] - theta[:, None])


def with_transpose(half: jax.Array) -> jax.Array:
    """half + its transpose."""
    return half + half.mT


def by_pairs(rate: Callable[[jax.Array], jax.Array], products: jax.Array) -> jax.Array:
    """Derivative (pairs, pairs) of symmetric rates (K, K) by the products of K unit vectors; pairs
    a < b in the order of rows, the diagonal stays."""
    rows, columns = np.triu_indices(jnp.shape(products)[0], 1)

    def of_pairs(pairs: jax.Array) -> jax.Array:
        one = jnp.asarray(products).at[rows, columns].set(pairs).at[columns, rows].set(pairs)
        return rate(one)[rows, columns]

    return jax.jacfwd(of_pairs)(jnp.asarray(products)[rows, columns])


def uniform_mean(weight: Callable[[jax.Array], jax.Array], d: Any) -> jax.Array:
    """Mean of weight(t) over the uniform law on the sphere of R^d, t the first coordinate."""
    angle, share = _angles(d, 0)
    return _scale(d) * jnp.sum(share * jnp.sin(angle) ** (d - 2) * weight(jnp.cos(angle)))


def growth_rate(push: Callable[[jax.Array], jax.Array], degree: int, d: Any) -> jax.Array:
    """c_d int f(t) P_k'(t) (1 - t^2)^((d-1)/2) dt, f = push, P_k of Gegenbauer with P_k(1) = 1."""
    if not isinstance(degree, (int, np.integer)) or degree < 1:
        raise ValueError(f"degree = {degree!r} must be a positive integer, and static under jit")
    angle, share = _angles(d, int(degree))
    t = jnp.cos(angle)
    inside = push(t) * _zonal_slope(int(degree), d, t)
    return _scale(d) * jnp.sum(share * jnp.sin(angle) ** d * inside)


def largest(exponent: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The largest value of a function of the cosine t."""
    return jnp.max(exponent(jnp.linspace(-1.0, 1.0, NODES + 1)))


def largest_share(growth: Callable[[int], jax.Array], degrees: int, d: Any) -> jax.Array:
    """The largest of growth(k) / (k (k + d - 2)), k = 1 to `degrees`: what a unit of noise takes
    from a harmonic of degree k is k (k + d - 2)."""
    if not isinstance(degrees, (int, np.integer)) or degrees < 1:
        raise ValueError(f"degrees = {degrees!r} must be a positive integer, and static under jit")
    shares = [growth(k) / (k * (k + d - 2)) for k in range(1, int(degrees) + 1)]
    return jnp.max(jnp.stack(shares))


def _angles(d: Any, degree: int) -> tuple[jax.Array, jax.Array]:
    """Gauss points of the angle, enough for sin^d and the harmonic; of a traced d, for d <= 500."""
    largest = 0.0 if isinstance(d, jax.core.Tracer) else float(np.max(d))
    if largest > LARGEST:
        raise ValueError(f"d = {largest:g}: growth is integrated by points up to d = {LARGEST}")
    more = 2 * degree + 5 * int(np.sqrt(largest))
    z, w = _gauss(NODES + 64 * -(-more // 64))  # few numbers: the points of each take a while
    dtype = jnp.result_type(float)
    return jnp.asarray((z + 1) * np.pi / 2, dtype), jnp.asarray(w * np.pi / 2, dtype)


@lru_cache(maxsize=16)
def _gauss(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(nodes)


def _scale(d: Any) -> jax.Array:
    """Gamma(d/2) / (sqrt(pi) Gamma((d-1)/2))."""
    half = jnp.asarray(d, jnp.result_type(float)) / 2
    return jnp.exp(jax.lax.lgamma(half) - jax.lax.lgamma(half - 0.5)) / np.sqrt(np.pi)


def _zonal_slope(degree: int, d: Any, t: jax.Array) -> jax.Array:
    """P_k'(t), by the recurrence of P_k differentiated."""
    old, now = jnp.ones_like(t), t
    slope_old, slope = jnp.zeros_like(t), jnp.ones_like(t)
    for k in range(1, degree):
        a, b = (2 * k + d - 2) / (k + d - 2), k / (k + d - 2)
        old, now, slope_old, slope = (
            now,
            a * t * now - b * old,
            slope,
            a * (now + t * slope) - b * slope_old,
        )
    return slope

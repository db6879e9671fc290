"""Functions of positive semi-definite matrices, and their derivatives.

`sandwich` is smooth in both of its matrices, singular ones and equal eigenvalues included, and its
derivatives of every order say so: none divides by a gap of eigenvalues or by an eigenvalue.
Imports jax, `rings` and `small_matrices` of the runtime alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from derive.runtime.common import small_matrices
from derive.runtime.common.rings import Frame, Function, Pair

EXACT = jax.lax.Precision.HIGHEST
Scalar = Callable[[Any], Any]


def product(*matrices: jax.Array) -> jax.Array:
    """Matrix product in full precision."""
    return functools.reduce(lambda a, b: jnp.matmul(a, b, precision=EXACT), matrices)


def rebuilt(vectors: jax.Array, values: jax.Array) -> jax.Array:
    """vectors diag(values) vectors^T."""
    return product(vectors * values[..., None, :], vectors.mT)


def turned(vectors: jax.Array, share: jax.Array, change: jax.Array) -> jax.Array:
    """vectors (share * vectors^T change vectors) vectors^T, change symmetrised."""
    inner = product(vectors.mT, (change + change.mT) / 2, vectors)
    return product(vectors, share * inner, vectors.mT)


@jax.custom_jvp
def factor(cov: jax.Array) -> jax.Array:
    """The symmetric F with F F = cov, for a positive semi-definite matrix that may be singular.

    Differentiable where eigenvalues coincide too: at a singular cov for changes that keep its rank
    (for others the derivative is infinite), to the first order.
    """
    values, vectors = small_matrices.eigh((cov + cov.mT) / 2)
    return rebuilt(vectors, jnp.sqrt(jnp.maximum(values, 0)))


@factor.defjvp
def _factor_slope(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    (cov,), (change,) = primals, tangents
    values, vectors = small_matrices.eigh((cov + cov.mT) / 2)
    root = jnp.sqrt(jnp.maximum(values, 0))
    pair = root[..., :, None] + root[..., None, :]
    # F dF + dF F = dS; two eigenvalues zero: dS vanishes there as well
    share = jnp.where(pair > 0, 1 / jnp.where(pair > 0, pair, 1), 0)
    return rebuilt(vectors, root), turned(vectors, share, change)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def spectral(matrix: jax.Array, function: Scalar) -> jax.Array:
    """function(matrix) on the spectrum of a positive semi-definite matrix; once differentiable."""
    values, vectors = small_matrices.eigh((matrix + matrix.mT) / 2)
    return rebuilt(vectors, function(jnp.maximum(values, 0)))


@spectral.defjvp
def _spectral_slope(function: Scalar, primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    """Divided differences of the function over pairs of eigenvalues (Daleckii and Krein)."""
    (matrix,), (change,) = primals, tangents
    values, vectors = small_matrices.eigh((matrix + matrix.mT) / 2)
    values = jnp.maximum(values, 0)
    own = function(values)
    left, right = values[..., :, None], values[..., None, :]
    gap, middle = left - right, (left + right) / 2
    near = jnp.abs(gap) <= 1e-5 * (1 + middle)
    _, slope = jax.jvp(function, (middle,), (jnp.ones_like(middle),))
    rise = (own[..., :, None] - own[..., None, :]) / jnp.where(near, 1, gap)
    return rebuilt(vectors, own), turned(vectors, jnp.where(near, slope, rise), change)


def sandwich(cov: jax.Array, matrix: jax.Array, function: Scalar) -> jax.Array:
    """F function(F matrix F) F with F F = cov, for positive semi-definite cov and matrix.

    `function`: made of sums, products, quotients and square roots, regular on [0, inf).  Equal to
    function(cov matrix) cov, hence smooth in both matrices where F itself is not.
    """
    lead = jnp.broadcast_shapes(cov.shape[:-2], matrix.shape[:-2])
    both = (jnp.broadcast_to((a + a.mT) / 2, (*lead, *a.shape[-2:])) for a in (cov, matrix))
    return _sandwich(function, *both)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sandwich(function: Scalar, cov: jax.Array, matrix: jax.Array) -> jax.Array:
    P, values = _frame(cov, matrix)
    return rebuilt(P, function(values))


@_sandwich.defjvp
def _sandwich_slope(
    function: Scalar, primals: tuple[Any, Any], tangents: tuple[Any, Any]
) -> tuple[Any, Any]:
    """The same as function(cov matrix) cov: eigenvectors enter as numbers that solve equations."""
    P, values = _frame(*(jax.lax.stop_gradient(a) for a in primals))
    frame = Frame(P, product(jax.lax.stop_gradient(primals[1]), P))
    seen = Pair(jnp.zeros_like(values[..., :1]), values, jnp.ones_like(values))

    def smooth(cov: jax.Array, matrix: jax.Array) -> jax.Array:
        own = function(Function(product(cov, matrix), seen, frame))
        half = product(own.matrix, cov)
        return (half + half.mT) / 2

    return _sandwich(function, *primals), jax.jvp(smooth, primals, tangents)[1]


def _frame(cov: jax.Array, matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """P and a with cov = P P^T and P^T matrix P = diag(a)."""
    root = factor(cov)
    inner = product(root, matrix, root)
    values, vectors = small_matrices.eigh((inner + inner.mT) / 2)
    return product(root, vectors), jnp.maximum(values, 0)

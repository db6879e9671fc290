"""Factorisations of small matrices: LAPACK on the CPU, straight-line code on a GPU.

On a GPU every call of a library for one small matrix costs more than its arithmetic, and keeps the
code around it from being fused.  So up to n = `LARGEST` the words of this module are written out as
array operations there (`elimination`, `jacobi`); above, and on every other platform, they are
jnp.linalg's.  Where JAX has a GPU the choice is made when a program is lowered.  Where it has none
only the library's part is traced, which halves the time to a first answer; a program that is to be
lowered for a GPU elsewhere is traced under `for_gpu`.

Every word has leading batch axes, and derivatives.  Imports jax and numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp

from derive.runtime.common import elimination, jacobi

LARGEST = 16  # rows of what is written out: compile time grows like n, work like n^3
EXACT = jax.lax.Precision.HIGHEST

Factors = tuple[jax.Array, jax.Array]


_for_gpu = ContextVar("for_gpu", default=False)


@contextmanager
def for_gpu() -> Iterator[None]:
    """Within, programs are traced so that they can be lowered for a GPU that is not here.

    Forgets what JAX has traced before, on entry and at the end.
    """
    token = _for_gpu.set(True)
    jax.clear_caches()
    try:
        yield
    finally:
        _for_gpu.reset(token)
        jax.clear_caches()


def by_platform(
    size: int, straight: Callable[..., Any], library: Callable[..., Any], *arguments: Any
) -> Any:
    """`straight(*arguments)` on a GPU for matrices of up to `LARGEST` rows, else `library(...)`."""
    if size > LARGEST or not (_for_gpu.get() or jax.default_backend() != "cpu"):
        return library(*arguments)
    return jax.lax.platform_dependent(*arguments, cuda=straight, rocm=straight, default=library)


def solve(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """matrix^-1 right, right (n,) or (..., n, columns)."""
    return by_platform(matrix.shape[-1], straight_solve, jnp.linalg.solve, matrix, right)


def solve_lower(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """matrix^-1 right for a lower triangular matrix, right (..., n, columns)."""

    def library(matrix: jax.Array, right: jax.Array) -> jax.Array:
        return jax.scipy.linalg.solve_triangular(matrix, right, lower=True)

    return by_platform(matrix.shape[-1], straight_solve, library, matrix, right)


def inverse(matrix: jax.Array) -> jax.Array:
    """matrix^-1."""
    return by_platform(matrix.shape[-1], straight_inverse, jnp.linalg.inv, matrix)


def slogdet(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sign of the determinant, and log of its size."""

    def library(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
        sign, size = jnp.linalg.slogdet(matrix)
        return sign, size

    return by_platform(matrix.shape[-1], straight_slogdet, library, matrix)


def factored(matrix: jax.Array) -> Factors:
    """What `solve_factored` takes instead of the matrix."""
    return by_platform(matrix.shape[-1], straight_factors, jax.scipy.linalg.lu_factor, matrix)


def solve_factored(factors: Factors, right: jax.Array) -> jax.Array:
    """matrix^-1 right from `factored(matrix)`; right (n,) or (..., n, columns)."""
    size = factors[0].shape[-1]
    library = jax.scipy.linalg.lu_solve
    return by_platform(size, straight_solve_factored, library, factors, right)


def cholesky(matrix: jax.Array) -> jax.Array:
    """Lower factor; nan where the matrix is not positive definite."""
    return by_platform(matrix.shape[-1], straight_cholesky, jnp.linalg.cholesky, matrix)


def eigh(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues, ascending, and eigenvectors, in columns, of the symmetric part."""

    def library(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, vectors = jnp.linalg.eigh(matrix)
        return values, vectors

    return by_platform(matrix.shape[-1], straight_eigh, library, matrix)


def eigvalsh(matrix: jax.Array) -> jax.Array:
    """Eigenvalues, ascending, of the symmetric part."""
    n = matrix.shape[-1]
    return by_platform(n, lambda a: straight_eigh(a)[0], jnp.linalg.eigvalsh, matrix)


def _lanes_last(x: jax.Array) -> jax.Array:
    return jnp.moveaxis(x.reshape(-1, *x.shape[-2:]), 0, -1)


def _lanes_first(x: jax.Array, lead: tuple[int, ...]) -> jax.Array:
    return jnp.moveaxis(x, -1, 0).reshape(*lead, *x.shape[:-1])


def straight_factors(matrix: jax.Array) -> Factors:
    """L below the diagonal and U, and which row each of theirs was."""
    lead = matrix.shape[:-2]
    lu, order = elimination.lu(_lanes_last(matrix), LARGEST)
    return _lanes_first(lu, lead), _lanes_first(order, lead)


def straight_solve_factored(
    factors: Factors, right: jax.Array, transposed: bool = False
) -> jax.Array:
    if right.ndim == 1:
        return straight_solve_factored(factors, right[:, None], transposed)[:, 0]
    lu, order = factors
    lead = jnp.broadcast_shapes(lu.shape[:-2], right.shape[:-2])
    lu, right = (jnp.broadcast_to(x, lead + x.shape[-2:]) for x in (lu, right))
    order = jnp.broadcast_to(order, lead + order.shape[-1:])
    a, b = _lanes_last(lu), _lanes_last(right)
    rows = _lanes_last(order[..., None])[:, 0]
    if transposed:
        a = jnp.swapaxes(a, 0, 1)
        b = elimination.substitute(a, b, lower=True, unit=False, straight=LARGEST)
        b = elimination.substitute(a, b, lower=False, unit=True, straight=LARGEST)
        b = elimination.rows_permuted(rows, b, back=True)
    else:
        b = elimination.rows_permuted(rows, b)
        b = elimination.substitute(a, b, lower=True, unit=True, straight=LARGEST)
        b = elimination.substitute(a, b, lower=False, unit=False, straight=LARGEST)
    return _lanes_first(b, lead)


def straight_solve(matrix: jax.Array, right: jax.Array) -> jax.Array:
    if right.ndim == 1:
        return straight_solve(matrix, right[:, None])[..., 0]
    lead = jnp.broadcast_shapes(matrix.shape[:-2], right.shape[:-2])
    matrix, right = (jnp.broadcast_to(x, lead + x.shape[-2:]) for x in (matrix, right))
    # the derivative comes from the equation: nothing differentiates the elimination
    factors = straight_factors(jax.lax.stop_gradient(matrix))
    return jax.lax.custom_linear_solve(
        lambda x: jnp.matmul(matrix, x, precision=EXACT),
        right,
        solve=lambda _, b: straight_solve_factored(factors, b),
        transpose_solve=lambda _, b: straight_solve_factored(factors, b, transposed=True),
    )


def straight_inverse(matrix: jax.Array) -> jax.Array:
    one = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    return straight_solve(matrix, jnp.broadcast_to(one, matrix.shape))


@jax.custom_jvp
def straight_slogdet(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    lu, order = straight_factors(matrix)
    diagonal = jnp.diagonal(lu, axis1=-2, axis2=-1)
    later = jnp.tril(order[..., :, None] < order[..., None, :], -1)  # pairs in the wrong order
    flips = jnp.sum(later, axis=(-2, -1)) + jnp.sum(diagonal < 0, axis=-1)
    sign = jnp.where(flips % 2 == 0, 1, -1).astype(matrix.dtype)
    sign = jnp.where(jnp.any(diagonal == 0, axis=-1), 0, sign)
    return sign, jnp.sum(jnp.log(jnp.abs(diagonal)), axis=-1)


@straight_slogdet.defjvp
def _slogdet_slope(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    (matrix,), (change,) = primals, tangents
    sign, size = straight_slogdet(matrix)
    slope = jnp.trace(straight_solve(matrix, change), axis1=-2, axis2=-1)
    return (sign, size), (jnp.zeros_like(sign), slope)


def straight_cholesky(matrix: jax.Array) -> jax.Array:
    lead = matrix.shape[:-2]
    matrix = (matrix + matrix.mT) / 2
    factor = _lanes_first(elimination.cholesky(_lanes_last(matrix), LARGEST), lead)
    sound = jnp.all(jnp.isfinite(factor), axis=(-2, -1), keepdims=True)
    return jnp.where(sound, factor, jnp.nan)


@jax.custom_jvp
def straight_eigh(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jacobi.eigh((matrix + matrix.mT) / 2)


@straight_eigh.defjvp
def _eigh_slope(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    """Infinite or nan for eigenvectors of equal eigenvalues, as jnp.linalg.eigh's."""
    (matrix,), (change,) = primals, tangents
    values, vectors = straight_eigh(matrix)
    change = (change + change.mT) / 2
    inner = jnp.matmul(vectors.mT, jnp.matmul(change, vectors, precision=EXACT), precision=EXACT)
    one = jnp.broadcast_to(jnp.eye(values.shape[-1], dtype=values.dtype), inner.shape)
    share = 1 / (one + values[..., None, :] - values[..., :, None]) - one
    turned = jnp.matmul(vectors, share * inner, precision=EXACT)
    return (values, vectors), (jnp.diagonal(inner, axis1=-2, axis2=-1), turned)

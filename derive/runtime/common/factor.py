"""L with L L^T = V for positive semi-definite V, singular V included.

A pivot that is zero to rounding gives a zero column: equal tokens keep equal rows.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.elimination import pick, steps
from derive.runtime.common.ops import Tiles, staged_entries
from derive.runtime.common.small_matrices import LARGEST, by_platform, solve_lower


@jax.custom_jvp
def psd_factor(V: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lower triangular factor of V (..., m, m), and whether V is inside the cone (...,).

    At a singular V its derivative is infinite along changes that raise the rank; the one given is
    right along those that keep it.
    """
    return by_platform(V.shape[-1], straight_psd_factor, _library_psd_factor, V)


def straight_psd_factor(V: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same without a library: regular or not, in m steps over all matrices."""
    return _guarded((V + V.mT) / 2, straight=LARGEST)


def _library_psd_factor(V: jax.Array) -> tuple[jax.Array, jax.Array]:
    L = jnp.linalg.cholesky(V)
    regular = _regular(L, V)

    def mended() -> tuple[jax.Array, jax.Array]:
        guarded, inside = _guarded(V)
        return jnp.where(regular[..., None, None], L, guarded), regular | inside

    return jax.lax.cond(jnp.all(regular), lambda: (L, regular), mended)


@psd_factor.defjvp
def _slope(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    """From dV = dL L^T + L dL^T with zero columns kept zero: linear in dV and without a branch,
    since the transpose of a branch on the matrix does not go through vmap."""
    (V,), (change,) = primals, tangents
    L, inside = psd_factor(V)
    alive = jnp.diagonal(L, axis1=-2, axis2=-1) > 0
    whole = L + jnp.where(alive, 0, 1)[..., None] * jnp.eye(V.shape[-1], dtype=V.dtype)
    half = solve_lower(whole, (change + change.mT) / 2)
    inner = solve_lower(whole, half.mT)
    lower = jnp.tril(inner, -1) + jnp.tril(jnp.triu(inner)) / 2
    slope = whole @ jnp.where(alive[..., None, :], lower, 0)
    return (L, inside), (slope, np.zeros(inside.shape, jax.dtypes.float0))


def _regular(L: jax.Array, V: jax.Array) -> jax.Array:
    """Whether every pivot of the factor is more than rounding."""
    pivots = jnp.diagonal(L, axis1=-2, axis2=-1)
    sizes = jnp.diagonal(V, axis1=-2, axis2=-1)
    return jnp.all(pivots**2 > _floor(V.dtype, V.shape[-1]) * sizes, axis=-1)


def _floor(dtype: jnp.dtype, m: int) -> float:
    """Pivots below this share of the diagonal are rounding."""
    return 8 * m * float(jnp.finfo(dtype).eps)


def _guarded(V: jax.Array, straight: int = 0) -> tuple[jax.Array, jax.Array]:
    m = V.shape[-1]
    rows = jnp.arange(m)
    floor = _floor(V.dtype, m)
    sizes = jnp.diagonal(V, axis1=-2, axis2=-1)

    def column(j: Any, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        L, inside = carry
        left = jax.lax.squeeze(pick(V, j, axis=-1), (-1,)) - (L * pick(L, j, axis=-2)).sum(-1)
        pivot = pick(left, j, axis=-1)
        size = pick(sizes, j, axis=-1)
        regular = pivot > floor * size
        inverse = jnp.where(regular, jax.lax.rsqrt(jnp.where(regular, pivot, 1)), 0)
        new = jnp.where(rows >= j, left * inverse, 0)
        inside = inside & (pivot >= -floor * size)[..., 0]
        return jnp.where(rows == j, new[..., None], L), inside

    start = (jnp.zeros_like(V), jnp.ones(V.shape[:-2], dtype=bool))
    return steps(m, column, start, straight)


def tiles_factor(V: Tiles) -> tuple[Tiles, jax.Array]:
    """The same as straight-line code; entries above the diagonal are the number 0."""
    m = V.shape[0]
    v = V.entries
    floor = _floor(v[0, 0].dtype, m)
    out: dict[tuple[int, int], jax.Array] = {}
    inside = jnp.ones(v[0, 0].shape, dtype=bool)
    for j in range(m):
        pivot = v[j, j]
        for k in range(j):
            pivot = pivot - out[j, k] * out[j, k]
        regular = pivot > floor * v[j, j]
        inverse = jnp.where(regular, jax.lax.rsqrt(jnp.where(regular, pivot, 1)), 0)
        inside = inside & (pivot >= -floor * v[j, j])
        out[j, j] = pivot * inverse
        for i in range(j + 1, m):
            left = v[i, j]
            for k in range(j):
                left = left - out[i, k] * out[j, k]
            out[i, j] = left * inverse
    return staged_entries(Tiles.of((m, m), lambda i, j: out[i, j] if i >= j else 0.0)), inside

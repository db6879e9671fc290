"""Eigenvalues and eigenvectors of small symmetric matrices by Jacobi's rotations: no library.

A sweep is n - 1 rounds of n / 2 rotations of disjoint pairs (a round-robin tournament); sweeps
follow until nothing is left off the diagonal: how many that takes depends on the matrix.  The
rounds stand in a loop of known length, which a GPU runs without asking the host, and which compiles
once.
Imports jax and numpy alone.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SWEEPS = 60  # at most


def eigh(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues (..., n), ascending, and eigenvectors (..., n, n), in columns.

    matrix (..., n, n), symmetric.  nan where it is not finite.
    """
    n = matrix.shape[-1]
    if n < 2:
        return jnp.diagonal(matrix, axis1=-2, axis2=-1), jnp.ones_like(matrix)
    one = jnp.broadcast_to(jnp.eye(n, dtype=matrix.dtype), matrix.shape)
    # of size one: squares neither overflow nor vanish
    size = jnp.max(jnp.abs(matrix), axis=(-2, -1), keepdims=True)
    size = jnp.where(size > 0, size, 1)
    start = (matrix / size, one, jnp.zeros((), jnp.int32))
    small = float(jnp.finfo(matrix.dtype).eps) / 4
    away = 1 - np.eye(n)
    table = jnp.asarray(rounds(n), jnp.int32)

    def more(state: Any) -> Any:
        left = jnp.abs(state[0]) * _like(away, state[0])
        return jnp.any(left > small) & (state[2] < SWEEPS)

    def sweep(state: Any) -> Any:
        a, vectors, count = state

        def turn(k: Any, carry: Any) -> Any:
            return _rotated(carry[0], carry[1], table[k])

        a, vectors = jax.lax.fori_loop(0, len(table), turn, (a, vectors))
        return (a + a.mT) / 2, vectors, count + 1

    a, vectors, _ = jax.lax.while_loop(more, sweep, start)
    values = jnp.diagonal(a, axis1=-2, axis2=-1)
    place = jnp.argsort(values, axis=-1)
    vectors = jnp.take_along_axis(vectors, place[..., None, :], axis=-1)
    return jnp.take_along_axis(values, place, axis=-1) * size[..., 0], vectors


def rounds(n: int) -> list[np.ndarray]:
    """For every round the partner of each index; an index that has none is its own partner."""
    count = n + n % 2
    out = []
    ring = list(range(1, count))
    for _ in range(count - 1):
        seats = [0, *ring]
        partner = np.arange(n)
        for a, b in zip(seats[: count // 2], seats[: count // 2 - 1 : -1], strict=True):
            if max(a, b) < n:
                partner[a], partner[b] = b, a
        out.append(partner)
        ring = [ring[-1], *ring[:-1]]
    return out


def _like(x: Any, like: jax.Array) -> jax.Array:
    """x, with the same for every matrix, beside `like`."""
    x = jnp.asarray(x).astype(like.dtype)
    return x.reshape((1,) * (like.ndim - x.ndim) + x.shape)


def _rotated(a: jax.Array, vectors: jax.Array, partner: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both after the rotations which make a[i, partner[i]] zero."""
    index = jnp.arange(len(partner), dtype=partner.dtype)
    paired = (partner[:, None] == index[None]) & (partner != index)[:, None]
    upper = paired & (index[:, None] < index[None])
    first = _like(jnp.where(index < partner, 1, -1), a[..., 0])
    own = jnp.diagonal(a, axis1=-2, axis2=-1)
    # from one entry for both of a pair: with two, equal but for rounding, the angles of two equal
    # eigenvalues differ, and the vectors are no longer orthogonal
    beside = (a * _like(upper, a)).sum(-1)
    beside = beside + beside[..., partner]
    # less is nothing beside entries of size one, and its square, which divides, could vanish
    beside = jnp.where(jnp.abs(beside) < float(jnp.finfo(a.dtype).eps) ** 2, 0, beside)
    gap = own[..., partner] - own
    # tangent of the smaller angle, of opposite signs for the two; 0 if nothing is to be done
    sign = jnp.where((gap == 0) | (beside == 0), first, jnp.sign(gap) * jnp.sign(beside))
    size = jnp.abs(gap) + jnp.sqrt(gap * gap + 4 * beside * beside)
    t = sign * 2 * jnp.abs(beside) / jnp.where(beside == 0, 1, size)
    c = jax.lax.rsqrt(1 + t * t)
    s = t * c
    a = c[..., :, None] * a - s[..., :, None] * a[..., partner, :]
    a = c[..., None, :] * a - s[..., None, :] * a[..., :, partner]
    vectors = c[..., None, :] * vectors - s[..., None, :] * vectors[..., :, partner]
    return jnp.where(_like(paired, a) > 0, 0, a), vectors

"""Elimination for many small matrices at once, written out as array operations, lanes last.

Matrices are (n, n, lanes), right-hand sides (n, columns, lanes).  A factorisation is n steps of a
few operations over all lanes; up to n = `straight` the steps follow each other without a loop.
Imports jax alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def steps(n: int, step: Callable[[Any, Any], Any], carry: Any, straight: int) -> Any:
    """step(0), ..., step(n - 1): straight-line code up to n = `straight`, a loop above."""
    if n > straight:
        return jax.lax.fori_loop(0, n, step, carry)
    for k in range(n):
        # without the barrier the compiler computes a step again in every entry that uses it
        carry = jax.lax.optimization_barrier(step(k, carry))
    return carry


def pick(x: Any, k: Any, axis: int = 0) -> Any:
    """Entry k of an axis, which stays, of length one."""
    if isinstance(k, int):
        return jax.lax.index_in_dim(x, k, axis)
    return jax.lax.dynamic_index_in_dim(x, k, axis, keepdims=True)


def lu(a: Any, straight: int) -> tuple[Any, Any]:
    """LU factors of a (n, n, lanes) with partial pivoting, and the permutation (n, lanes).

    Row i of L U is row order[i] of a.  Rows stay where they are until the end: exchanging them in
    every step would double the number of operations.  A pivot of zero has zeros below it, and as
    in LAPACK the next column follows.
    """
    n, lanes = a.shape[0], a.shape[-1]
    index = jnp.arange(n, dtype=jnp.int32)
    columns = index[None, :, None]

    def step(k: Any, carry: Any) -> Any:
        a, place = carry
        free = place == n
        column = pick(a, k, 1)
        pivot = jnp.argmax(jnp.where(free, jnp.abs(column[:, 0]), -1), axis=0).astype(jnp.int32)
        hit = index[:, None] == pivot[None]
        row = jnp.where(hit[:, None], a, 0).sum(0, keepdims=True, dtype=a.dtype)
        top = pick(row, k, 1)
        left = (free & ~hit)[:, None]
        below = jnp.where(left, column / jnp.where(top == 0, 1, top), 0)
        ahead = jnp.where(columns > k, row, 0)
        a = jnp.where(left & (columns == k), below, a - below * ahead)
        return a, jnp.where(hit, k, place)

    start = (a, jnp.full((n, lanes), n, jnp.int32))
    a, place = steps(n, step, start, straight)
    whence = jnp.broadcast_to(index[:, None, None], (n, 1, lanes))
    return rows_permuted(place, a, back=True), rows_permuted(place, whence, back=True)[:, 0]


def substitute(a: Any, b: Any, lower: bool, unit: bool, straight: int) -> Any:
    """x with a x = b, a (n, n, lanes) triangular, b (n, columns, lanes)."""
    n = a.shape[0]
    rows = jnp.arange(n)[:, None, None]

    def step(i: Any, b: Any) -> Any:
        k = i if lower else n - 1 - i
        x = pick(b, k)
        if not unit:
            x = x / pick(pick(a, k), k, 1)
        rest = rows > k if lower else rows < k
        return jnp.where(rows == k, x, b - jnp.where(rest, pick(a, k, 1) * x, 0))

    return steps(n, step, b, straight)


def cholesky(a: Any, straight: int) -> Any:
    """Lower factor of a (n, n, lanes); nan where a is not positive definite."""
    n = a.shape[0]
    rows, columns = jnp.arange(n)[:, None, None], jnp.arange(n)[None, :, None]

    def step(k: Any, carry: Any) -> Any:
        a, out = carry
        column = pick(a, k, 1) / jnp.sqrt(pick(pick(a, k), k, 1))
        column = jnp.where(rows >= k, column, 0)
        return a - column * jnp.swapaxes(column, 0, 1), jnp.where(columns == k, column, out)

    return steps(n, step, (a, jnp.zeros_like(a)), straight)[1]


def rows_permuted(order: Any, b: Any, back: bool = False) -> Any:
    """Row i of the result is row order[i] of b (n, columns, lanes); `back`: the inverse of that."""
    n = b.shape[0]
    hit = order[:, None, :] == jnp.arange(n, dtype=order.dtype)[None, :, None]  # (to, from, lanes)
    hit = jnp.swapaxes(hit, 0, 1) if back else hit
    return jnp.where(hit[:, :, None], b[None], 0).sum(1, dtype=b.dtype)


def lapack_lu(a: Any, straight: int) -> tuple[Any, Any, Any]:
    """LU factors of a (n, n, lanes), and as LAPACK gives them the pivots and the permutation
    (n, lanes).

    Rows are exchanged in every step, which takes twice the operations of `lu`: of pivots of one
    size the first is taken, and which is first depends on the rows exchanged before.
    """
    n, lanes = a.shape[0], a.shape[-1]
    index = jnp.arange(n, dtype=jnp.int32)
    rows, columns = index[:, None, None], index[None, :, None]
    order = jnp.broadcast_to(index[:, None], (n, lanes))

    def swapped(x: Any, k: Any, pivot: Any) -> Any:
        own = index.reshape(n, *(1,) * (x.ndim - 1))
        other = pivot.reshape(*(1,) * (x.ndim - 1), lanes)
        chosen = jnp.where(own == other, x, 0).sum(0, keepdims=True, dtype=x.dtype)
        return jnp.where(own == k, chosen, jnp.where(own == other, pick(x, k), x))

    def step(k: Any, carry: Any) -> Any:
        a, order, pivots = carry
        size = jnp.where(index[:, None] >= k, jnp.abs(pick(a, k, 1)[:, 0]), -1)
        pivot = jnp.argmax(size, axis=0).astype(jnp.int32)
        a, order = swapped(a, k, pivot), swapped(order, k, pivot)
        below = jnp.where(rows > k, pick(a, k, 1) / pick(pick(a, k), k, 1), 0)
        ahead = jnp.where(columns > k, pick(a, k), 0)
        a = jnp.where((rows > k) & (columns == k), below, a - below * ahead)
        return a, order, jnp.where(index[:, None] == k, pivot[None], pivots)

    a, order, pivots = steps(n, step, (a, order, order), straight)
    return a, pivots, order

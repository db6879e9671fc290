"""Sums over keys in blocks, with memory linear in the number of tokens.

For queries x (N, d) and keys y (M, d).  A weight is a function of two blocks, `weight(xb, yb)` of
shape (queries, keys), given as its logarithm where it is normalised (`score`).  `value(yb)` (keys,
d_v) is what is averaged, the keys themselves by default.  `mask(i, j)`, of index arrays that
broadcast to (queries, keys), is True where key j counts for query i; `causal` is the one that looks
back, the query's own key included.  Every product here is exact to the dtype; write those of a
score with `inner`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = [
    "causal",
    "inner",
    "log_average",
    "row_normalised",
    "sinkhorn_average",
    "sinkhorn_potentials",
    "weighted_average",
    "weighted_sum",
]

BLOCK = 512
EXACT = jax.lax.Precision.HIGHEST
Pairs = Callable[[jax.Array, jax.Array], jax.Array]
Values = Callable[[jax.Array], jax.Array]
Mask = Callable[[jax.Array, jax.Array], jax.Array]


def inner(x: jax.Array, y: jax.Array) -> jax.Array:
    """<x_i, y_j> (queries, keys), exact to the dtype on every device."""
    return jnp.matmul(x, y.mT, precision=EXACT)


def causal(i: jax.Array, j: jax.Array) -> jax.Array:
    return j <= i


def weighted_average(
    x: jax.Array,
    y: jax.Array,
    score: Pairs,
    value: Values | None = None,
    mask: Mask | None = None,
    block: int = BLOCK,
) -> jax.Array:
    """sum_j e^{score_ij} value_j / sum_j e^{score_ij} (N, d_v); nan for a query without keys."""
    top, total = _softmax_sums(x, y, score, value, mask, block)
    return total[:, :-1] / total[:, -1:]


def log_average(
    x: jax.Array, y: jax.Array, score: Pairs, mask: Mask | None = None, block: int = BLOCK
) -> jax.Array:
    """log of (1/M) sum_j e^{score_ij} (N,); -inf for a query without keys."""
    top, total = _softmax_sums(x, y, score, lambda yb: yb[:, :0], mask, block)
    return top + jnp.log(total[:, 0] / y.shape[0])


def weighted_sum(
    x: jax.Array,
    y: jax.Array,
    weight: Pairs,
    value: Values | None = None,
    mask: Mask | None = None,
    block: int = BLOCK,
) -> jax.Array:
    """(1/M) sum_j weight_ij value_j (N, d_v), the sum over the law of all keys."""
    return _plain_sums(x, y, weight, value or _keys, mask, block) / y.shape[0]


def row_normalised(
    x: jax.Array,
    y: jax.Array,
    weight: Pairs,
    value: Values | None = None,
    mask: Mask | None = None,
    block: int = BLOCK,
) -> jax.Array:
    """sum_j weight_ij value_j / sum_j weight_ij (N, d_v), for weights given directly."""
    total = _plain_sums(x, y, weight, _with_one(value or _keys), mask, block)
    return total[:, :-1] / total[:, -1:]


def sinkhorn_average(
    x: jax.Array,
    y: jax.Array,
    score: Pairs,
    value: Values | None = None,
    iterations: int = 1000,
    tolerance: float | None = None,
    block: int = BLOCK,
) -> jax.Array:
    """(1/M) sum_j kappa_ij value_j (N, d_v), kappa the bistochastic scaling of e^{score}.

    See `sinkhorn_potentials`; rows sum to one exactly, columns to the tolerance.
    """
    _, g = sinkhorn_potentials(x, y, score, iterations, tolerance, block)
    # the key's potential travels as one more coordinate
    keys = jnp.concatenate([y, g[:, None]], axis=1)
    values = value or _keys
    return weighted_average(
        x,
        keys,
        lambda xb, yb: score(xb, yb[:, :-1]) + yb[None, :, -1],
        lambda yb: values(yb[:, :-1]),
        block=block,
    )


def sinkhorn_potentials(
    x: jax.Array,
    y: jax.Array,
    score: Pairs,
    iterations: int = 1000,
    tolerance: float | None = None,
    block: int = BLOCK,
) -> tuple[jax.Array, jax.Array]:
    """f (N,), g (M,): kappa_ij = e^{f_i + score_ij + g_j} has row and column averages one.

    Sinkhorn's iterations in the log domain, each streaming over blocks, until the column averages
    of kappa differ from one by at most `tolerance` (default: 64 roundings) or `iterations` of them.
    """
    limit = 64 * float(jnp.finfo(x.dtype).eps) if tolerance is None else tolerance

    def rows(g: jax.Array) -> jax.Array:
        keys = jnp.concatenate([y, g[:, None]], axis=1)
        return -log_average(
            x, keys, lambda xb, yb: score(xb, yb[:, :-1]) + yb[None, :, -1], block=block
        )

    def columns(f: jax.Array) -> jax.Array:
        queries = jnp.concatenate([x, f[:, None]], axis=1)
        return -log_average(
            y, queries, lambda yb, xb: (score(xb[:, :-1], yb) + xb[:, -1:]).T, block=block
        )

    def go(carry: Any) -> Any:
        _, _, change, count = carry
        return (count < iterations) & (change > limit)

    def body(carry: Any) -> Any:
        f, g, _, count = carry
        # column averages before this update are e^{g - new g}
        new = columns(f)
        return rows(new), new, jnp.max(jnp.abs(new - g)), count + 1

    start = jnp.zeros_like(y[:, 0])
    carry = (rows(start), start, jnp.asarray(jnp.inf, x.dtype), 0)
    f, g, _, _ = jax.lax.while_loop(go, body, carry)
    return f, g


def _keys(y: jax.Array) -> jax.Array:
    return y


def _with_one(value: Values) -> Values:
    """One more column of ones: its sum is the normaliser, for the price of one product."""

    def values(y: jax.Array) -> jax.Array:
        v = value(y)
        return jnp.concatenate([v, jnp.ones_like(v, shape=(v.shape[0], 1))], axis=1)

    return values


def _softmax_sums(
    x: jax.Array, y: jax.Array, score: Pairs, value: Values | None, mask: Mask | None, block: int
) -> tuple[jax.Array, jax.Array]:
    """Largest score (N,), and sums of e^{score - largest} (value, 1) (N, d_v + 1)."""
    values = _with_one(value or _keys)

    def add(carry: Any, xb: jax.Array, yb: jax.Array, allowed: jax.Array | None) -> Any:
        top, total = carry
        s = score(xb, yb)
        if allowed is not None:
            s = jnp.where(allowed, s, -jnp.inf)
        new = jnp.maximum(top, s.max(axis=1))
        base = new if allowed is None else jnp.where(jnp.isneginf(new), 0, new)
        weights = jnp.exp(s - base[:, None])
        moved = total * jnp.exp(top - base)[:, None]
        return new, moved + jnp.matmul(weights, values(yb), precision=EXACT)

    def start(xb: jax.Array, width: int) -> Any:
        low = jnp.full_like(xb[:, 0], -jnp.inf)
        return low, jnp.zeros_like(xb, shape=(xb.shape[0], width))

    return _stream(x, y, values, add, start, mask, block)


def _plain_sums(
    x: jax.Array, y: jax.Array, weight: Pairs, value: Values, mask: Mask | None, block: int
) -> jax.Array:
    def add(total: Any, xb: jax.Array, yb: jax.Array, allowed: jax.Array | None) -> Any:
        w = weight(xb, yb)
        if allowed is not None:
            w = jnp.where(allowed, w, 0)
        return total + jnp.matmul(w, value(yb), precision=EXACT)

    def start(xb: jax.Array, width: int) -> Any:
        return jnp.zeros_like(xb, shape=(xb.shape[0], width))

    return _stream(x, y, value, add, start, mask, block)


def _stream(
    x: jax.Array,
    y: jax.Array,
    value: Values,
    add: Callable[..., Any],
    start: Callable[..., Any],
    mask: Mask | None,
    block: int,
) -> Any:
    """Fold `add` over blocks of keys, for each block of queries in turn."""
    if x.ndim != 2 or y.ndim != 2:
        raise ValueError(
            f"queries and keys must be (N, d) and (M, d), got {x.shape} and {y.shape}; "
            "use jax.vmap for a batch of systems"
        )
    count, keys = x.shape[0], y.shape[0]
    if not count or not keys:
        raise ValueError(f"no tokens: queries have shape {x.shape}, keys {y.shape}")
    width = jax.eval_shape(value, y).shape[1]
    wide, tall = min(block, keys), min(block, count)
    full = keys // wide

    def allowed(first_query: Any, first_key: Any, n: int) -> jax.Array | None:
        if mask is None:
            return None
        i = first_query + jnp.arange(tall)[:, None]
        return mask(i, first_key + jnp.arange(n)[None, :])

    def of_queries(first: jax.Array, xb: jax.Array) -> Any:
        def body(carry: Any, given: Any) -> Any:
            number, yb = given
            return add(carry, xb, yb, allowed(first, number * wide, wide)), None

        blocks = y[: full * wide].reshape(full, wide, y.shape[1])
        carry, _ = jax.lax.scan(body, start(xb, width), (jnp.arange(full), blocks))
        if keys > full * wide:  # the rest of the keys, a shorter block
            rest = y[full * wide :]
            carry = add(carry, xb, rest, allowed(first, full * wide, rest.shape[0]))
        return carry

    rows = -(-count // tall)
    padded = jnp.concatenate([x, jnp.broadcast_to(x[-1:], (rows * tall - count, x.shape[1]))])
    blocks = padded.reshape(rows, tall, x.shape[1])
    if rows == 1:
        return jax.tree.map(lambda z: z[:count], of_queries(jnp.zeros((), int), blocks[0]))
    out = jax.lax.map(lambda g: of_queries(*g), (jnp.arange(rows) * tall, blocks))
    return jax.tree.map(lambda z: z.reshape(-1, *z.shape[2:])[:count], out)

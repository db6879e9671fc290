"""Standard normals for many keys at once, from both words of each threefry block.

`jax.random.normal` in float32 hashes one block (20 rounds) a number and folds its two words into
one; hashing is three quarters of its cost on CPU.  Here each word makes a number, and the rounds
are written out: on CPU jax's own hash is a loop, which costs 1.8 times as much for the same bits.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# erf^-1(x) / x in w = -log(1 - x^2), by powers of w - 2.5 (w < 5) and of sqrt(w) - 3: the single
# precision approximation of M. Giles (2011), the one that XLA uses too
CENTRE = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
          -0.00125372503, -0.00417768164, 0.246640727, 1.50140941)  # fmt: skip
TAIL = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
        -0.0076224613, 0.00943887047, 1.00167406, 2.83297682)  # fmt: skip


def normals(keys: jax.Array, count: int, dtype: Any, axis: int) -> jax.Array:
    """`count` normals for each of `keys` (paths,), threefry keys: (count, paths) if `axis`, the
    one over paths, is 1, else (paths, count).  A key's numbers do not depend on the others."""
    single = np.dtype(dtype).itemsize == 4
    blocks = -(-count // 2) if single else count
    data = jax.random.key_data(keys)
    shape = (blocks, len(keys)) if axis else (len(keys), blocks)
    first, second = (jnp.broadcast_to(jnp.expand_dims(data[:, k], 1 - axis), shape) for k in (0, 1))
    number = jax.lax.broadcasted_iota(jnp.uint32, shape, 1 - axis)
    # without the barrier the hash is computed again for each of its two words
    words = jax.lax.optimization_barrier(threefry(first, second, number))
    if not single:
        return _double(*words)
    halves = jnp.concatenate([_single(w) for w in words], 1 - axis)
    return jax.lax.slice_in_dim(halves, 0, count, axis=1 - axis)


ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)


def threefry(first: jax.Array, second: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 with 20 rounds (Salmon et al., 2011): two words of the block (number, 0) under
    the key (first, second); arrays of uint32 of one shape."""
    keys = (first, second, first ^ second ^ np.uint32(0x1BD11BDA))
    x, y = number + first, second
    for turn in range(5):
        for rotation in ROTATIONS[turn % 2]:
            x = x + y
            y = ((y << rotation) | (y >> (32 - rotation))) ^ x
        x = x + keys[(turn + 1) % 3]
        y = y + keys[(turn + 2) % 3] + np.uint32(turn + 1)
    return x, y


def _single(word: jax.Array) -> jax.Array:
    """Normal at the middle of one of 2^23 equal cells of (-1, 1)."""
    u = jax.lax.bitcast_convert_type((word >> 9) | np.uint32(0x3F800000), jnp.float32)  # [1, 2)
    x = 2 * (u - 1) - np.float32(1 - 2.0**-23)  # exact
    w = -jnp.log((1 - x) * (1 + x))  # absolute accuracy is enough near x = 0
    centre = w < 5
    v = jnp.where(centre, w - 2.5, jnp.sqrt(w) - 3)

    def horner(p: Any, pair: tuple[float, float]) -> Any:
        return jnp.where(centre, *map(np.float32, pair)) + p * v

    return np.float32(math.sqrt(2)) * functools.reduce(
        horner, zip(CENTRE, TAIL, strict=True), np.float32(0)
    ) * x  # fmt: skip


def _double(high: jax.Array, low: jax.Array) -> jax.Array:
    """Normal at the middle of one of 2^52 equal cells of (-1, 1)."""
    bits = (high.astype(jnp.uint64) << 20) | (low.astype(jnp.uint64) >> 12)
    one = np.float64(1).view(np.uint64)
    u = jax.lax.bitcast_convert_type(bits | one, jnp.float64)  # [1, 2)
    return math.sqrt(2) * jax.lax.erf_inv(2 * (u - 1) - (1 - 2.0**-52))

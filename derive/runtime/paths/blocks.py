"""Random blocks of steps and reduced chains, from standard normals or exact laws.

Kinds: "gaussian": m x m iid N(0, 1).  "symmetric": (G + G^T)/sqrt(2).  "wishart_root": T with
E T T^T = nu I, nu = dims[dim] - used * m degrees of freedom; exactly (Bartlett's triangular
factor) or Gaussian, t I + S/2 with S symmetric and t^2 = nu - (m + 1)/4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.ops import Tiles


@dataclass(frozen=True)
class Block:
    """Law of one m x m block, see the module's text."""

    kind: str
    dim: str = ""
    used: int = 0


def count(block: Block, m: int) -> int:
    """Standard normals that a (Gaussian) block takes."""
    return m * m if block.kind == "gaussian" else m * (m + 1) // 2


def total(blocks: Mapping[str, Block], m: int) -> int:
    return sum(count(b, m) for b in blocks.values())


def gaussian_blocks(
    blocks: Mapping[str, Block], z: Any, m: int, dims: Mapping[str, Any], tiles: bool
) -> list[Any]:
    """Blocks from normals.

    `z`: (..., count) for arrays, or a sequence of `count` arrays over paths for tiles.  Numbers
    in `dims` are scalars or, for tiles, arrays over paths.
    """
    out, start = [], 0
    for block in blocks.values():
        size = count(block, m)
        part = z[start : start + size] if tiles else z[..., start : start + size]
        start += size
        make = _tile_block if tiles else _array_block
        out.append(make(block, part, m, dims))
    return out


def _tile_block(block: Block, z: Any, m: int, dims: Mapping[str, Any]) -> Tiles:
    if block.kind == "gaussian":
        return Tiles.of((m, m), lambda i, j: z[i * m + j])
    place = lower_places(m)

    def symmetric(i: int, j: int) -> Any:
        entry = z[place[max(i, j), min(i, j)]]
        return entry * math.sqrt(2) if i == j else entry

    if block.kind == "symmetric":
        return Tiles.of((m, m), symmetric)
    shift = root_shift(block, m, dims)
    return Tiles.of((m, m), lambda i, j: symmetric(i, j) / 2 + (shift if i == j else 0.0))


def lower_places(m: int) -> dict[tuple[int, int], int]:
    """Where the entry (i, j), i >= j, of a symmetric matrix stands among those of its triangle."""
    return {(int(i), int(j)): k for k, (i, j) in enumerate(zip(*np.tril_indices(m), strict=True))}


def _array_block(block: Block, z: jax.Array, m: int, dims: Mapping[str, Any]) -> jax.Array:
    if block.kind == "gaussian":
        return z.reshape(*z.shape[:-1], m, m)
    rows, columns = np.tril_indices(m)
    place = np.zeros((m, m), dtype=int)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    scale = np.ones((m, m)) + (math.sqrt(2) - 1) * np.eye(m)
    S = z[..., place]
    S = S * jnp.broadcast_to(jnp.asarray(scale, dtype=z.dtype), S.shape)
    if block.kind == "symmetric":
        return S
    return S / 2 + root_shift(block, m, dims) * jnp.broadcast_to(jnp.eye(m, dtype=z.dtype), S.shape)


def root_shift(block: Block, m: int, dims: Mapping[str, Any]) -> Any:
    """t = sqrt(nu - (m + 1)/4) of the Gaussian root."""
    nu = dims[block.dim] - block.used * m
    return jnp.sqrt(nu - (m + 1) / 4)


def smallest_width(blocks: Mapping[str, Block], m: int) -> float:
    """The width below which a Gaussian root does not exist."""
    return max((b.used * m + (m + 1) / 4 for b in blocks.values() if b.dim), default=0.0)


def exact_blocks(
    key: jax.Array, blocks: Mapping[str, Block], m: int, dims: Mapping[str, float], dtype: Any
) -> list[jax.Array]:
    """One exact draw of every block (m, m); degrees of freedom must be integers >= 0."""
    out = []
    for number, block in enumerate(blocks.values()):
        own = jax.random.fold_in(key, number)
        if block.kind == "gaussian":
            out.append(jax.random.normal(own, (m, m), dtype))
        else:
            nu = int(dims[block.dim]) - block.used * m
            out.append(bartlett(own, nu, m, dtype))
    return out


def bartlett(key: jax.Array, nu: int, m: int, dtype: Any) -> jax.Array:
    """Lower triangular T (m, m) with T T^T Wishart of `nu` degrees of freedom.

    Columns beyond `nu` are zero: with fewer degrees of freedom than rows the matrix is singular.
    """
    below, chi = jax.random.split(key)
    normals = jax.random.normal(below, (m, m), dtype)
    freedom = np.maximum(nu - np.arange(m), 0)
    live = freedom > 0
    shape = jnp.asarray(np.where(live, freedom, 1) / 2, dtype=dtype)
    diagonal = jnp.sqrt(2 * jax.random.gamma(chi, shape, (m,), dtype))
    T = jnp.tril(normals, -1) + jnp.diag(diagonal)
    return jnp.where(jnp.asarray(live), T, 0)

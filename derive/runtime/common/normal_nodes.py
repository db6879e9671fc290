"""Means over many normals inside a kernel: nodes in a leading axis, the mean over it, a root.

`normal_nodes(V, number, count)` are the nodes of the m x m normals of that number, of `count` such
drawn together; what is computed from them has the nodes in front, until `normal_mean`, and other
arrays meet them through `over_nodes`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.factor import psd_factor, tiles_factor
from derive.runtime.common.fineness import fineness, finer, largest
from derive.runtime.common.ops import Tiles

PAIRS = 2048


@cache
def lattice(count: int, pairs: int = PAIRS) -> np.ndarray:
    """Nodes (2 pairs, count) of `count` independent normals, of equal weight.

    Kronecker's sequence of the roots of primes, mapped to normals, and its mirror image, so that
    odd moments vanish; where there are nodes enough their covariance is made the identity.
    """
    primes: list[int] = []
    candidate = 2
    while len(primes) < count:
        if all(candidate % p for p in primes if p * p <= candidate):
            primes.append(candidate)
        candidate += 1
    points = (np.outer(np.arange(1, pairs + 1), np.sqrt(primes) % 1) + 0.5) % 1
    z = np.array([NormalDist().inv_cdf(p) for p in points.ravel()]).reshape(points.shape)
    if 4 * count <= pairs:
        z = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / pairs)).T
    else:
        z /= np.sqrt((z * z).mean(axis=0))
    return np.concatenate([z, -z])


def normal_nodes(V: Any, number: int, count: int) -> Any:
    """Nodes (nodes, ..., m, m) of one of `count` m x m normals; V: over nodes."""
    m = V.shape[-1]
    z = lattice(count * m * m, PAIRS * fineness()).reshape(-1, count, m, m)[:, number]
    if isinstance(V, Tiles):
        like = jnp.asarray(V.entries[0, 0])
        own = z.reshape(-1, *(1,) * (like.ndim - 1), m, m)
        return Tiles.of((m, m), lambda i, j: jnp.asarray(own[..., i, j], like.dtype))
    return jnp.asarray(z.reshape(-1, *(1,) * (V.ndim - 3), m, m), V.dtype)


def over_nodes(V: Any) -> Any:
    """The same at all nodes: an axis in front."""
    if isinstance(V, Tiles):
        e = V.entries
        return Tiles.of(V.shape, lambda *i: e[i][None] if jnp.ndim(e[i]) else e[i])
    return V[None]


def normal_mean(values: Any) -> Any:
    """The mean over nodes."""
    if isinstance(values, Tiles):
        return Tiles.of(values.shape, lambda *i: jnp.mean(values.entries[i], axis=0))
    return values.mean(axis=0)


def error_of_means(function: Callable[..., jax.Array], *arguments: Any) -> jax.Array:
    """Distance of a function's matrices (..., m, m) to those by four times the nodes, relative to
    the largest entry, (...,)."""
    found = function(*arguments)
    with finer(4):
        better = function(*arguments)
    return largest([(found - better, better)], [2])


def psd_root(V: Any) -> Any:
    """Lower triangular L with L L^T = V, zero columns where V is flat."""
    return tiles_factor(V)[0] if isinstance(V, Tiles) else _factor(V)


@jax.jit
def _factor(V: jax.Array) -> jax.Array:
    """Compiled once a shape: its branch is compiled anew in every call otherwise."""
    flat = V.reshape(-1, *V.shape[-2:])
    return jax.vmap(lambda one: psd_factor(one)[0])(flat).reshape(V.shape)

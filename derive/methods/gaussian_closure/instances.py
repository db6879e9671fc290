"""Numbers at which a closure is checked: a generic law, matrices and parameters in range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.defined_values import value
from derive.calculus.index.expressions import Expression
from derive.draws import generator
from derive.methods.common.parameters import sample
from derive.notation.closures.model import ClosureModel

SIZES = {"B": 3}


SCALE = 0.25


@dataclass(frozen=True)
class ClosureInstance:
    """Numbers for one check: arrays by name, sizes by dimension, parameters."""

    arrays: dict[str, np.ndarray]
    sizes: dict[str, int]
    params: dict[str, float]
    numbers: dict[sp.Symbol, float]


def instance(
    model: ClosureModel,
    seed: int,
    *,
    scale: float = SCALE,
    size: int = 2,
    rank: int | None = None,
    block: bool = True,
    given: Mapping[str, int] = MappingProxyType({}),
) -> ClosureInstance:
    """A generic law and generic matrices; heads, keys and values of sizes that differ.

    `given`: sizes by dimension that are to be these.
    """
    rng = generator(57, seed)
    sizes = dict(SIZES)
    for position, dim in enumerate(model.dims):
        sizes[dim.name] = size if dim in (model.state_dim, model.key_dim) else 2 + position % 2
    sizes |= given
    d, e = sizes[model.state_dim.name], sizes[model.key_dim.name]
    arrays = {
        m.data: scale ** (1 if len(m.shape) > 1 else 0)
        * rng.standard_normal([sizes[s.name] for s in m.shape])
        for m in model.matrices
    }
    blocks = (sizes["B"],) if model.positional and block else ()

    def law(n: int) -> tuple[np.ndarray, np.ndarray]:
        root = rng.standard_normal((*blocks, n, rank or n))
        cov = root @ root.swapaxes(-1, -2) / (2 * n) + (0.2 * np.eye(n) if rank is None else 0)
        return 0.7 * rng.standard_normal((*blocks, n)), cov

    arrays["m"], arrays["S"] = law(d)
    if model.centred:
        arrays["m"] = 0 * arrays["m"]
    if model.cross:
        blocks = ()
        arrays["key_mean"], arrays["key_cov"] = law(e)
    with_law(arrays)
    if model.positional:
        arrays["theta"] = rng.dirichlet(3 * np.ones(sizes["B"]))
        add_masks(arrays, sizes["B"])
        middle = middles(arrays["theta"])
        arrays["lag"] = middle[:, None] - middle[None, :]
        arrays["x"] = rng.standard_normal((*((sizes["B"],) if block else ()), d))
    else:
        arrays["x"] = rng.standard_normal(d)
    params = {p.name: float(sample(p, rng)) for p in model.params}
    numbers = {p: params[p.name] for p in model.params}
    return ClosureInstance(arrays, sizes, params, numbers)


def with_law(arrays: dict[str, np.ndarray]) -> None:
    """Factors of the covariances (any square root serves)."""
    for cov, factor in (("S", "F_S"), ("key_cov", "F_key")):
        if cov in arrays:
            values, vectors = np.linalg.eigh(arrays[cov])
            arrays[factor] = vectors * np.sqrt(np.maximum(values, 0))[..., None, :]
    for whose, mean, factor in (("token", "m", "F_S"), ("key", "key_mean", "F_key")):
        if factor in arrays and arrays[factor].ndim == 2:
            z, arrays[f"{whose}_weights"] = node_rule(len(arrays[factor]))
            arrays[f"{whose}_nodes"] = arrays[mean] + z @ arrays[factor].T


REACH, FAR, LINE, PRODUCTS = 9.0, 7.5, 480, {2: 61, 3: 23}  # as many nodes as kernels take


@lru_cache(maxsize=8)
def node_rule(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (count, d) and weights of the standard normal; above three dimensions a random cloud,
    which serves where two sides are compared on the same nodes."""
    if d == 1:
        z = np.linspace(-REACH, REACH, LINE + 1)
        w = np.exp(-(z**2) / 2)
        return z[:, None], w / w.sum()
    if d not in PRODUCTS:
        return generator(58, d).standard_normal((256, d)), np.full(256, 1 / 256)
    z = np.linspace(-FAR, FAR, PRODUCTS[d])
    w = np.exp(-(z**2) / 2)
    w = w / w.sum()
    grid = np.stack(np.meshgrid(*[z] * d, indexing="ij"), -1).reshape(-1, d)
    weight = np.prod(np.stack(np.meshgrid(*[w] * d, indexing="ij"), -1), -1).reshape(-1)
    keep = weight > 1e-14
    return grid[keep], weight[keep] / weight[keep].sum()


def middles(theta: np.ndarray) -> np.ndarray:
    """Positions of blocks: the share of tokens before the middle of each."""
    return np.cumsum(theta) - theta / 2


def add_masks(arrays: dict[str, np.ndarray], blocks: int) -> None:
    s, tau = np.arange(blocks)[:, None], np.arange(blocks)[None, :]
    arrays["mask_upto"] = (tau <= s).astype(float)
    arrays["mask_before"] = (tau < s).astype(float)
    arrays["mask_from"] = (tau >= s).astype(float)
    arrays["mask_after"] = (tau > s).astype(float)


def at(
    one: ClosureInstance, expression: Expression, book: Book, **changed: np.ndarray
) -> np.ndarray:
    arrays = {**one.arrays, **changed}
    if {"S", "key_cov", "m", "key_mean"} & {*changed}:
        with_law(arrays)
    weights = arrays.get("key_weights", arrays.get("token_weights", ()))
    sizes = {**one.sizes, "nodes": len(weights)}
    return value(expression, book, arrays, sizes, one.numbers)

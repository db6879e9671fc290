"""Exact Gaussian averages of polynomials by product quadrature: a check that knows no Isserlis.

Input: the shapes of the random arrays and the degrees of the polynomial in each.  Output: nodes
and weights with which the average is exact to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def product_rule(
    shapes: Mapping[str, tuple[int, ...]], degrees: Mapping[str, int]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Nodes (count, *shape) for each array and weights (count,).

    `degrees` bounds the total degree in the entries of each array; q Gauss-Hermite points a
    variable are exact up to degree 2 q - 1.
    """
    if not shapes:
        return {}, np.ones(1)
    axes, sizes = [], []
    for name, shape in shapes.items():
        points = degrees[name] // 2 + 1
        for _ in range(int(np.prod(shape, dtype=int))):
            axes.append(points)
        sizes.append(int(np.prod(shape, dtype=int)))
    rules = {q: _hermite(q) for q in set(axes)}
    count = int(np.prod(axes, dtype=float))
    if count > 3_000_000:
        raise ValueError(f"a product rule of {count} nodes is too large; take smaller dimensions")
    grids = np.indices(axes).reshape(len(axes), -1)
    weights = np.ones(count)
    values = np.empty((count, len(axes)))
    for position, points in enumerate(axes):
        x, w = rules[points]
        values[:, position] = x[grids[position]]
        weights *= w[grids[position]]
    nodes, start = {}, 0
    for (name, shape), size in zip(shapes.items(), sizes, strict=True):
        nodes[name] = values[:, start : start + size].reshape(count, *shape)
        start += size
    return nodes, weights


def star_rule(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """2 N nodes on the axes, exact to degree three: for averages with a negligible higher part."""
    sizes = {name: int(np.prod(shape, dtype=int)) for name, shape in shapes.items()}
    entries = sum(sizes.values())
    values = np.sqrt(entries) * np.concatenate([np.eye(entries), -np.eye(entries)])
    nodes, start = {}, 0
    for name, shape in shapes.items():
        nodes[name] = values[:, start : start + sizes[name]].reshape(2 * entries, *shape)
        start += sizes[name]
    return nodes, np.full(2 * entries, 1 / (2 * entries))


def _hermite(points: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.hermite_e.hermegauss(points)
    return x, w / w.sum()

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

    `degrees` bounds the total degree in the entries of each array.
    """
    rules = [_rule(int(np.prod(shape, dtype=int)), degrees[name]) for name, shape in shapes.items()]
    count = int(np.prod([len(w) for _, w in rules], dtype=float))
    if count > 3_000_000:
        raise ValueError(f"a product rule of {count} nodes is too large; take smaller dimensions")
    grids = np.indices([len(w) for _, w in rules]).reshape(len(rules), -1)
    weights = np.ones(count)
    nodes = {}
    for (name, shape), (x, w), pick in zip(shapes.items(), rules, grids, strict=True):
        nodes[name] = x[pick].reshape(count, *shape)
        weights = weights * w[pick]
    return nodes, weights


def _rule(entries: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (count, entries) and weights, exact to `degree` for iid normals."""
    if degree <= 3:
        axes = np.sqrt(entries) * np.eye(entries)
        return np.concatenate([axes, -axes]), np.full(2 * entries, 1 / (2 * entries))
    if degree <= 5:
        return _fifth(entries)
    x, w = _hermite(degree // 2 + 1)
    grids = np.indices([len(x)] * entries).reshape(entries, -1)
    return x[grids].T, np.prod(w[grids], axis=0)


def _fifth(entries: int) -> tuple[np.ndarray, np.ndarray]:
    """Degree five, 2 N^2 + 1 nodes: the origin, the axes, the diagonals of coordinate planes."""
    n = entries
    axes = np.sqrt(n + 2) * np.eye(n)
    nodes = [np.zeros((1, n)), axes, -axes]
    weights = [np.full(1, 2 / (n + 2)), np.full(2 * n, (4 - n) / (2 * (n + 2) ** 2))]
    for i in range(n):
        for j in range(i):
            for s, t in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                nodes.append(((s * axes[i] + t * axes[j]) / np.sqrt(2))[None])
    weights.append(np.full(2 * n * (n - 1), 1 / (n + 2) ** 2))
    return np.concatenate(nodes), np.concatenate(weights)


def star_rule(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """One joint rule of degree three for all arrays: few nodes, for averages whose higher part is
    negligible."""
    sizes = [int(np.prod(shape, dtype=int)) for shape in shapes.values()]
    values, weights = _rule(sum(sizes), 3)
    parts = np.split(values, np.cumsum(sizes)[:-1], axis=1)
    nodes = {
        name: part.reshape(len(weights), *shape)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }
    return nodes, weights


def _hermite(points: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.hermite_e.hermegauss(points)
    return x, w / w.sum()

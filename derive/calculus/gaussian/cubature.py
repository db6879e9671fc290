"""Averages polynomials over Gaussians exactly by product quadrature, a check without Isserlis.

Input: the shapes of the random arrays and the degrees of the polynomial in each.  Output: nodes
and weights with which the average is exact to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import numpy as np


class TooLarge(ValueError):
    """A rule of more nodes than are worth their time."""


def product_rule(
    shapes: Mapping[str, tuple[int, ...]], degrees: Mapping[str, int]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Nodes (count, *shape) for each array and weights (count,).

    `degrees` bounds the total degree in the entries of each array.
    """
    require_few(shapes, degrees)
    rules = [_rule(int(np.prod(shape, dtype=int)), degrees[name]) for name, shape in shapes.items()]
    count = math.prod(len(w) for _, w in rules)
    counts = [len(w) for _, w in rules]
    grids = np.indices(counts).reshape(len(rules), math.prod(counts))
    weights = np.ones(count)
    nodes = {}
    for (name, shape), (x, w), pick in zip(shapes.items(), rules, grids, strict=True):
        nodes[name] = x[pick].reshape(count, *shape)
        weights = weights * w[pick]
    return nodes, weights


def require_few(shapes: Mapping[str, tuple[int, ...]], degrees: Mapping[str, int]) -> None:
    """Raises TooLarge for a rule of more than three million nodes."""
    count = math.prod(_count(math.prod(s), degrees[name]) for name, s in shapes.items())
    if count > 3_000_000:
        raise TooLarge(f"a product rule of {count} nodes is too large; take smaller dimensions")


def _count(entries: int, degree: int) -> int:
    """Nodes of `_rule`."""
    if degree <= 3:
        return 2 * entries
    return 2 * entries**2 + 1 if degree <= 5 else int((degree // 2 + 1) ** entries)


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


Rule = tuple[np.ndarray, np.ndarray]


def joint_rule(
    plain: tuple[dict[str, np.ndarray], np.ndarray], special: Mapping[str, Rule]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Product of a rule with rules for single arrays."""
    nodes, weights = plain
    for name, (x, w) in special.items():
        nodes = {k: np.repeat(v, len(w), axis=0) for k, v in nodes.items()}
        nodes[name] = np.tile(x, (len(weights), *[1] * (x.ndim - 1)))
        weights = np.outer(weights, w).ravel()
    return nodes, weights


def kinked_rule(state: np.ndarray, units: int, degree: int = 11) -> Rule:
    """Nodes (count, 2, units) for a weight whose pre-activations state @ W have kinks at zero.

    `degree`: that of the average in the size of the weights of one unit.  Two rows, so that polar
    coordinates put every kink on a ray; arcs between the rays.
    """
    rays = np.sort(
        np.concatenate([np.arctan2(-state[:, 0], state[:, 1]) + k * np.pi for k in (0, 1)])
        % (2 * np.pi)
    )
    x, w = np.polynomial.legendre.leggauss(10)
    edges = [(a, b) for a, b in zip(rays, [*rays[1:], rays[0] + 2 * np.pi], strict=True)]
    angles = np.concatenate([(a + b) / 2 + (b - a) / 2 * x for a, b in edges])
    shares = np.concatenate([(b - a) / 2 * w for a, b in edges]) / (2 * np.pi)
    radii, masses = _radial(degree // 2 + 1)
    points = np.stack([np.outer(radii, f(angles)).ravel() for f in (np.cos, np.sin)], axis=1)
    one = np.outer(masses, shares).ravel()
    nodes, weights = points[:, :, None], one
    for _ in range(units - 1):
        count = len(weights)
        nodes = np.concatenate(
            [np.repeat(nodes, len(one), axis=0), np.tile(points[:, :, None], (count, 1, 1))], axis=2
        )
        weights = np.outer(weights, one).ravel()
    return nodes, weights


@cache
def _radial(count: int) -> Rule:
    """Gauss rule for the law of |(g_1, g_2)|, density r exp(-r^2 / 2): Golub and Welsch."""
    x, w = np.polynomial.legendre.leggauss(25)  # on each of 15 panels: few eigenvalues
    r = (np.arange(15)[:, None] + (x + 1) / 2).ravel()
    mass = np.tile(w / 2, 15) * r * np.exp(-(r**2) / 2)
    alpha, beta = np.zeros(count), np.zeros(count)
    last, now = np.zeros_like(r), np.ones_like(r)
    for k in range(count):
        norm = np.sum(mass * now**2)
        alpha[k] = np.sum(mass * r * now**2) / norm
        beta[k] = norm / np.sum(mass * last**2) if k else 1.0
        last, now = now, (r - alpha[k]) * now - (beta[k] if k else 0.0) * last
    off = np.sqrt(beta[1:])
    values, vectors = np.linalg.eigh(np.diag(alpha) + np.diag(off, 1) + np.diag(off, -1))
    return values, vectors[0] ** 2 / np.sum(vectors[0] ** 2)


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

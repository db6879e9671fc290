"""Gaussian averages of functions with kinks where coordinates change sign.

Input: the factor L of a covariance, so that h = L g with iid normals g.  Output: nodes g and
weights.  The planes h_a = 0 cut space into 2^m cones; in each one the radius and the position on a
simplex are integrated by Gauss rules, so that functions that are smooth inside the cones, whatever
happens at the planes, are averaged with an error that falls exponentially in the number of nodes.
"""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np

Rule = tuple[np.ndarray, np.ndarray]


def cone_rule(L: np.ndarray, angles: int, radii: int) -> Rule:
    """Nodes (count, m) and weights (count,) for E of functions of g ~ N(0, I_m)."""
    m = len(L)
    edges = np.linalg.inv(L)
    edges = edges / np.linalg.norm(edges, axis=0)  # columns: where all other h vanish
    r, dr = _radius(m, radii)
    nodes, weights = [], []
    for signs in itertools.product((1.0, -1.0), repeat=m):
        directions, share = (_arc if m == 2 else _solid)(edges * np.array(signs), angles)
        nodes.append(np.multiply.outer(r, directions).reshape(-1, m))
        weights.append(np.multiply.outer(dr, share).ravel())
    return np.concatenate(nodes), np.concatenate(weights)


def _arc(edges: np.ndarray, points: int) -> Rule:
    """Directions between two edges: Gauss-Legendre in the angle."""
    one, two = edges.T
    angle = math.atan2(abs(one[0] * two[1] - one[1] * two[0]), one @ two)
    x, w = np.polynomial.legendre.leggauss(points)
    t = angle * (x + 1) / 2
    rays = np.multiply.outer(np.sin(angle - t), one) + np.multiply.outer(np.sin(t), two)
    return rays / math.sin(angle), angle / 2 * w


def _solid(edges: np.ndarray, points: int) -> Rule:
    """Directions inside a cone: Gauss-Legendre on a simplex, radially projected."""
    m = len(edges)
    u, du = _simplex(m, points)
    rays = u @ edges.T
    length = np.linalg.norm(rays, axis=1)
    return rays / length[:, None], du * abs(np.linalg.det(edges)) / length**m


def hermite_rule(size: int, points: int) -> Rule:
    """Nodes (points^size, size) and weights for E of smooth functions of N(0, I)."""
    x, w = np.polynomial.hermite_e.hermegauss(points)
    grid = np.indices([points] * size).reshape(size, points**size)
    return x[grid].T, np.prod((w / w.sum())[grid], axis=0)


def product(rules: list[Rule]) -> Rule:
    """The rule for independent vectors: nodes side by side."""
    nodes, weights = np.zeros((1, 0)), np.ones(1)
    for x, w in rules:
        nodes = np.concatenate(
            [np.repeat(nodes, len(w), axis=0), np.tile(x, (len(weights), 1))], axis=1
        )
        weights = np.outer(weights, w).ravel()
    return nodes, weights


@cache
def _simplex(m: int, points: int) -> Rule:
    """Nodes (count, m) with sum one, weights of the integral over their first m - 1 entries."""
    x, w = np.polynomial.legendre.leggauss(points)
    x, w = (x + 1) / 2, w / 2
    nodes, weights, left = np.zeros((1, 0)), np.ones(1), np.ones(1)
    for k in range(m - 1):
        nodes = np.concatenate(
            [np.repeat(nodes, points, axis=0), np.multiply.outer(left, x).reshape(-1, 1)], axis=1
        )
        # the entries that follow are a simplex of dimension m - 2 - k in what is left
        weights = np.multiply.outer(weights, w * (1 - x) ** (m - 2 - k)).ravel()
        left = np.multiply.outer(left, 1 - x).ravel()
    return np.concatenate([nodes, left[:, None]], axis=1), weights


@cache
def _radius(m: int, points: int) -> Rule:
    """Gauss rule for r^(m-1) exp(-r^2/2) (2 pi)^(-m/2) dr on the half-line: Golub and Welsch."""
    x, w = np.polynomial.legendre.leggauss(25)  # on each of 16 panels: few eigenvalues
    r = (np.arange(16)[:, None] + (x + 1) / 2).ravel()
    mass = np.tile(w, 16) * r ** (m - 1) * np.exp(-(r**2) / 2)
    total = 2 ** (m / 2 - 1) * math.gamma(m / 2)
    mass *= total / mass.sum()
    alpha, beta = np.zeros(points), np.zeros(points)
    last, now = np.zeros_like(r), np.full_like(r, 1 / math.sqrt(total))
    for k in range(points):  # Stieltjes, with orthonormal polynomials
        alpha[k] = np.sum(mass * r * now**2)
        following = (r - alpha[k]) * now - (beta[k] * last if k else 0.0)
        norm = math.sqrt(np.sum(mass * following**2))
        last, now = now, following / norm
        if k + 1 < points:
            beta[k + 1] = norm
    values, vectors = np.linalg.eigh(np.diag(alpha) + np.diag(beta[1:], 1) + np.diag(beta[1:], -1))
    return values, (2 * math.pi) ** (-m / 2) * total * vectors[0] ** 2

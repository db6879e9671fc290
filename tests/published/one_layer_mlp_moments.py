"""One layer of a residual MLP of width n with two tokens: moments of V' by quadrature, exact.

Source: the residual layer of Li, Nica and Roy (2022), arXiv 2206.02768,

    X' = lam X + gamma sqrt(c / n) f(X W_1 / sqrt n) W_2,      lam^2 + gamma^2 = 1,

with c = 1 / E f(g)^2.  The columns h of X W_1 / sqrt n are iid N(0, V), so with
S = (c / n) sum_i f(h_i) f(h_i)^T the columns of X' are Gaussian given S, with means lam X_i and
the one covariance gamma^2 S.  Hence, for every n (n may be any positive number here),

    E[V'] = lam^2 V + gamma^2 E S,
    Cov[V'^{ab}, V'^{cd}] = gamma^4 Cov[S^{ab}, S^{cd}]
        + (1/n) gamma^4 E[S^{ac} S^{bd} + S^{ad} S^{bc}]
        + (1/n) lam^2 gamma^2 E[V^{ac} S^{bd} + V^{ad} S^{bc} + V^{bc} S^{ad} + V^{bd} S^{ac}].

What is left are E f f and E f f f f over a Gaussian pair.  Input: V (2, 2), positive definite.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pair = tuple[Array, Array]  # nodes (k, 2) and weights (k,) of a Gaussian pair N(0, V)


def smooth_pair(V: Array, order: int = 40) -> Pair:
    """Gauss-Hermite: for smooth functions."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(order)
    g = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    w = np.kron(weights, weights)
    return g @ np.linalg.cholesky(V).T, w / w.sum()


def homogeneous_pair(V: Array, degree: int, order: int = 40) -> Pair:
    """For products of `degree` functions that are linear on half-lines: the angle alone is left."""
    L = np.linalg.cholesky(V)
    kinks = [np.arctan2(-row[0], row[1]) % np.pi for row in L]
    edges = np.sort([0.0, 2 * np.pi, *kinks, *(k + np.pi for k in kinks)])
    x, w = np.polynomial.legendre.leggauss(order)
    half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
    angle = (middle[:, None] + half[:, None] * x).ravel()
    weight = (half[:, None] * w).ravel() / (2 * np.pi)
    radius = {2: 2.0, 4: 8.0}[degree]  # E r^degree
    return np.stack([np.cos(angle), np.sin(angle)], -1) @ L.T, weight * radius


def moments(
    V: Array, f: Callable[[Array], Array], c: float, gamma: float, n: float, two: Pair, four: Pair
) -> tuple[Array, Array]:
    """n E[V' - V] (2, 2) and n Cov[V'] (2, 2, 2, 2); `two`, `four`: rules for E f f, E f f f f."""
    (x, w), (y, u) = two, four
    mean = c * np.einsum("k,ka,kb->ab", w, f(x), f(x))
    fourth = c**2 * np.einsum("k,ka,kb,kc,kd->abcd", u, f(y), f(y), f(y), f(y))
    spread = fourth - np.einsum("ab,cd->abcd", mean, mean)  # n Cov[S]
    both = np.einsum("ab,cd->abcd", mean, mean) + spread / n  # E S S
    g2, lam2 = gamma**2, 1 - gamma**2
    cross = np.einsum("ac,bd->abcd", V, mean)
    cross = cross + cross.transpose(1, 0, 2, 3)
    value = both.transpose(0, 2, 1, 3) + both.transpose(0, 2, 3, 1)
    covariance = g2**2 * (spread + value) + lam2 * g2 * (cross + cross.transpose(0, 1, 3, 2))
    return n * g2 * (mean - V), covariance


def shaped_relu(
    V: Array, gamma: float, c_plus: float, c_minus: float, eps: float
) -> tuple[Array, Array]:
    """Moments at n = eps^-2, with slopes 1 + c_pm eps; eps may be negative."""
    plus, minus = 1 + c_plus * eps, 1 + c_minus * eps

    def f(x: Array) -> Array:
        return plus * np.maximum(x, 0) + minus * np.minimum(x, 0)

    c = 2 / (plus**2 + minus**2)
    rules = homogeneous_pair(V, 2), homogeneous_pair(V, 4)
    return moments(V, f, c, gamma, eps**-2, *rules)


def shaped_smooth(
    V: Array, gamma: float, a: float, phi: Callable[[Array], Array], n: float
) -> tuple[Array, Array]:
    """Moments for s phi(x / s), s = a sqrt n."""
    s = a * np.sqrt(n)

    def f(x: Array) -> Array:
        return s * phi(x / s)

    g, w = np.polynomial.hermite_e.hermegauss(80)
    c = w.sum() / np.sum(w * f(g) ** 2)
    return moments(V, f, float(c), gamma, n, smooth_pair(V), smooth_pair(V))

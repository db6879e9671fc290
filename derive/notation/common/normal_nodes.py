"""Means over many normals: nodes of equal weight, and the root of a covariance that goes with them.

The nodes are points of a lattice, mapped to normals and back by their signs, so that odd moments
vanish; where there are enough of them their covariance is made the identity.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import numpy as np
import sympy as sp

PAIRS = 2048


@cache
def nodes(count: int) -> np.ndarray:
    """Nodes (2 PAIRS, count) of `count` independent normals."""
    steps = np.sqrt([float(sp.prime(k + 1)) for k in range(count)]) % 1
    points = (np.arange(1, PAIRS + 1)[:, None] * steps + 0.5) % 1
    quantile = np.vectorize(NormalDist().inv_cdf, otypes=[float])
    z = quantile(points)
    if 4 * count <= PAIRS:
        z = np.linalg.solve(np.linalg.cholesky(z.T @ z / PAIRS), z.T).T
    else:
        z = z / np.sqrt(np.mean(z**2, axis=0))
    return np.concatenate([z, -z])


def psd_root(matrix: np.ndarray) -> np.ndarray:
    """Lower triangular root of a positive semi-definite matrix, zero columns where it is flat."""
    m = matrix.shape[-1]
    out = np.zeros_like(matrix)
    for j in range(m):
        left = matrix[..., j] - (out * out[..., j : j + 1, :]).sum(-1)
        pivot = left[..., j]
        regular = pivot > 8 * m * np.finfo(float).eps * matrix[..., j, j]
        scale = np.where(regular, 1 / np.sqrt(np.where(regular, pivot, 1)), 0)
        out[..., j:, j] = left[..., j:] * scale[..., None]
    return out

"""Closed forms of Gaussian closures with V = I (Castin, Ablin, Carrillo, Peyre, arXiv 2501.18322).

With A = K^T Q and V = I the softmax closure is (S^-1)' = -(A + A^T).
"""

from __future__ import annotations

import numpy as np


def psd_root(S: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(S)
    return (vectors * np.sqrt(np.maximum(values, 0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def covariance(S0: np.ndarray, A: np.ndarray, t: float) -> np.ndarray:
    """S(t) = (S0^-1 - t (A + A^T))^-1, as R (1 - t R (A + A^T) R)^-1 R with R = S0^{1/2}."""
    R = psd_root(S0)
    inner = np.eye(S0.shape[-1]) - t * R @ (A + A.T) @ R
    return R @ np.linalg.solve(inner, R)


def blow_up_time(S0: np.ndarray, A: np.ndarray) -> np.ndarray:
    """1 / largest eigenvalue of S0^{1/2} (A + A^T) S0^{1/2}; inf if none is positive."""
    R = psd_root(S0)
    top = np.linalg.eigvalsh(R @ (A + A.T) @ R)[..., -1]
    size = np.linalg.norm(R, axis=(-1, -2)) ** 2 * np.linalg.norm(A)
    return np.where(top > 1e-13 * size, 1 / np.where(top > 0, top, 1), np.inf)


def limit(S0: np.ndarray, A: np.ndarray, tolerance: float = 1e-12) -> np.ndarray:
    """P (P^T S0^-1 P)^-1 P^T for A + A^T <= 0 with kernel spanned by the columns of P."""
    values, vectors = np.linalg.eigh(A + A.T)
    P = vectors[:, np.abs(values) <= tolerance * np.abs(values).max()]
    return P @ np.linalg.inv(P.T @ np.linalg.solve(S0, P)) @ P.T

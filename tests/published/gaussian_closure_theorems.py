"""Published closures of Gaussian laws, written from the papers; nothing of the engine is used.

Castin, Ablin, Carrillo, Peyre (arXiv 2501.18322) for softmax, L2, multi-head, Sinkhorn; the others
by direct calculation.  A = K^T Q, so that <Qx, Ky> = y^T A x; law N(m, S).  Each function returns
(rate of the mean, rate of the covariance).
"""

from __future__ import annotations

import numpy as np

Rates = tuple[np.ndarray, np.ndarray]


def softmax(m, S, Q, K, V) -> Rates:  # type: ignore[no-untyped-def]
    A = K.T @ Q
    C = V @ S @ A @ S
    return V @ (m + S @ A @ m), C + C.T


def l2(m, S, Q, K, V) -> Rates:  # type: ignore[no-untyped-def]
    A = K.T @ Q
    P = np.linalg.inv(np.eye(len(m)) + 2 * S @ K.T @ K)
    C = 2 * V @ P @ S @ A @ S
    return V @ P @ (m + 2 * S @ A @ m), C + C.T


def multihead(m, S, Q, K, V, W) -> Rates:  # type: ignore[no-untyped-def]
    parts = [softmax(m, S, q, k, w.T @ v) for q, k, v, w in zip(Q, K, V, W, strict=True)]
    return sum(p[0] for p in parts), sum(p[1] for p in parts)


def linear(m, S, Q, K, V) -> Rates:  # type: ignore[no-untyped-def]
    M = V @ (S + np.outer(m, m)) @ K.T @ Q
    return M @ m, M @ S + S @ M.T


def sinkhorn(m, S, Q, K, V, eps) -> Rates:  # type: ignore[no-untyped-def]
    """Y = R U diag(f) W^T R, R = S^(1/2), R A R / eps = U diag(s) W^T."""
    values, vectors = np.linalg.eigh(S)
    R = vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T
    U, s, Wt = np.linalg.svd(R @ K.T @ Q @ R / eps)
    Y = R @ U @ np.diag(2 * s / (1 + np.sqrt(1 + 4 * s**2))) @ Wt @ R
    C = V @ Y / eps
    return V @ m / eps, C + C.T


def causal_linear(m, S, theta, Q, K, V) -> Rates:  # type: ignore[no-untyped-def]
    means, covs = [], []
    for s in range(len(theta)):
        share = theta[: s + 1] / theta[: s + 1].sum()
        second = sum(w * (S[t] + np.outer(m[t], m[t])) for t, w in enumerate(share))
        M = V @ second @ K.T @ Q
        means.append(M @ m[s])
        covs.append(M @ S[s] + S[s] @ M.T)
    return np.stack(means), np.stack(covs)


def masked_velocity(x, m, S, theta, Q, K, V):  # type: ignore[no-untyped-def]
    """Gated mixture at every block: x (B, d)."""
    A = K.T @ Q
    out = []
    for s in range(len(theta)):
        log = [
            np.log(theta[t]) + m[t] @ A @ x[s] + (A @ x[s]) @ S[t] @ (A @ x[s]) / 2
            for t in range(s + 1)
        ]
        w = np.exp(np.array(log) - max(log))
        w /= w.sum()
        out.append(sum(w[t] * V @ (m[t] + S[t] @ A @ x[s]) for t in range(s + 1)))
    return np.stack(out)


def sigmoid_centred(S, Q, K, V) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Covariance rate for m = 0, bias 0: V S A J + T, J an integral over the resolvent."""
    from scipy.integrate import quad_vec

    A = K.T @ Q
    H = A.T @ S @ A
    eye = np.eye(len(S))

    def integrand(u: float) -> np.ndarray:
        resolvent = np.linalg.inv(eye + u**2 * S @ H)
        return u / np.sinh(np.pi * u) * np.sqrt(np.linalg.det(resolvent)) * resolvent @ S

    J, _ = quad_vec(integrand, 1e-12, 12.0, epsabs=1e-14, epsrel=1e-13)
    C = V @ S @ A @ J
    return C + C.T

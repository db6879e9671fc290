"""Two tokens in the residual shaped-ReLU MLP: E V_12 of the SDE and of the network of width n.

Source: Li, Nica and Roy (2022), arXiv 2206.02768, with a skip connection.  With s = 2 gamma^2,

    dV_12 = kappa sqrt(V_11 V_22) (q(rho) - rho) dt + noise, dV_aa = noise, covariance s Sigma_lin,
    q(rho) = (2 / pi) (sqrt(1 - rho^2) + rho arcsin rho),      kappa = gamma^2 (c_+ - c_-)^2 / 4.

**SDE.** Rows scale alone, so E f = sqrt(V_11 V_22) F(rho, t) solves one equation in one variable,

    F_t = (s/2) (1 - rho^2) [(1 - rho^2) F'' + rho F' - F] + kappa (q - rho) F',    F(rho, 0) = rho.

**Network.** The mean of one layer is exact at every n: kappa times
1 / ((1 + (c_+ + c_-) / (2 sqrt n))^2 + (c_+ - c_-)^2 / (4 n)); to first order the factor is
1 - (c_+ + c_-) / sqrt n.  So E V_12 is V_12(0) plus the summed means of the layers along paths,
and V_aa - V_aa(0), V_12 - V_12(0) - (summed means) are martingales: control variates.  A path
draws what is needed of the weights: 2 n hidden normals and a few more, in law the dense network.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import expm


class Case(NamedTuple):
    gamma: float
    c_plus: float
    c_minus: float
    V_12: float  # V_11 = V_22 = 1 at the start


def q(rho: np.ndarray) -> np.ndarray:
    return 2 / np.pi * (np.sqrt(np.maximum(1 - rho**2, 0)) + rho * np.arcsin(rho))


def kappa(case: Case, n: float | None = None, first_order: bool = False) -> float:
    """Size of the drift in the limit, at width n, or at width n to first order."""
    limit = case.gamma**2 * (case.c_plus - case.c_minus) ** 2 / 4
    if n is None:
        return limit
    total, gap = case.c_plus + case.c_minus, case.c_plus - case.c_minus
    if first_order:
        return limit * (1 - total / np.sqrt(n))
    return limit / ((1 + total / (2 * np.sqrt(n))) ** 2 + gap**2 / (4 * n))


def sde_mean(case: Case, t: float, size: float, order: int = 80) -> float:
    """E V_12 at time t of the SDE whose drift has the size `size`; Chebyshev collocation."""
    k = np.arange(order + 1)
    x = np.cos(np.pi * k / order)
    c = np.where((k == 0) | (k == order), 2.0, 1.0) * (-1.0) ** k
    gap = x[:, None] - x + np.eye(order + 1)
    D = np.outer(c, 1 / c) / gap
    D -= np.diag(D.sum(axis=1))
    s, rest = 2 * case.gamma**2, 1 - x**2
    operator = s / 2 * rest[:, None] * (rest[:, None] * D @ D + x[:, None] * D - np.eye(order + 1))
    operator += size * (q(x) - x)[:, None] * D
    F = expm(t * operator) @ x
    weights = np.where((k == 0) | (k == order), 0.5, 1.0) * (-1.0) ** k
    ratios = weights / (case.V_12 - x)
    return float(ratios @ F / ratios.sum())


class Estimate(NamedTuple):
    mean: float
    error: float  # standard error


def network_mean(case: Case, n: int, depth: int, paths: int, seed: int) -> Estimate:
    """E V_12 after `depth` layers of width n."""
    rng = np.random.default_rng((seed, n))
    size, g, lam = kappa(case, n), case.gamma, np.sqrt(1 - case.gamma**2)
    slopes = 1 + case.c_plus / np.sqrt(n), 1 + case.c_minus / np.sqrt(n)
    c = 2 / (slopes[0] ** 2 + slopes[1] ** 2)
    V = np.tile([[1.0], [case.V_12], [1.0]], paths)  # V_11, V_12, V_22
    start = V.copy()
    summed = np.zeros(paths)
    averages = np.zeros((3, paths))
    for _ in range(depth):
        L = _root(V)
        rho = np.clip(V[1] / np.sqrt(V[0] * V[2]), -1, 1)
        summed += size / n * np.sqrt(V[0] * V[2]) * (q(rho) - rho)
        S = np.zeros((3, paths))
        for _ in range(n):
            z = rng.standard_normal((2, paths))
            f = [_bent(L[0] * z[0], slopes), _bent(L[1] * z[0] + L[2] * z[1], slopes)]
            S += (f[0] * f[0], f[0] * f[1], f[1] * f[1])
        R = _root(S * (c / n))
        B = rng.standard_normal((2, 2, paths))
        chi = np.sqrt(rng.chisquare(n - 2, paths)), np.sqrt(rng.chisquare(n - 3, paths))
        cross = rng.standard_normal(paths)
        W = B[0, 0] ** 2 + B[0, 1] ** 2 + chi[0] ** 2
        W = np.stack(
            [
                W,
                B[0, 0] * B[1, 0] + B[0, 1] * B[1, 1] + chi[0] * cross,
                B[1, 0] ** 2 + B[1, 1] ** 2 + cross**2 + chi[1] ** 2,
            ]
        )
        # columns of R B L^T
        RB = (R[0] * B[0], R[1] * B[0] + R[2] * B[1])
        K11, K12 = RB[0][0] * L[0], RB[0][0] * L[1] + RB[0][1] * L[2]
        K21, K22 = RB[1][0] * L[0], RB[1][0] * L[1] + RB[1][1] * L[2]
        outer = np.stack(
            [
                R[0] ** 2 * W[0],
                R[0] * (R[1] * W[0] + R[2] * W[1]),
                R[1] ** 2 * W[0] + 2 * R[1] * R[2] * W[1] + R[2] ** 2 * W[2],
            ]
        )
        mixed = np.stack([2 * K11, K12 + K21, 2 * K22])
        V = lam**2 * V + lam * g / np.sqrt(n) * mixed + g**2 / n * outer
        drifted = start + np.stack([0 * summed, summed, 0 * summed])
        averages += (V - drifted) / depth
    ends = V - start - np.stack([0 * summed, summed, 0 * summed])
    controls = np.concatenate([averages, ends])
    slope = np.linalg.lstsq(controls.T, summed - summed.mean(), rcond=None)[0]
    value = case.V_12 + summed - slope @ controls
    return Estimate(float(value.mean()), float(value.std() / np.sqrt(paths)))


def _bent(x: np.ndarray, slopes: tuple[float, float]) -> np.ndarray:
    return np.where(x > 0, slopes[0] * x, slopes[1] * x)


def _root(V: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first = np.sqrt(V[0])
    second = V[1] / first
    return first, second, np.sqrt(np.maximum(V[2] - second**2, 0))

"""Laws that are known in closed form, for the limit and at finite width.

Sources. The covariance SDE is that of Noci et al. (2023), arXiv 2306.17759, Theorem 4.2; with one
token, or without attention (tau_0 = inf), it reduces to

    d<V^{ab}, V^{cd}> = s (V^{ac} V^{bd} + V^{ad} V^{bc}) dt,  no drift,  s = gamma^2 (2 - gamma^2)

(s = 2 gamma^2 for a linear MLP block, gamma^2 (4 - gamma^2) for both). The rest is Ito's formula,
next to each function.

Finite width. The layer X' = lam X + gamma X W / sqrt(n), X of shape m x n, W_ij iid N(0, 1),
lam^2 + gamma^2 = 1, t = layer / n. Given X, the n columns of X' are independent Gaussian vectors
in R^m with means lam X_i and the one covariance gamma^2 V, because
Cov((XW)_ai, (XW)_bj) = delta_ij (X X^T)_ab. So V' = L N L^T / n with V = L L^T and N noncentral
Wishart of n degrees of freedom, scale gamma^2 I and mean product lam^2 n I: the law of V' depends
on X through V alone.

Input: scalars and arrays of shape (..., m, m). Output: floats, float arrays, or frozen SciPy laws.
Not supported: nonlinear layers, lam^2 + gamma^2 != 1.
"""

from math import comb, exp, factorial, perm

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import polygamma
from scipy.stats import ncx2, norm
from scipy.stats.distributions import rv_frozen

Array = NDArray[np.float64]


def rate(gamma: float) -> float:
    """s = gamma^2 (2 - gamma^2) = gamma^4 + 2 lam^2 gamma^2, the coefficient of Sigma_lin."""
    return gamma**2 * (2 - gamma**2)


# The limit, linear case ---------------------------------------------------------------------------


def one_token_log_law(s: float, t: float) -> rv_frozen:
    """Law of log(V_t / V_0) at m = 1: N(-s t, 2 s t).

    dV = sqrt(2 s) V dB, so d log V = -s dt + sqrt(2 s) dB. Attention does nothing to one
    token (S_1 = S_2 = 0).
    """
    return norm(-s * t, np.sqrt(2 * s * t))


def log_det_law(m: int, s: float, t: float) -> rv_frozen:
    """Law of log det V_t - log det V_0 at any m: N(-m (m + 1) s t / 2, 2 m s t).

    d log det V = tr(V^-1 dV) - (1/2) tr(V^-1 dV V^-1 dV). At V = 1 the noise has variance 2 s on
    the diagonal and s off it: the trace has variance 2 m s, the correction is
    -(1/2)(2 m + m (m - 1)) s.
    """
    return norm(-m * (m + 1) * s * t / 2, np.sqrt(2 * m * s * t))


def second_moment(V0: ArrayLike, s: float, t: float) -> Array:
    """E[V_t^{ab} V_t^{cd}], shape (..., m, m, m, m).

    The three pairings of (a, b, c, d) obey d/dt = s (J - 1), J the 3 x 3 matrix of ones: their
    mean grows at the rate 2 s, the deviations from it decay at the rate s.
    """
    return _second_moment(V0, exp(2 * s * t), exp(-s * t))


def trace_moments(V0: ArrayLike, s: float, t: float) -> tuple[Array, Array]:
    """(E tr V_t^2, E (tr V_t)^2), each of shape (...).

    (p, q)' = s [[1, 1], [2, 0]] (p, q); eigenvalues 2 s with (1, 1) and -s with (1, -2).
    """
    return _trace_moments(V0, exp(2 * s * t), exp(-s * t))


# Finite width, linear layer, exact ----------------------------------------------------------------


def linear_layer_mean(V: ArrayLike) -> Array:
    """E[V'] = V: the mean is constant over the layers, at every width."""
    return np.array(V, dtype=np.float64)


def linear_layer_covariance(V: ArrayLike, gamma: float, n: int) -> Array:
    """Cov(V'^{ab}, V'^{cd} | V) = (s / n)(V^{ac} V^{bd} + V^{ad} V^{bc}), shape (..., m, m, m, m).

    Exact, no remainder. Per column, with mean mu and covariance C = gamma^2 V, the covariance of
    x_a x_b and x_c x_d is C_ac C_bd + C_ad C_bc + mu_a mu_c C_bd + (3 more); and the sum over
    columns of mu mu^T is n lam^2 V.
    """
    V = np.asarray(V, dtype=np.float64)
    pairs = np.einsum("...ac,...bd->...abcd", V, V) + np.einsum("...ad,...bc->...abcd", V, V)
    return rate(gamma) / n * pairs


def linear_network_second_moment(V0: ArrayLike, gamma: float, n: int, layers: int) -> Array:
    """E[V_l^{ab} V_l^{cd}] after `layers` layers, exact.

    `second_moment` with e^{2s/n} and e^{-s/n} replaced by 1 + 2 s/n and 1 - s/n, layer by layer.
    """
    s = rate(gamma)
    return _second_moment(V0, (1 + 2 * s / n) ** layers, (1 - s / n) ** layers)


def linear_network_trace_moments(
    V0: ArrayLike, gamma: float, n: int, layers: int
) -> tuple[Array, Array]:
    """(E tr V_l^2, E (tr V_l)^2) after `layers` layers, exact at every width."""
    s = rate(gamma)
    return _trace_moments(V0, (1 + 2 * s / n) ** layers, (1 - s / n) ** layers)


def linear_network_det_mean(m: int, gamma: float, n: int, layers: int) -> float:
    """E det V_l / det V_0, exact.

    By Cauchy-Binet, E det((M + G)(M + G)^T) = sum_k e_k(M M^T) (n - k)! / (n - m)! for G iid N(0,
    1), of shape m x n, e_k the elementary symmetric polynomials of the eigenvalues; here M M^T =
    n (lam / gamma)^2 1. The layers are independent.
    """
    lam2, gamma2 = 1 - gamma**2, gamma**2
    terms = (
        comb(m, k) * (n * lam2) ** k * gamma2 ** (m - k) * perm(n - k, m - k) for k in range(m + 1)
    )
    return (sum(terms) / n**m) ** layers


def linear_layer_one_token_law(gamma: float, n: int) -> rv_frozen:
    """Law of V'/V after one layer at m = 1: (gamma^2 / n) times a noncentral chi-square.

    n degrees of freedom, noncentrality n lam^2 / gamma^2.
    """
    return ncx2(n, n * (1 - gamma**2) / gamma**2, scale=gamma**2 / n)


def linear_network_one_token_moment(power: int, gamma: float, n: int, layers: int) -> float:
    """E (V_l / V_0)^power at m = 1, exact: the one-layer moment to the power `layers`.

    From the cumulants of the noncentral chi-square,
    kappa_j = 2^(j-1) (j - 1)! (n + j noncentrality).
    """
    gamma2, lam2 = gamma**2, 1 - gamma**2
    cumulants = [
        2 ** (j - 1) * factorial(j - 1) * (gamma2 + j * lam2) * gamma2 ** (j - 1) / n ** (j - 1)
        for j in range(1, power + 1)
    ]
    moments = [1.0]
    for k in range(1, power + 1):
        moments.append(
            sum(comb(k - 1, j - 1) * cumulants[j - 1] * moments[k - j] for j in range(1, k + 1))
        )
    return moments[power] ** layers


def wishart_network_log_det(m: int, n: int, layers: int) -> tuple[float, float]:
    """Mean and variance of log det V_l - log det V_0 at gamma = 1 (no skip), exact, n >= m.

    One layer multiplies det V by n^-m times independent chi-squares of n, n - 1, ..., n - m + 1
    degrees of freedom (Bartlett).
    """
    halves = (n - np.arange(m)) / 2
    mean = float(np.sum(polygamma(0, halves) + np.log(2 / n)))
    return layers * mean, layers * float(np.sum(polygamma(1, halves)))


def _second_moment(V0: ArrayLike, growth: float, decay: float) -> Array:
    V = np.asarray(V0, dtype=np.float64)
    own = np.einsum("...ab,...cd->...abcd", V, V)
    mean = (
        own + np.einsum("...ac,...bd->...abcd", V, V) + np.einsum("...ad,...bc->...abcd", V, V)
    ) / 3
    return growth * mean + decay * (own - mean)


def _trace_moments(V0: ArrayLike, growth: float, decay: float) -> tuple[Array, Array]:
    V = np.asarray(V0, dtype=np.float64)
    p = np.einsum("...ab,...ba->...", V, V)
    q = np.einsum("...aa->...", V) ** 2
    common, difference = (2 * p + q) / 3, (p - q) / 3
    return growth * common + decay * difference, growth * common - 2 * decay * difference

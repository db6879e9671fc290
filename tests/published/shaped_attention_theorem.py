"""The limit of shaped attention as published: coefficients of the covariance SDE, in NumPy.

Source: Noci, C. Li, M. Li, He, Hofmann, Maddison and Roy (2023), arXiv 2306.17759, Theorem 4.2, for

    X_{l+1} = lam X_l + gamma A_l X_l W^V / sqrt(n),          lam^2 + gamma^2 = 1,
    A_l     = I + softmax_rows(Y_l / tau) - 1 1^T / m,        tau = tau_0 sqrt(n n_k),

V = X X^T / n and t = layer / n. The sums below are the printed ones, index by index; no matrix
form and no factorisation, so that a kernel that uses either is compared with something that does
not.

Input:  V of shape (..., m, m), symmetric, any m >= 1; gamma in (0, 1]; tau_0 in (0, inf].
Output: float arrays; Greek token indices are axes, in the order in which they are printed.
Not supported: masks, biases, several heads, lam^2 + gamma^2 != 1.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def _row_mean(V: Array) -> Array:
    """V^{a xbar} = (1/m) sum_nu V^{a nu}, shape (..., m)."""
    return V.mean(axis=-1)


def _grand_mean(V: Array) -> Array:
    """V^{xbar xbar} = (1/m^2) sum_{nu kappa} V^{nu kappa}, shape (...)."""
    return V.mean(axis=(-2, -1))


def S1(V: ArrayLike) -> Array:
    """S_1^{a nu, b kappa}, shape (..., m, m, m, m), axes [a, nu, b, kappa].

    (1/m^2) V^{ab} (V^{nu kappa} - V^{nu xbar} - V^{kappa xbar} + V^{xbar xbar}).
    """
    V = np.asarray(V, dtype=np.float64)
    m = V.shape[-1]
    mean, grand = _row_mean(V), _grand_mean(V)
    centred = V - mean[..., :, None] - mean[..., None, :] + grand[..., None, None]
    return np.einsum("...ab,...nk->...anbk", V, centred) / m**2


def S2(V: ArrayLike) -> Array:
    """S_2^{a nu}, shape (..., m, m), axes [a, nu].

    (1/m) V^{aa} (V^{nu nu} - 2 V^{nu xbar} + 2 V^{xbar xbar} - (1/m) sum_beta V^{beta beta}).
    """
    V = np.asarray(V, dtype=np.float64)
    m = V.shape[-1]
    variance = np.einsum("...aa->...a", V)
    bracket = (
        variance
        - 2 * _row_mean(V)
        + 2 * _grand_mean(V)[..., None]
        - variance.mean(axis=-1)[..., None]
    )
    return np.einsum("...a,...n->...an", variance, bracket) / m


def drift(V: ArrayLike, gamma: float, tau_0: float) -> Array:
    """b(V)^{ab}, shape (..., m, m).

    (gamma^2 / tau_0^2) [ sum_{nu kappa} V^{nu kappa} S_1^{a nu, b kappa}
                          + 1/2 sum_nu ( V^{b nu} S_2^{a nu} + V^{a nu} S_2^{b nu} ) ].
    """
    V = np.asarray(V, dtype=np.float64)
    second = np.einsum("...bn,...an->...ab", V, S2(V)) + np.einsum("...an,...bn->...ab", V, S2(V))
    return gamma**2 / tau_0**2 * (np.einsum("...nk,...anbk->...ab", V, S1(V)) + second / 2)


def sigma_linear(V: ArrayLike) -> Array:
    """Sigma_lin^{ab, cd} = V^{ac} V^{bd} + V^{ad} V^{bc}, shape (..., m, m, m, m)."""
    V = np.asarray(V, dtype=np.float64)
    return np.einsum("...ac,...bd->...abcd", V, V) + np.einsum("...ad,...bc->...abcd", V, V)


def sigma_attention(V: ArrayLike) -> Array:
    """A(V)^{ab, cd}, shape (..., m, m, m, m).

    The sum over nu, kappa of
      V^{b nu} V^{d kappa} S_1^{a nu, c kappa} + V^{b nu} V^{c kappa} S_1^{a nu, d kappa}
    + V^{a nu} V^{d kappa} S_1^{b nu, c kappa} + V^{a nu} V^{c kappa} S_1^{b nu, d kappa}.
    """
    V = np.asarray(V, dtype=np.float64)
    S = S1(V)
    return (
        np.einsum("...bn,...dk,...anck->...abcd", V, V, S)
        + np.einsum("...bn,...ck,...andk->...abcd", V, V, S)
        + np.einsum("...an,...dk,...bnck->...abcd", V, V, S)
        + np.einsum("...an,...ck,...bndk->...abcd", V, V, S)
    )


def diffusion(V: ArrayLike, gamma: float, tau_0: float) -> Array:
    """Sigma(V)^{ab, cd} = d<V^{ab}, V^{cd}>/dt, shape (..., m, m, m, m).

    gamma^2 (2 - gamma^2) Sigma_lin(V) + (gamma^4 / tau_0^2) A(V).
    """
    linear = gamma**2 * (2 - gamma**2) * sigma_linear(V)
    return linear + gamma**4 / tau_0**2 * sigma_attention(V)

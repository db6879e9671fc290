"""One layer of a finite shaped-attention network: moments of V' exact given the attention matrix.

Source: the layer of Noci et al. (2023), arXiv 2306.17759, section 4,

    X' = lam X + gamma A X W^V / sqrt(n),             lam^2 + gamma^2 = 1,
    A  = I + softmax_rows(Y / tau) - 1 1^T / m,       tau = tau_0 sqrt(n n_k),
    Y  = X (W^K / sqrt n)(W^Q / sqrt n)^T X^T,        W^K, W^Q: n x n_k, W^V: n x n, iid N(0, 1).

Given X and A the columns of X' are independent Gaussian vectors with means lam X_i and the one
covariance gamma^2 C, C = A V A^T, because
Cov((A X W)_ai, (A X W)_bj) = delta_ij (A X X^T A^T)_ab. Hence, for every n and n_k,

    E[V' | A] = lam^2 V + gamma^2 C,
    Cov[V'^{ab}, V'^{cd} | A] = (1/n) [ gamma^4 (C^{ac} C^{bd} + C^{ad} C^{bc})
        + lam^2 gamma^2 (V^{ac} C^{bd} + V^{ad} C^{bc} + V^{bc} C^{ad} + V^{bd} C^{ac}) ].

Averaging them over the logits alone (Rao-Blackwell: `one_layer_moments`) removes the noise of
W^V, of order n^{-1/2}. With two tokens the average over the logits is a three-dimensional
integral too, done here by quadrature: an exact target, no sampling.

Input: V of shape (m, m), A and Y of shape (..., m, m). Output: float arrays.
Not supported: masks, several heads.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import roots_genlaguerre

Array = NDArray[np.float64]


class Moments(NamedTuple):
    """Mean of V' (m, m), its covariance (m, m, m, m), and the standard error of each."""

    mean: Array
    covariance: Array
    mean_error: Array
    covariance_error: Array


def conditional_mean(V: ArrayLike, A: ArrayLike, gamma: float) -> Array:
    """E[V' | V, A], shape (..., m, m)."""
    V = np.asarray(V, dtype=np.float64)
    return (1 - gamma**2) * V + gamma**2 * _mixed(V, A)


def conditional_covariance(V: ArrayLike, A: ArrayLike, gamma: float, n: int) -> Array:
    """Cov[V'^{ab}, V'^{cd} | V, A] at width n, shape (..., m, m, m, m)."""
    V = np.asarray(V, dtype=np.float64)
    C = _mixed(V, A)
    lam2, gamma2 = 1 - gamma**2, gamma**2
    value = np.einsum("...ac,...bd->...abcd", C, C) + np.einsum("...ad,...bc->...abcd", C, C)
    cross = (
        np.einsum("ac,...bd->...abcd", V, C)
        + np.einsum("ad,...bc->...abcd", V, C)
        + np.einsum("bc,...ad->...abcd", V, C)
        + np.einsum("bd,...ac->...abcd", V, C)
    )
    return (gamma2**2 * value + lam2 * gamma2 * cross) / n


def sample_logits(rng: np.random.Generator, V: ArrayLike, n_k: int, size: int) -> Array:
    """`size` draws of Y given V, shape (size, m, m): Y = K Q^T, columns of K and Q iid N(0, V)."""
    V = np.asarray(V, dtype=np.float64)
    values, vectors = np.linalg.eigh(V)  # V may be singular
    root = vectors * np.sqrt(np.maximum(values, 0))
    K, Q = rng.standard_normal((2, size, V.shape[-1], n_k))
    return (root @ K) @ np.swapaxes(root @ Q, -1, -2)


def shaped_attention(Y: ArrayLike, tau: float) -> Array:
    """A = I + softmax_rows(Y / tau) - 1 1^T / m, shape (..., m, m)."""
    scaled = np.asarray(Y, dtype=np.float64) / tau
    weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    m = scaled.shape[-1]
    return np.eye(m) + weights - 1 / m


def one_layer_moments(
    V: ArrayLike,
    gamma: float,
    tau_0: float,
    n: int,
    n_k: int,
    *,
    samples: int,
    rng: np.random.Generator,
) -> Moments:
    """Moments of V' given V, by averaging the conditional ones over `samples` draws of the logits.

    The logits come in pairs Y, -Y (same law), which removes the odd orders in n^{-1/2} from the
    error. By the law of total covariance the covariance is E Cov[V' | A] + Cov E[V' | A];
    standard errors are those of the independent pairs.
    """
    half = max(2, samples // 2)
    Y = sample_logits(rng, V, n_k, half)
    tau = tau_0 * np.sqrt(n * n_k)
    A = np.stack([shaped_attention(Y, tau), shaped_attention(-Y, tau)])
    means = conditional_mean(V, A, gamma)
    mean = means.mean(axis=(0, 1))
    covariances = conditional_covariance(V, A, gamma, n)
    covariances += np.einsum("...ab,...cd->...abcd", means - mean, means - mean)
    scale = 1 / np.sqrt(half)
    return Moments(
        mean,
        covariances.mean(axis=(0, 1)),
        scale * means.mean(axis=0).std(axis=0, ddof=1),
        scale * covariances.mean(axis=0).std(axis=0, ddof=1),
    )


def two_token_moments(
    V: ArrayLike, gamma: float, tau_0: float, n: int, n_k: int, *, order: int = 24
) -> tuple[Array, Array]:
    """(E[V' | V], Cov[V' | V]) at m = 2, by Gauss quadrature over the logits; V positive definite.

    A = I + h (1, -1) with h_a = tanh(d_a / (2 tau)) / 2 and d_a = Y_a1 - Y_a2 = <k_a, q_1 - q_2>.
    Given r = |q_1 - q_2|^2, which is w = V11 - 2 V12 + V22 times a chi-square of n_k degrees of
    freedom, d is Gaussian with covariance r V. `order` nodes in each of the three dimensions; the
    poles of tanh make the convergence geometric when w V / (4 n tau_0^2) is small.
    """
    V = np.asarray(V, dtype=np.float64)
    w = V[0, 0] - 2 * V[0, 1] + V[1, 1]
    r_nodes, r_weights = roots_genlaguerre(order, n_k / 2 - 1)
    g_nodes, g_weights = np.polynomial.hermite_e.hermegauss(order)
    g = np.stack(np.meshgrid(g_nodes, g_nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    d = np.sqrt(2 * w * r_nodes)[:, None, None] * (g @ np.linalg.cholesky(V).T)
    h = np.tanh(d / (2 * tau_0 * np.sqrt(n * n_k))) / 2
    weights = (r_weights / r_weights.sum())[:, None] * np.kron(g_weights, g_weights)
    weights = weights.ravel() / weights.sum()
    A = np.eye(2) + h.reshape(-1, 2, 1) * np.array([1.0, -1.0])
    means = conditional_mean(V, A, gamma)
    mean = np.einsum("k,kab->ab", weights, means)
    inner = np.einsum("k,kabcd->abcd", weights, conditional_covariance(V, A, gamma, n))
    outer = np.einsum("k,kab,kcd->abcd", weights, means - mean, means - mean)
    return mean, inner + outer


def _mixed(V: Array, A: ArrayLike) -> Array:
    """C = A V A^T."""
    A = np.asarray(A, dtype=np.float64)
    return A @ V @ np.swapaxes(A, -1, -2)

"""Shaped attention with H heads: their outputs summed, or side by side."""

from derive.notation import (
    concatenate,
    covariance_sde,
    dims,
    eye,
    gaussian,
    params,
    softmax,
    sqrt,
)

m, n, n_k, H = dims("m: tokens", "n: width", "n_k: key width", "H: heads, fixed")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")


def attention(X):
    """The attention matrices of H heads, (H, m, m)."""
    W_Q, W_K = gaussian(H, n, n_k), gaussian(H, n, n_k)
    logits = (X @ W_Q) @ (X @ W_K).mT / n
    return eye(m) + softmax(logits / (tau_0 * sqrt(n * n_k))) - 1 / m


@covariance_sde(state="X[m, n]", width=n)
def multihead_shaped_attention(X):
    """Shaped attention with H heads, summed."""
    A, W_V = attention(X), gaussian(H, n, n)
    return sqrt(1 - gamma**2) * X + gamma * (A @ X @ W_V).sum(0) / sqrt(H * n)


@covariance_sde(state="X[m, n]", width=n)
def concatenated_shaped_attention(X):
    """Shaped attention with H heads on n / H columns each, side by side."""
    A, W_V = attention(X), gaussian(H, n, n / H)
    return sqrt(1 - gamma**2) * X + gamma * concatenate(A @ X @ W_V) / sqrt(n)

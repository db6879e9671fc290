"""Shaped attention with H heads, summed."""

from derive.notation import covariance_sde, dims, eye, gaussian, params, softmax, sqrt

m, n, n_k, H = dims("m: tokens", "n: width", "n_k: key width", "H: heads, fixed")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")


@covariance_sde(state="X[m, n]", width=n)
def multihead_shaped_attention(X):
    W_Q, W_K, W_V = gaussian(H, n, n_k), gaussian(H, n, n_k), gaussian(H, n, n)
    logits = (X @ W_Q) @ (X @ W_K).mT / n
    A = eye(m) + softmax(logits / (tau_0 * sqrt(n * n_k))) - 1 / m
    return sqrt(1 - gamma**2) * X + gamma * (A @ X @ W_V).sum(0) / sqrt(H * n)

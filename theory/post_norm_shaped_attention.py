"""Shaped attention with RMS normalisation after the block: tokens stay on the sphere."""

from derive.notation import covariance_sde, dims, eye, gaussian, params, softmax, sqrt

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")


@covariance_sde(state="X[m, n]", width=n, unit_rows=True)
def post_norm_shaped_attention(X):
    W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
    logits = (X @ W_Q) @ (X @ W_K).T / n
    A = eye(m) + softmax(logits / (tau_0 * sqrt(n * n_k))) - 1 / m
    Y = sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)
    return Y / sqrt((Y * Y).mean(-1, keepdims=True))

"""Shaped attention with a causal mask: the base pattern is even over the past."""

from derive.notation import causal, covariance_sde, dims, eye, gaussian, log, params, softmax, sqrt

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")


@covariance_sde(state="X[m, n]", width=n)
def causal_shaped_attention(X):
    W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
    logits = (X @ W_Q) @ (X @ W_K).T / n
    p = causal(m)
    A = eye(m) + softmax(logits / (tau_0 * sqrt(n * n_k)) + log(p)) - p
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)

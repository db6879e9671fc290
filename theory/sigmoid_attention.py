"""Attention with an entrywise sigmoid instead of a softmax, centred."""

from derive.notation import Rational, covariance_sde, dims, eye, gaussian, params, sigmoid, sqrt

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")


@covariance_sde(state="X[m, n]", width=n)
def sigmoid_attention(X):
    W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
    logits = (X @ W_Q) @ (X @ W_K).T / n
    A = eye(m) + (sigmoid(logits / (tau_0 * sqrt(n * n_k))) - Rational(1, 2)) / m
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)

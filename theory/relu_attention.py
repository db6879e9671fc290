"""ReLU attention: logits below zero do not mix; the mean of the others moves V at depth sqrt(n)."""

from derive.notation import covariance_sde, dims, eye, gaussian, params, relu, sqrt

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width, proportional to the width")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")


@covariance_sde(state="X[m, n]", width=n, clock=sqrt(n))
def relu_attention(X):
    W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
    logits = (X @ W_Q) @ (X @ W_K).T / n
    A = eye(m) + relu(logits / (tau_0 * sqrt(n * n_k))) / m
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)

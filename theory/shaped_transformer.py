"""Shaped Transformer: shaped attention, then a shaped ReLU MLP (Noci et al., 2023, arXiv 2306.17759)."""

from derive.notation import covariance_sde, dims, eye, gaussian, params, relu, softmax, sqrt

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")
c_plus, c_minus = params("c_plus: real", "c_minus: real")


@covariance_sde(state="X[m, n]", width=n)
def shaped_transformer(X):
    return mlp(attention(X))


def attention(X):
    W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
    logits = (X @ W_Q) @ (X @ W_K).T / n
    A = eye(m) + softmax(logits / (tau_0 * sqrt(n * n_k))) - 1 / m
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)


def mlp(Z):
    W_1, W_2 = gaussian(n, n), gaussian(n, n)
    s_plus, s_minus = 1 + c_plus / sqrt(n), 1 + c_minus / sqrt(n)
    c = 2 / (s_plus**2 + s_minus**2)
    h = Z @ W_1 / sqrt(n)
    branch = (s_plus * relu(h) - s_minus * relu(-h)) @ W_2
    return sqrt(1 - gamma**2) * Z + gamma * sqrt(c / n) * branch

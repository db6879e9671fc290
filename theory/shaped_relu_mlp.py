"""Residual MLP with shaped ReLU, at initialisation (Li, Nica and Roy, 2022, arXiv 2206.02768)."""

from derive.notation import covariance_sde, dims, gaussian, params, relu, sqrt

m, n = dims("m: tokens", "n: width")
gamma, c_plus, c_minus = params("gamma: in (0, 1)", "c_plus: real", "c_minus: real")


@covariance_sde(state="X[m, n]", width=n)
def shaped_relu_mlp(X):
    W_1, W_2 = gaussian(n, n), gaussian(n, n)
    s_plus, s_minus = 1 + c_plus / sqrt(n), 1 + c_minus / sqrt(n)
    c = 2 / (s_plus**2 + s_minus**2)
    h = X @ W_1 / sqrt(n)
    branch = (s_plus * relu(h) - s_minus * relu(-h)) @ W_2
    return sqrt(1 - gamma**2) * X + gamma * sqrt(c / n) * branch

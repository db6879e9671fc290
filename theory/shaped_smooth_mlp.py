"""Residual MLP with a shaped smooth activation s phi(x/s) (Li, Nica and Roy, 2022, arXiv 2206.02768)."""

from derive.notation import (
    covariance_sde,
    dims,
    gaussian,
    gaussian_mean,
    gelu,
    option,
    params,
    silu,
    sqrt,
    tanh,
)

m, n = dims("m: tokens", "n: width")
gamma, a = params("gamma: in (0, 1)", "a: positive")
phi = option("phi", tanh=tanh, gelu=lambda x: 2 * gelu(x), silu=lambda x: 2 * silu(x))


@covariance_sde(state="X[m, n]", width=n)
def shaped_smooth_mlp(X):
    W_1, W_2 = gaussian(n, n), gaussian(n, n)
    s = a * sqrt(n)
    c = 1 / gaussian_mean(lambda g: (s * phi(g / s)) ** 2)
    h = X @ W_1 / sqrt(n)
    return sqrt(1 - gamma**2) * X + gamma * sqrt(c / n) * s * phi(h / s) @ W_2

"""Layers with random attention of order-one scores that are on no page."""

from derive.notation import causal, covariance_sde, dims, gaussian, log, params, softmax, sqrt, tanh

m, d, H, N = dims("m: tokens", "d: width, fixed", "H: heads, fixed", "N: depth")
k = dims("k: key width, fixed")
beta = params("beta: nonnegative")
layer = covariance_sde(state="X[m, d]", depth=N, unit_rows=True)


def unit(Y):
    return Y / sqrt((Y * Y).sum(-1, keepdims=True))


def attention(X):
    return softmax(beta * X @ gaussian(d, d) @ X.T)


@layer
def one_head(X):
    return unit(X + attention(X) @ X @ gaussian(d, d) / sqrt(N))


@layer
def two_kinds(X):
    """A softmax and a function of single scores, each with values of its own."""
    one = attention(X) @ X @ gaussian(d, d)
    scores = X @ gaussian(d, d) @ X.T / 2
    return unit(X + (one + tanh(scores) @ X @ gaussian(d, d)) / sqrt(N))


@layer
def masked(X):
    B, V = gaussian(H, d, d), gaussian(H, d, d)
    A = softmax(beta * X @ B @ X.T + log(causal(m)))
    return unit(X + (A @ X @ V).sum(0) / sqrt(H * N))


@layer
def beside_fixed_scores(X):
    A = softmax(beta * (X @ gaussian(d, d) @ X.T + X @ X.T))
    return unit(X + A @ X @ gaussian(d, d) / sqrt(N))


@layer
def beside_plain_values(X):
    return unit(X + (attention(X) @ X @ gaussian(d, d) + X @ gaussian(d, d)) / sqrt(N))


@layer
def without_values(X):
    return unit(X + attention(X) @ X / sqrt(N))


@layer
def product_scores(X):
    scores = X @ gaussian(d, k) @ gaussian(k, d) @ X.T / sqrt(k)
    return unit(X + softmax(beta * scores) @ X @ gaussian(d, d) / sqrt(N))


@layer
def shared_weight(X):
    B = gaussian(d, d)
    A = softmax(beta * X @ B @ X.T)
    return unit(X + (A @ X @ gaussian(d, d) + X @ B) / sqrt(N))


@layer
def shared_values(X):
    V = gaussian(d, d)
    return unit(X + (attention(X) @ X @ V + X @ V) / sqrt(N))

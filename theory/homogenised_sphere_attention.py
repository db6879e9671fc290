"""Tokens on the sphere, queries, keys and values drawn anew in every layer and head."""

from derive.notation import covariance_sde, dims, gaussian, params, softmax, sqrt

m, d, H, N = dims("m: tokens", "d: width, fixed", "H: heads, fixed", "N: depth")
beta = params("beta: nonnegative")


@covariance_sde(state="X[m, d]", depth=N, unit_rows=True)
def homogenised_sphere_attention(X):
    B, V = gaussian(H, d, d), gaussian(H, d, d)
    A = softmax(beta * X @ B @ X.T)
    Y = X + (A @ X @ V).sum(0) / sqrt(H * N)
    return Y / sqrt((Y * Y).sum(-1, keepdims=True))

"""Tokens on the sphere, fixed queries and keys, random values (Fedorov et al., 2026, arXiv 2601.21942)."""

from derive.notation import covariance_sde, dims, gaussian, params, softmax, sqrt

m, d, N = dims("m: tokens", "d: width, fixed", "N: depth")
beta = params("beta: nonnegative")


@covariance_sde(state="X[m, d]", depth=N, unit_rows=True)
def random_value_sphere_attention(X):
    V = gaussian(d, d)
    A = softmax(beta * X @ X.T)
    Y = X + A @ X @ V / sqrt(N)
    return Y / sqrt((Y * Y).sum(-1, keepdims=True))

"""A token among uniform tokens on the sphere that attends to the winner of its scores.

The winner of the scores <A x, y> over the whole sphere is y = A x / |A x|.  Queries, keys and
values are drawn anew in every layer, the width grows; scores of one Gaussian matrix, or of two.
"""

from derive.notation import covariance_sde, dims, gaussian, params, sqrt

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width, proportional to the width")
gamma = params("gamma: in (0, 1)")


def unit(Y):
    return Y / sqrt((Y * Y).mean(-1, keepdims=True))


@covariance_sde(state="X[m, n]", width=n, unit_rows=True)
def winner_attention(X):
    """Scores x^T A y of one Gaussian matrix."""
    A, V = gaussian(n, n), gaussian(n, n)
    winner = unit(X @ A / sqrt(n))
    return unit(sqrt(1 - gamma**2) * X + gamma * winner @ V / sqrt(n))


@covariance_sde(state="X[m, n]", width=n, unit_rows=True)
def product_winner_attention(X):
    """Scores x^T Q K^T y of queries and keys."""
    Q, K, V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
    winner = unit(X @ Q @ K.T / sqrt(n * n_k))
    return unit(sqrt(1 - gamma**2) * X + gamma * winner @ V / sqrt(n))

"""Token flows that are in no paper, to try the engine on."""

from derive.notation import (
    Rational,
    average,
    dims,
    exp,
    integral,
    matrices,
    noise,
    ones,
    params,
    relu,
    sigmoid,
    space,
    sphere,
    sqrt,
    sum_over,
    tanh,
    token_flow,
)

d, w, H, k = dims("d: token dimension", "w: width", "H: heads", "k: key width")
A, B, V = matrices(A=(d, d), B=(d, d), V=(d, d))
Q, K = matrices(Q=(H, k, d), K=(H, k, d))
U, W, b = matrices(U=(w, d), W=(d, w), b=(w,))
beta, kappa = params("beta: positive", "kappa: positive")


def unit(v):
    return v / sqrt(v @ v)


@token_flow(state="x[d]", on=sphere)
def gaussian_weights(x, y):
    """Weights by distance; on the sphere a softmax of twice the temperature."""
    return average(y, exp(-beta * ((x - y) @ (x - y))))


@token_flow(state="x[d]", on=sphere)
def cubic_pull(x, y):
    return integral(y, (x @ y) ** 3 + 2 * (x @ y))


@token_flow(state="x[d]", on=sphere)
def sigmoid_pull(x, y):
    return integral(y, sigmoid(beta * (x @ y)))


@token_flow(state="x[d]", on=sphere)
def squared_weights(x, y):
    """Normalised weights <x, y>^2."""
    return average(y, (x @ y) ** 2)


@token_flow(state="x[d]", on=sphere)
def slow_at_contact(x, y):
    """A pull that vanishes where tokens meet: 1 - rho falls like 1/t."""
    return integral(y, 1 - x @ y)


@token_flow(state="x[d]", on=sphere)
def repelling(x, y):
    return -average(y, exp(beta * (x @ y)))


@token_flow(state="x[d]", on=sphere)
def scaled_by_dimension(x, y):
    return average(y, exp(x @ y / sqrt(d)))


@token_flow(state="x[d]", on=sphere)
def symmetric_pair(x, y):
    """A gradient although the scores are those of a matrix that is not symmetric."""
    return integral(A @ y, exp(x @ (A @ y))) + integral(A.T @ y, exp(y @ (A @ x)))


@token_flow(state="x[d]", on=sphere)
def with_potential(x, y):
    """Unnormalised attention and the gradient of a potential of each token."""
    return integral(y, exp(beta * (x @ y))) + U.T @ tanh(U @ x + b)


@token_flow(state="x[d]", on=sphere)
def forward_only(x, y):
    return average(y, exp(beta * (x @ y))) + W @ relu(U @ x + b)


@token_flow(state="x[d]", on=sphere)
def two_heads_of_scores(x, y):
    return sum_over(H, lambda h: average(y, exp((Q[h] @ x) @ (K[h] @ y))))


@token_flow(state="x[d]", on=sphere)
def strictly_before(x, y, s, tau):
    """Masked by place, not normalised: the first token sees nothing and stands."""
    return integral(y, exp(beta * (x @ y)) * (tau < s))


@token_flow(state="x[d]", on=sphere)
def pushed_one_way(x, y):
    """A constant push: no rotation commutes with it."""
    return average(y, exp(beta * (x @ y))) + ones(d)


@token_flow(state="x[d]", on=space)
def attraction(x, y):
    """Attraction by a Gaussian kernel in space: a gradient that translations leave."""
    return integral(y - x, exp(-beta * ((x - y) @ (x - y))))


@token_flow(state="x[d]")
def two_roots(x, y):
    """The direction, divided by the root of the norm: two powers of one number."""
    return average(unit(y), exp(beta * (unit(x) @ unit(y)))) / sqrt(sqrt(x @ x))


@token_flow(state="x[d]")
def values_in_space(x, y):
    return average(V @ y, exp(x @ (A @ y)))


@token_flow(state="x[d]", on=sphere)
def noisy_pull(x, y):
    return integral(y, x @ y) + noise(sqrt(2 * kappa) * B)


ALL = (
    gaussian_weights,
    cubic_pull,
    sigmoid_pull,
    squared_weights,
    slow_at_contact,
    repelling,
    scaled_by_dimension,
    symmetric_pair,
    with_potential,
    forward_only,
    two_heads_of_scores,
    strictly_before,
    pushed_one_way,
    attraction,
    two_roots,
    values_in_space,
    noisy_pull,
)


gamma = params("gamma: positive")


@token_flow(state="x[d]", on=sphere)
def pull_beyond_a_cosine(x, y):
    """Equal angles rest at rho = gamma, where that is a cosine."""
    return integral(y, (x @ y) - gamma)


@token_flow(state="x[d]", on=sphere)
def shifted_pull(x, y):
    """The pull vanishes at a cosine that few tokens can have."""
    return integral(y, (x @ y) + Rational(1, 2))


@token_flow(state="x[d]", on=sphere)
def kinked_pull(x, y):
    return integral(y, relu(x @ y))


@token_flow(state="x[d]", on=sphere)
def steep_pull(x, y):
    """An exponent that is no linear function of the cosine."""
    return integral(y, exp(beta * ((x @ y) ** 3 + x @ y)))


@token_flow(state="x[d]", on=sphere)
def far_pull(x, y):
    """Far tokens pull the most: clusters merge in a time of order one at any beta."""
    return average(y, exp(-beta * (x @ y)))


@token_flow(state="x[d]", on=sphere)
def recoiling(x, y):
    """A value that depends on the token itself: a sum over pairs."""
    return average(y - 2 * x, exp(beta * (x @ y)))


AT_REST = [pull_beyond_a_cosine, shifted_pull, kinked_pull, steep_pull, far_pull]

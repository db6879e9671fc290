"""Covariance-SDE layers that are on no page, to try the engine on."""

from derive.notation import (
    covariance_sde,
    dims,
    eye,
    gaussian,
    log,
    params,
    pattern,
    relu,
    softmax,
    sqrt,
    tanh,
)

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
r, H, w = dims(
    "r: key width, fixed", "H: heads, fixed", "w: hidden width, proportional to the width"
)
gamma, tau_0, lam, kappa = params(
    "gamma: in (0, 1)", "tau_0: positive", "lam: real", "kappa: positive"
)
layer = covariance_sde(state="X[m, n]", width=n)
on_sphere = covariance_sde(state="X[m, n]", width=n, unit_rows=True)


def logits(X, keys=n_k):
    W_Q, W_K = gaussian(n, keys), gaussian(n, keys)
    return (X @ W_Q) @ (X @ W_K).T / (n * tau_0 * sqrt(n * keys))


def attention(X):
    return mixed(X, eye(m) + softmax(logits(X)) - 1 / m)


def mixed(X, A):
    return skip(X, A @ X @ gaussian(n, n) / sqrt(n))


def skip(X, branch):
    return sqrt(1 - gamma**2) * X + gamma * branch


def rms(Y):
    return Y / sqrt((Y * Y).mean(-1, keepdims=True))


@layer
def fixed_keys(X):
    """A key width that stays."""
    return mixed(X, eye(m) + softmax(logits(X, r)) - 1 / m)


@layer
def multi_query(X):
    """Heads that share their keys, of a width that stays."""
    Q, K = X @ gaussian(H, n, r), X @ gaussian(n, r)
    A = eye(m) + softmax(Q @ K.T / (n * tau_0 * sqrt(n * r))) - 1 / m
    return skip(X, (A @ X @ gaussian(H, n, n)).sum(0) / sqrt(H * n))


@layer
def windowed(X):
    """A pattern declared where it is used."""
    p = pattern("p: a window", m)
    return mixed(X, eye(m) + softmax(logits(X) + log(p)) - p)


@layer
def mixed_tokens(X):
    """Tokens mixed by weights of their own, then values."""
    return mixed(X, eye(m) + gaussian(m, m) / sqrt(n))


@layer
def learned_keys(X):
    """Keys that are weights."""
    return mixed(X, eye(m) + softmax(X @ gaussian(m, n).T / (n * tau_0)) - 1 / m)


@layer
def gram_of_a_weight(X):
    """A positive value matrix: two correlated parts fluctuate."""
    W = gaussian(n, n)
    return skip(X, X @ W @ W.T / n - X)


@layer
def scaled_skip(X):
    """Divided by the size of skip and branch together."""
    return (X + gamma * X @ gaussian(n, n) / sqrt(n)) / sqrt(1 + gamma**2)


@layer
def with_bias(X):
    """A bias, and a default that is a dimension."""

    def value(X, k=n):
        return X @ gaussian(n, k) / sqrt(n)

    return skip(X, value(X)) + kappa * gaussian(n) / sqrt(n)


@layer
def gram_response(X):
    """Noise mixed by a softmax of the tokens themselves."""
    return X + gamma * softmax(tau_0 * X @ X.T / n) @ X @ gaussian(n, n) / n


@layer
def normalised_keys(X):
    """Queries and keys of unit size, as many units as the width has."""
    Q, K = rms(X @ gaussian(n, w)), rms(X @ gaussian(n, w))
    return mixed(X, eye(m) + softmax(Q @ K.T / (tau_0 * w)) - 1 / m)


@on_sphere
def normalised_twice(X):
    """RMS normalisation after the attention, and after the network."""
    Y = rms(attention(X))
    return rms(skip(Y, sqrt(n) * tanh(Y @ gaussian(n, n) / n) @ gaussian(n, n) / sqrt(n)))


@on_sphere
def normalised_once(X):
    """The same limit: in between the normalisation does nothing more."""
    Y = attention(X)
    return rms(skip(Y, sqrt(n) * tanh(Y @ gaussian(n, n) / n) @ gaussian(n, n) / sqrt(n)))


@on_sphere
def normalised_branch(X):
    """Sandwich: branch and sum are normalised."""
    return rms(skip(X, rms(X @ gaussian(n, n) / sqrt(n))))


@on_sphere
def plain_branch(X):
    """The sum alone is normalised."""
    return rms(skip(X, X @ gaussian(n, n) / sqrt(n)))


@layer
def parallel(X):
    """Attention and a kinked network side by side."""
    A = eye(m) + softmax(logits(X)) - 1 / m
    h = X @ gaussian(n, n) / sqrt(n)
    s_plus, s_minus = 1 + lam / sqrt(n), 1 - lam / sqrt(n)
    c = 2 / (s_plus**2 + s_minus**2)
    network = sqrt(c) * (s_plus * relu(h) - s_minus * relu(-h)) @ gaussian(n, n)
    return skip(X, (A @ X @ gaussian(n, n) + network) / sqrt(2 * n))


@layer
def mean_over_units(X):
    """Outside reach: the mean over units is no function of V."""
    Y = skip(X, X @ gaussian(n, n) / sqrt(n))
    return Y - Y.mean(-1, keepdims=True)


@on_sphere
def not_on_the_sphere(X):
    """A mistake: says that its rows keep their size, and does not normalise."""
    return attention(X)


@on_sphere
def twice_too_long(X):
    """A mistake: rows of size two."""
    Y = X + gamma * X @ gaussian(n, n) / n
    return 2 * Y / sqrt((Y * Y).mean(-1, keepdims=True))


@layer
def undeclared_keys(X):
    """Normalised queries of a width of which nothing is said."""
    Q = X @ gaussian(n, n_k)
    return mixed(X, eye(m) + softmax(rms(Q) @ (X @ gaussian(n, n_k)).T / (tau_0 * n)) - 1 / m)


@layer
def bias_of_order_one(X):
    """A fixed bias that is not written by its pattern."""
    p = pattern("p: a bias", m)
    return mixed(X, eye(m) + softmax(logits(X) + p) - 1 / m)

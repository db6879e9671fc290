"""Layers with patterns of names before and after V, alone and together."""

from __future__ import annotations

from derive.notation import causal, covariance_sde, dims, eye, gaussian, params, pattern, sqrt

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
gamma, tau_0, V_diag = params(
    "gamma: in (0, 1)", "tau_0: positive", "V_diag: nonnegative, a name beside those of V"
)
D, p, Z, A_V = (pattern(f"{name}: rows sum to one", m) for name in ("D", "p", "Z", "A_V"))


def logits(X):
    return (X @ gaussian(n, n_k)) @ (X @ gaussian(n, n_k)).T / (n * tau_0 * sqrt(n * n_k))


def out(X, A):
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ gaussian(n, n) / sqrt(n)


@covariance_sde(state="X[m, n]", width=n)
def pattern_d(X):
    return out(X, eye(m) + D * logits(X))


@covariance_sde(state="X[m, n]", width=n)
def pattern_z(X):
    return out(X, eye(m) + Z * logits(X))


@covariance_sde(state="X[m, n]", width=n)
def pattern_small_p(X):
    return out(X, eye(m) + V_diag * p * logits(X))


@covariance_sde(state="X[m, n]", width=n)
def two_patterns(X):
    Y = logits(X)
    return out(X, eye(m) + D * Y - (D * Y).sum(-1, keepdims=True) * Z)


@covariance_sde(state="X[m, n]", width=n)
def product_of_patterns(X):
    return out(X, eye(m) + (A_V * D) * logits(X) + V_diag * Z * logits(X))


@covariance_sde(state="X[m, n]", width=n)
def before_and_after(X):
    return out(X, eye(m) + A_V @ (D * logits(X)) + causal(m) * logits(X))

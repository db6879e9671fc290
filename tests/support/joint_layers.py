"""Layers of several blocks: cut apart, and held together by a term that also reads the input."""

from __future__ import annotations

from derive.notation import (
    covariance_sde,
    dims,
    gaussian,
    params,
    sqrt,
    tanh,
)

m, n = dims("m: tokens", "n: width")
gamma = params("gamma: in (0, 1)")


def skip(X, branch):
    return sqrt(1 - gamma**2) * X + gamma * branch


def linear(X):
    return skip(X, X @ gaussian(n, n) / sqrt(n))


def twice(X):
    return skip(X, X @ gaussian(n, n) @ gaussian(n, n) / n)


def bent(X):
    return skip(X, sqrt(n) * tanh(X @ gaussian(n, n) / n) @ gaussian(n, n) / sqrt(n))


@covariance_sde(state="X[m, n]", width=n)
def linear_linear(X):
    return linear(linear(X))


@covariance_sde(state="X[m, n]", width=n)
def linear_linear_joint(X):
    return linear(linear(X)) + X / n


@covariance_sde(state="X[m, n]", width=n)
def bent_linear(X):
    return linear(bent(X))


@covariance_sde(state="X[m, n]", width=n)
def bent_linear_joint(X):
    return linear(bent(X)) + X / n


@covariance_sde(state="X[m, n]", width=n)
def linear_bent(X):
    return bent(linear(X))


@covariance_sde(state="X[m, n]", width=n)
def linear_bent_joint(X):
    return bent(linear(X)) + X / n


@covariance_sde(state="X[m, n]", width=n)
def two_branches_of_one_input(X):
    """A second branch that reads the input past the first block: X W W / n twice over."""
    Y = linear(X)
    return skip(Y, X @ gaussian(n, n) / sqrt(n))


@covariance_sde(state="X[m, n]", width=n)
def one_weight_in_both(X):
    """One weight used twice: the products of W with itself count."""
    W = gaussian(n, n) / sqrt(n)
    return (1 - gamma**2) * X + sqrt(2 * (1 - gamma**2)) * gamma * X @ W + gamma**2 * X @ W @ W

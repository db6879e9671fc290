"""Variants of the layer, written here, against their known limits and against the second route.

The limits are the general rule for A = I + n^(-1/2) B + n^(-1) C with E B = 0:
b = gam^2 (E[B V B^T] + E[C] V + V E[C]^T), Sigma = gam^2 (2 - gam^2) Sigma_lin
+ gam^4 Cov(B V + V B^T), worked out by hand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import sympy as sp
from index_expressions import read

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression
from derive.methods.covariance_sde.derivation import derive
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation import Refusal
from derive.notation.common.functions import (
    cos,
    exp,
    eye,
    gaussian,
    log,
    relu,
    sigmoid,
    sin,
    softmax,
    sqrt,
)
from derive.notation.common.scalars import dims, params
from derive.notation.layers.model import covariance_sde
from derive.verify.covariance_sde.second_route import second_route

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
gamma, tau_0, kappa = params("gamma: in (0, 1)", "tau_0: positive", "kappa: positive")

VALUES = {"gamma": 0.6, "tau_0": 0.7, "kappa": 0.9}
V0 = np.array([[1.3, 0.4], [0.4, 0.8]])
LINEAR = "V[a,c] V[b,d] + V[a,d] V[b,c]"


def logits(X):  # type: ignore[no-untyped-def]
    W_Q, W_K = gaussian(n, n_k), gaussian(n, n_k)
    return (X @ W_Q) @ (X @ W_K).T / (n * tau_0 * sqrt(n * n_k))


def mixed(X, A):  # type: ignore[no-untyped-def]
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ gaussian(n, n) / sqrt(n)


def sigmoid_attention(X):  # type: ignore[no-untyped-def]
    return mixed(X, eye(m) + (2 * sigmoid(logits(X)) - 1) / (2 * m))


def linear_attention(X):  # type: ignore[no-untyped-def]
    return mixed(X, eye(m) + logits(X) / m)


def softmax_attention(X):  # type: ignore[no-untyped-def]
    return mixed(X, eye(m) + softmax(logits(X)) - 1 / m)


def polynomial_rows(X):  # type: ignore[no-untyped-def]
    Y = logits(X)
    f = 1 + Y + Y * Y
    return mixed(X, eye(m) + f / f.sum(-1, keepdims=True) - 1 / m)


def softmax_over_columns(X):  # type: ignore[no-untyped-def]
    f = exp(logits(X))
    return mixed(X, eye(m) + f / f.sum(0, keepdims=True) - 1 / m)


def sine_and_logarithm(X):  # type: ignore[no-untyped-def]
    Y = logits(X)
    return mixed(X, eye(m) + (sin(Y) + cos(Y) - 1 - log(1 + Y) / 2) / m)


def value_alone(X):  # type: ignore[no-untyped-def]
    return sqrt(1 - gamma**2 + kappa / n) * X + gamma * X @ gaussian(n, n) / sqrt(n)


def weight_and_its_transpose(X):  # type: ignore[no-untyped-def]
    W = gaussian(n, n)
    return sqrt(1 - gamma**2) * X + gamma * X @ (W + W.T) / sqrt(2 * n)


@pytest.fixture(scope="module")
def derived() -> Callable[[Callable], CovarianceSDE]:
    done: dict[str, CovarianceSDE] = {}

    def one(function: Callable) -> CovarianceSDE:
        if function.__name__ not in done:
            done[function.__name__] = derive(covariance_sde(state="X[m, n]", width=n)(function))
        return done[function.__name__]

    return one


def typed(sde: CovarianceSDE, text: str, free: str) -> Expression:
    symbols = {"gamma": gamma, "tau_0": tau_0, "kappa": kappa}
    return read(text, free, sde.law.gram, symbols)


def linear(sde: CovarianceSDE) -> Expression:
    return typed(sde, LINEAR, "a b c d").scaled(gamma**2 * (2 - gamma**2))


def four_images(sde: CovarianceSDE, inner: str) -> Expression:
    """Sum over (a b), (c d) swaps of V^{ac} K^{bd}, K^{xy} typed with x, y free."""
    out = []
    for a, b in ("ab", "ba"):
        for c, d in ("cd", "dc"):
            out.append(f"V[{a},{c}] " + inner.replace("x", b).replace("y", d))
    return typed(sde, " + ".join(out), "a b c d")


@pytest.mark.parametrize(
    "function, slope", [(linear_attention, 1), (sigmoid_attention, sp.Rational(1, 4))]
)
def test_pointwise_attention_has_the_known_limit(derived, function, slope) -> None:  # type: ignore[no-untyped-def]
    """B = slope Y/(m tau_0), C = 0: b = gam^2 slope^2 tr(V^2) V / (m tau_0)^2."""
    sde = derived(function)
    size = slope**2 / (m**2 * tau_0**2)
    drift = typed(sde, "V[a,b] V[n,k] V[n,k]", "a b").scaled(gamma**2 * size)
    assert (sde.drift - drift).terms == ()
    noise = four_images(sde, "V[x,n] V[n,k] V[k,y]").scaled(gamma**4 * size)
    assert (sde.diffusion - linear(sde) - noise).terms == ()
    assert (sde.noise.covariance() - sde.diffusion).terms == ()


def test_skip_and_branch_that_do_not_sum_to_one_add_a_linear_drift(derived) -> None:  # type: ignore[no-untyped-def]
    sde = derived(value_alone)
    assert (sde.drift - typed(sde, "kappa * V[a,b]", "a b")).terms == ()
    assert (sde.diffusion - linear(sde)).terms == ()


def test_attention_with_one_token_is_geometric_brownian_motion(derived) -> None:  # type: ignore[no-untyped-def]
    sde = derived(softmax_attention)
    values = {m: 1.0, gamma: 0.6, tau_0: 0.7}
    V = np.array([[1.7]])
    np.testing.assert_allclose(evaluate(sde.drift, {"V": V}, values), 0, atol=1e-14)
    truth = 2 * 0.36 * (2 - 0.36) * 1.7**2
    np.testing.assert_allclose(evaluate(sde.diffusion, {"V": V}, values), truth, rtol=1e-13)


@pytest.mark.parametrize(
    "function, degrees",
    [
        (sigmoid_attention, (6, 8)),
        (linear_attention, (6, 8)),
        (softmax_attention, (6, 8)),
        (polynomial_rows, (6, 8)),
        (softmax_over_columns, (6, 8)),
        (sine_and_logarithm, (6, 8)),
        (weight_and_its_transpose, (2, 4)),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_derived_limit_agrees_with_the_second_route(derived, function, degrees) -> None:  # type: ignore[no-untyped-def]
    sde = derived(function)
    values = {p: VALUES[p.name] for p in sde.model.params} | {m: 2.0}
    drift, diffusion = second_route(
        sde.model, VALUES, V0, drift_degree=degrees[0], diffusion_degree=degrees[1]
    )
    ours = [evaluate(e, {"V": V0}, values) for e in (sde.drift, sde.diffusion)]
    np.testing.assert_allclose(ours[0], drift, atol=1e-9)
    np.testing.assert_allclose(ours[1], diffusion, atol=1e-9)


def relu_attention(X):  # type: ignore[no-untyped-def]
    return mixed(X, eye(m) + relu(logits(X)) / m)


def not_centred(X):  # type: ignore[no-untyped-def]
    return mixed(X, softmax(logits(X)))


def temperature_of_order_one(X):  # type: ignore[no-untyped-def]
    return mixed(X, eye(m) + softmax(sqrt(n) * logits(X)) - 1 / m)


def branch_too_large(X):  # type: ignore[no-untyped-def]
    return X + gamma * X @ gaussian(n, n) / sqrt(n)


@pytest.mark.parametrize(
    "function, reason",
    [
        (relu_attention, "with a kink is not normal in the limit"),
        (not_centred, r"one layer changes V by order one.*A\(0\) = I"),
        (temperature_of_order_one, "exp is random and of order one"),
        (branch_too_large, "one layer changes V by order one.*squared weights of skip and branch"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_what_has_no_sde_on_this_clock_is_refused_with_the_reason(function, reason) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Refusal, match=reason) as refused:
        derive(covariance_sde(state="X[m, n]", width=n)(function))
    assert refused.value.place is not None and refused.value.place.file == __file__

"""Definitions beside the family: other clocks, other scales, and refusals with the true reason."""

from __future__ import annotations

import ast

import numpy as np
import pytest
import sympy as sp
from family import agree, covariance, derived, linear_noise, nu, values

from derive.emit.covariance_sde.module import render
from derive.errors import DefinitionError, Refusal
from derive.methods.covariance_sde.derivation import derive
from derive.notation import (
    cos,
    covariance_sde,
    dims,
    exp,
    eye,
    gaussian,
    params,
    relu,
    sigmoid,
    softmax,
    sqrt,
)

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
n_h = dims("n_h: key width, proportional to the width")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")


def uncentred(X):  # type: ignore[no-untyped-def]
    W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
    logits = (X @ W_Q) @ (X @ W_K).T / n
    return sqrt(1 - gamma**2) * X + gamma * softmax(logits / sqrt(n * n_k)) @ X @ W_V / sqrt(n)


def kinked_attention(X):  # type: ignore[no-untyped-def]
    W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
    logits = (X @ W_Q) @ (X @ W_K).T / n
    A = eye(m) + relu(logits / (tau_0 * sqrt(n * n_k))) / m
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)


def relu_attention(X):  # type: ignore[no-untyped-def]
    W_Q, W_K, W_V = gaussian(n, n_h), gaussian(n, n_h), gaussian(n, n)
    logits = (X @ W_Q) @ (X @ W_K).T / n
    A = eye(m) + relu(logits / sqrt(n * n_h)) / (m * tau_0)
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)


def test_relu_attention_is_an_ode_at_depth_sqrt_n() -> None:
    # gamma^2 (M V + V M), M^{ab} = sqrt(V^{aa} V^{bb}) / (sqrt(2 pi) m tau_0)
    with pytest.raises(Refusal) as refused:
        derive(covariance_sde(state="X[m, n]", width=n)(relu_attention))
    size = "sqrt(2)*gamma**2/(2*m*tau_0*sqrt(pi))"
    rate = (
        f"depth / n^(1/2): dV[a,b]/ds = {size} * sum_{{k}} V[a,k] sqrt(V[k,k]) sqrt(V[b,b]) + "
        f"{size} * sum_{{k}} V[b,k] sqrt(V[k,k]) sqrt(V[a,a])."
    )
    assert rate in str(refused.value)


def test_one_layer_of_relu_attention_moves_by_that_rate() -> None:
    size, tokens, samples = 64, 2, 4000
    V, gamma_ = covariance(tokens, 5), 0.6
    rng = np.random.default_rng(11)
    X = np.zeros((tokens, size))
    X[:, :tokens] = np.sqrt(size) * np.linalg.cholesky(V)
    moves = []
    for _ in range(samples):
        W = [rng.standard_normal((size, size)) for _ in range(3)]
        Y = (X @ W[0]) @ (X @ W[1]).T / size / size
        pair = []
        for sign in (1, -1):  # the part that is odd in tau_0 is the mean of order n^(-1/2)
            B = np.maximum(Y, 0) / tokens
            new = np.sqrt(1 - gamma_**2) * X
            new = new + gamma_ * (X + sign * B @ X) @ W[2] / np.sqrt(size)
            pair.append(new @ new.T / size)
        moves.append(np.sqrt(size) * (pair[0] - pair[1]) / 2)
    root = np.sqrt(np.diag(V))
    M = np.outer(root, root) / (np.sqrt(2 * np.pi) * tokens)
    found, error = np.mean(moves, 0), np.std(moves, 0) / np.sqrt(samples)
    # E|Y| is off by a relative O(1/n); 3 entries, false alarms 2e-6
    assert np.all(np.abs(found - gamma_**2 * (M @ V + V @ M)) < 5 * error + 0.5 / size)


def raised(X):  # type: ignore[no-untyped-def]
    W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
    logits = (X @ W_Q) @ (X @ W_K).T / n
    A = eye(m) + (exp(logits / (tau_0 * sqrt(n * n_k))) - 1 + 1 / sqrt(n)) / m
    return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)


def fixed_mixing_of_order_one(X):  # type: ignore[no-untyped-def]
    return X + exp(X @ X.T / n) @ X @ gaussian(n, n) / sqrt(n)


@pytest.mark.parametrize(
    "function, word",
    [
        (uncentred, "collapse"),
        (kinked_attention, "proportional"),  # else logits are not normal, and E|Y| depends on n_k
        (raised, "E B"),
        (fixed_mixing_of_order_one, "order one"),
    ],
)
def test_definitions_without_this_limit_are_refused_for_the_true_reason(function, word) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Refusal, match=word):
        derive(covariance_sde(state="X[m, n]", width=n)(function))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("shaped_transformer", marks=pytest.mark.slow),
        pytest.param("post_norm_shaped_attention", marks=pytest.mark.slow),
        "random_value_sphere_attention",
    ],
)
def test_every_step_of_a_derivation_passes_its_numeric_check(name: str) -> None:
    sde = derived(name)
    failed = [s.name for s in sde.steps if s.check is not None and not s.check.passed]
    assert not failed
    assert (sde.noise.covariance() - sde.diffusion).is_zero


def test_a_wrong_sign_in_nu_would_be_seen() -> None:
    V = covariance(3, 10)
    drift, _ = values(derived("shaped_relu_mlp"), V, gamma=0.6, c_plus=0.4, c_minus=-1.3)
    with pytest.raises(AssertionError):
        agree(drift, -0.36 * nu(V, 0.4, -1.3))


def test_kinked_expectation_is_the_one_of_prices_rule() -> None:
    from derive.calculus.gaussian.kinks import CORRELATION, price

    assert (
        sp.simplify(sp.diff(price(2), CORRELATION, 2) - 2 / (sp.pi * sp.sqrt(1 - CORRELATION**2)))
        == 0
    )


def cooled(power: sp.Rational):  # type: ignore[no-untyped-def]
    def layer(X):  # type: ignore[no-untyped-def]
        W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
        logits = (X @ W_Q) @ (X @ W_K).T / n / (tau_0 * sqrt(n * n_k)) * n**power
        A = eye(m) + softmax(logits) - 1 / m
        return sqrt(1 - gamma**2) * X + gamma * A @ X @ W_V / sqrt(n)

    return layer


def faint(X):  # type: ignore[no-untyped-def]
    g = gamma * n ** -sp.Rational(1, 4)
    return sqrt(1 - g**2) * X + g * X @ gaussian(n, n) / sqrt(n)


def shifted(X):  # type: ignore[no-untyped-def]
    h = X @ gaussian(n, n) / sqrt(n)
    return X + sqrt(n) * sigmoid(h / sqrt(n)) @ gaussian(n, n) / sqrt(n)


def flat(X):  # type: ignore[no-untyped-def]
    h = X @ gaussian(n, n) / sqrt(n)
    branch = sqrt(n) * (cos(h / sqrt(n)) - 1)
    return sqrt(1 - gamma**2) * X + gamma * branch @ gaussian(n, n) / sqrt(n)


@pytest.mark.parametrize(
    "layer, words",
    [
        pytest.param(
            cooled(sp.Rational(1, 4)),
            r"clock depth / n\^\(1/2\).*supercritical.* by n\^\(1/4\)",
            marks=pytest.mark.slow,
        ),
        (cooled(sp.Rational(1, 2)), "exp is random and of order one"),
        (faint, r"subcritical; its noise moves V on the clock depth / n\^\(3/2\).* n\^\(1/4\)"),
        (shifted, r"order n:.*sigmoid \(line 163\) is 1/2 at zero"),
        (flat, r"cos \(line \d+\) has the slope phi'\(0\) = 0"),
    ],
)
def test_scales_off_the_critical_ones_are_named_with_the_clock_that_holds(layer, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Refusal, match=words):
        derive(covariance_sde(state="X[m, n]", width=n)(layer))


def test_subcritical_temperature_leaves_the_linear_network_and_says_so() -> None:
    sde = derive(covariance_sde(state="X[m, n]", width=n)(cooled(-sp.Rational(1, 4))))
    V = covariance(3, 9)
    drift, diffusion = values(sde, V, gamma=0.5)
    assert np.all(drift == 0)
    agree(diffusion, 0.25 * 1.75 * linear_noise(V))
    assert any("tau_0 drops out" in fact for fact in sde.facts)


def weak_attention_without_centring(X):  # type: ignore[no-untyped-def]
    W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
    A = softmax((X @ W_Q) @ (X @ W_K).T / n / (tau_0 * sqrt(n * n_k)))
    return sqrt(1 - gamma**2 / n) * X + gamma * A @ X @ W_V / n


def test_weak_attention_without_centring_is_the_ode_of_averaging() -> None:
    # g^2 (J V J - V), J = 11^T/m, and no noise
    sde = derive(covariance_sde(state="X[m, n]", width=n)(weak_attention_without_centring))
    V = covariance(3, 10)
    drift, diffusion = values(sde, V, gamma=0.5)
    agree(drift, 0.25 * (np.full((3, 3), V.mean()) - V))
    assert np.all(diffusion == 0) and sde.noise.fields == ()
    ast.parse(render(sde, "theory/mine.py", "mine"))


def pre_norm(X):  # type: ignore[no-untyped-def]
    unit = X / sqrt((X * X).mean(-1, keepdims=True))
    return sqrt(1 - gamma**2 / n) * X + gamma * unit @ gaussian(n, n) / n


def test_a_branch_on_normalised_tokens_closes_in_the_correlations() -> None:
    sde = derive(covariance_sde(state="X[m, n]", width=n)(pre_norm))
    V = covariance(3, 11)
    drift, _ = values(sde, V, gamma=0.5)
    root = np.sqrt(np.diag(V))
    agree(drift, 0.25 * (V / np.outer(root, root) - V))


def test_a_parameter_for_which_a_root_is_not_real_is_named() -> None:
    wide = params("g: positive")

    def layer(X):  # type: ignore[no-untyped-def]
        return sqrt(1 - wide**2) * X + wide * X @ gaussian(n, n) / sqrt(n)

    layer.__globals__["wide"] = wide
    with pytest.raises(DefinitionError, match=r"sqrt\(1 - g\*\*2\) is not real at g = 1.*narrow"):
        derive(covariance_sde(state="X[m, n]", width=n)(layer))

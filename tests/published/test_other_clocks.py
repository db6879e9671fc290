"""Limits on other clocks than depth / width, against published and typed formulas.

The clock is the definition's; drift and diffusion are exact on it, so agreement is to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import shaped_attention_theorem as theorem

from derive.calculus.evaluate import evaluate
from derive.errors import DefinitionError, Refusal
from derive.methods.covariance_sde import CovarianceSDE, derive
from derive.notation import (
    Rational,
    covariance_sde,
    dims,
    eye,
    gaussian,
    params,
    relu,
    softmax,
    sqrt,
)
from derive.registry import find, load
from derive.verify import rungs

m, n, n_k, k = dims("m: tokens", "n: width", "n_k: key width", "k: another, fixed")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")
c_plus, c_minus = params("c_plus: real", "c_minus: real")
NUMBERS = {"gamma": 0.6, "tau_0": 0.7, "c_plus": 0.4, "c_minus": -1.3}


def mixed(X: Any, A: Any, g: Any) -> Any:
    return sqrt(1 - g**2) * X + g * A @ X @ gaussian(n, n) / sqrt(n)


def logits(X: Any) -> Any:
    return (X @ gaussian(n, n_k)) @ (X @ gaussian(n, n_k)).T / n / (tau_0 * sqrt(n * n_k))


def hotter(X: Any) -> Any:
    return mixed(X, eye(m) + softmax(n ** Rational(1, 4) * logits(X)) - 1 / m, gamma)


def plain(X: Any) -> Any:
    return mixed(X, eye(m) + softmax(logits(X)) - 1 / m, gamma)


def not_centred(X: Any) -> Any:
    return mixed(X, softmax(logits(X)), gamma)


def faint(power: Any) -> Callable[..., Any]:
    def branch(X: Any) -> Any:
        return mixed(X, eye(m) + softmax(logits(X)) - 1 / m, gamma / n**power)

    return branch


def mlp(power: Any) -> Callable[..., Any]:
    def shaped(X: Any) -> Any:
        s_plus, s_minus = 1 + c_plus / n**power, 1 + c_minus / n**power
        c = 2 / (s_plus**2 + s_minus**2)
        h = X @ gaussian(n, n) / sqrt(n)
        branch = (s_plus * relu(h) - s_minus * relu(-h)) @ gaussian(n, n)
        return sqrt(1 - gamma**2) * X + gamma * sqrt(c / n) * branch

    return shaped


@cache
def derived(layer: Callable[..., Any], clock: Any = None) -> CovarianceSDE:
    return derive(covariance_sde(state="X[m, n]", width=n, clock=clock)(layer))


def values(sde: CovarianceSDE, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    table = {p: NUMBERS[p.name] for p in sde.model.params} | {sde.model.state_dims[0]: len(V)}
    return tuple(evaluate(e, {"V": V}, table) for e in (sde.drift, sde.diffusion))  # type: ignore[return-value]


def covariance(tokens: int = 3, seed: int = 4) -> np.ndarray:
    root = np.random.default_rng(seed).standard_normal((tokens, tokens + 2))
    return root @ root.T / (tokens + 2)


def agree(found: np.ndarray, typed: np.ndarray) -> None:
    assert np.max(np.abs(found - typed)) < 1e-12 * max(np.max(np.abs(typed)), 1.0)


def nu(V: np.ndarray) -> np.ndarray:
    """nu(rho) sqrt(V_aa V_bb) of arXiv 2206.02768."""
    size = np.sqrt(np.outer(np.diag(V), np.diag(V)))
    rho = np.clip(V / size, -1, 1)
    shape = np.sqrt(1 - rho**2) - rho * np.arccos(rho)
    return (NUMBERS["c_plus"] - NUMBERS["c_minus"]) ** 2 / (2 * np.pi) * shape * size


@pytest.mark.parametrize("tokens", [1, 2, 4])
def test_relu_attention_follows_its_mean_at_depth_sqrt_n(tokens: int) -> None:
    # gamma^2 (M V + V M), M^{ab} = sqrt(V^{aa} V^{bb}) / (sqrt(2 pi) m tau_0)
    sde = derive(load(find("relu_attention")))
    V = covariance(tokens)
    root = np.sqrt(np.diag(V))
    M = np.outer(root, root) / (np.sqrt(2 * np.pi) * tokens * NUMBERS["tau_0"])
    drift, diffusion = values(sde, V)
    agree(drift, NUMBERS["gamma"] ** 2 * (M @ V + V @ M))
    assert np.all(diffusion == 0) and not sde.noise.fields
    failed = [s.name for s in sde.steps if s.check is not None and not s.check.passed]
    assert not failed


@pytest.mark.parametrize(
    "power", [Rational(1, 3), pytest.param(Rational(1, 4), marks=pytest.mark.slow)]
)
def test_slopes_that_bend_more_follow_nu_at_depth_n_to_twice_the_power(power: Any) -> None:
    sde = derived(mlp(power), n ** (2 * power))
    V = covariance()
    drift, diffusion = values(sde, V)
    agree(drift, NUMBERS["gamma"] ** 2 * nu(V))
    assert np.all(diffusion == 0)
    assert "no reduced chain" in sde.facts[-1]


def test_slopes_that_bend_less_leave_the_linear_network_at_depth_n() -> None:
    V = covariance()
    drift, diffusion = values(derived(mlp(1), n), V)
    assert np.all(drift == 0)
    agree(diffusion, 2 * NUMBERS["gamma"] ** 2 * theorem.sigma_linear(V))


def test_hotter_attention_is_an_sde_at_depth_sqrt_n_without_the_values_noise() -> None:
    sde = derived(hotter, sqrt(n))
    V = covariance()
    drift, diffusion = values(sde, V)
    agree(drift, theorem.drift(V, NUMBERS["gamma"], NUMBERS["tau_0"]))
    factor = NUMBERS["gamma"] ** 4 / NUMBERS["tau_0"] ** 2
    agree(diffusion, factor * theorem.sigma_attention(V))
    (fact,) = [f for f in sde.facts if "fluctuates too little" in f]
    assert "mean square enters" in fact
    # the exact chain is that of any clock; its shape is no step of length 1/n
    assert sde.reduction is not None and sde.reduction.step is None


@pytest.mark.parametrize(
    "power", [Rational(1, 4), pytest.param(Rational(1, 2), marks=pytest.mark.slow)]
)
def test_a_weaker_branch_is_an_sde_at_a_larger_depth(power: Any) -> None:
    # the rule with gamma^2 small: the drift of attention, and the noise 2 gamma^2 Sigma_lin alone
    sde = derived(faint(power), n ** (1 + 2 * power))
    V = covariance()
    drift, diffusion = values(sde, V)
    agree(drift, theorem.drift(V, NUMBERS["gamma"], NUMBERS["tau_0"]))
    agree(diffusion, 2 * NUMBERS["gamma"] ** 2 * theorem.sigma_linear(V))


def test_the_second_route_agrees_on_other_clocks_and_sees_a_wrong_one() -> None:
    from dataclasses import replace
    from fractions import Fraction

    sde = derived(faint(Rational(1, 4)), n ** Rational(3, 2))
    assert rungs.independent(sde).passed
    slow = replace(sde, model=replace(sde.model, pace=Fraction(5, 4)))
    assert not rungs.independent(slow).passed


@pytest.mark.parametrize(
    "clock, words",
    [
        (None, r"an ODE on the clock depth / n\^\(1/2\).*for the limit on that clock write "),
        ("n**2", r"too large for the clock depth / n\^2"),
        ("n**Rational(1, 4)", r"nothing moves on the clock depth / n\^\(1/4\)"),
    ],
)
def test_a_wrong_clock_is_refused_with_the_line_to_write(clock: str | None, words: str) -> None:
    model = load(find("relu_attention"))
    width = model.width
    given = {None: None, "n**2": width**2, "n**Rational(1, 4)": width ** Rational(1, 4)}[clock]
    wrong = covariance_sde(state="X[m, n]", width=width, clock=given)(model.function)
    with pytest.raises(Refusal, match=f"{words}.*write clock=sqrt\\(n\\)$"):
        derive(wrong)


@pytest.mark.parametrize(
    "layer, clock, words",
    [
        (plain, sqrt(n), r"nothing moves on the clock depth / n\^\(1/2\).*; .* leave clock out$"),
        (hotter, None, r"supercritical.*; for the limit on that clock write clock=sqrt\(n\)$"),
        (faint(Rational(1, 4)), None, r"subcritical.* write clock=n\*\*Rational\(3, 2\)$"),
        (not_centred, sqrt(n), r"one layer changes V by order one.*A\(0\) = I"),
    ],
    ids=["too fast", "too slow", "too fast for a faint branch", "order one"],
)
def test_the_clock_that_holds_is_tried_out_before_it_is_named(layer, clock, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Refusal, match=words):
        derived(layer, clock)


@pytest.mark.parametrize("clock", [sqrt(k), 2 * sqrt(n), 1 / n, sqrt(n) + 1, 3, "sqrt(n)"])
def test_a_clock_that_is_no_power_of_the_width_is_named_with_the_line(clock: Any) -> None:
    with pytest.raises(
        DefinitionError, match=r"is no power of the width n;.* clock=sqrt\(n\)"
    ) as e:
        covariance_sde(state="X[m, n]", width=n, clock=clock)(plain)
    assert e.value.place is not None and e.value.place.file == __file__

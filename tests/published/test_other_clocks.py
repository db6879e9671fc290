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
from derivations import derivation
from scipy.integrate import solve_ivp

from derive.calculus.index.evaluate import evaluate
from derive.emit.common import document
from derive.emit.covariance_sde import report
from derive.emit.covariance_sde.module import render
from derive.errors import DefinitionError, Refusal
from derive.generated import relu_attention
from derive.methods.covariance_sde.derivation import derive
from derive.methods.covariance_sde.finite_width import finite_width
from derive.methods.covariance_sde.one_dimension import scalars
from derive.methods.covariance_sde.result import CovarianceSDE
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
from derive.verify.covariance_sde.independent import independent
from derive.verify.covariance_sde.references import references

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


@cache
def faint(power: Any) -> Callable[..., Any]:
    def branch(X: Any) -> Any:
        return mixed(X, eye(m) + softmax(logits(X)) - 1 / m, gamma / n**power)

    return branch


@cache
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
    sde = derivation("relu_attention")
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


@pytest.mark.slow
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
    assert independent(references(sde)).passed
    slow = replace(sde, model=replace(sde.model, pace=Fraction(5, 4)))
    assert not independent(references(slow)).passed


@pytest.mark.parametrize(
    "clock, words",
    [
        (None, r"an ODE on the clock depth / n\^\(1/2\)"),
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
        pytest.param(
            plain,
            sqrt(n),
            r"nothing moves on the clock depth / n\^\(1/2\).*; .* leave clock out$",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            hotter,
            None,
            r"supercritical.*; for the limit that does hold write clock=sqrt\(n\)$",
            marks=pytest.mark.slow,
        ),
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


def test_the_scalars_of_an_ode_are_odes() -> None:
    (one,) = scalars_of(derivation("relu_attention"))
    # m = 1: dv/dt = 2 gamma^2 v^2 / (sqrt(2 pi) tau_0)
    rate = 2 * NUMBERS["gamma"] ** 2 / (np.sqrt(2 * np.pi) * NUMBERS["tau_0"])
    assert at(one.drift, v=1.7) == pytest.approx(rate * 1.7**2, rel=1e-14)
    assert one.square == 0 and "dv/dt = " in one.text
    assert one.explosion() == "v explodes in finite time"
    (rho,) = scalars_of(derived(mlp(Rational(1, 3)), n ** Rational(2, 3)))
    V = np.array([[1.0, 0.3], [0.3, 1.0]])
    typed = NUMBERS["gamma"] ** 2 * nu(V)[0, 1]  # arXiv 2206.02768: d rho / ds = nu(rho)
    assert at(rho.drift, rho=0.3) == pytest.approx(typed, rel=1e-12)
    assert rho.text.startswith("two tokens, correlation rho: drho/dt = ")


def scalars_of(sde: CovarianceSDE) -> list[Any]:
    return scalars(sde.drift, sde.diffusion)


def at(expression: Any, **numbers: float) -> float:
    known = NUMBERS | numbers
    return float(expression.subs({s: known[s.name] for s in expression.free_symbols}))


@pytest.mark.slow  # quick: the rates by clock above, and what a module says of its clock
def test_time_is_depth_over_the_clock_in_networks_and_simulations() -> None:
    values_ = relu_attention.Params(gamma=0.6, tau_0=0.7)
    V0 = np.array([[1.0, 0.2], [0.2, 1.0]])
    chain = relu_attention.reduced_network(
        V0, values_, width=10_000, depth=50, paths=64, seed=1, saves=3
    )
    np.testing.assert_allclose(chain.times, [0.0, 0.25, 0.5], rtol=1e-14)
    dense = relu_attention.network(V0, values_, width=64, depth=4, paths=2, seed=1)
    assert dense.times[-1] == 0.5
    ode = relu_attention.simulate(V0, values_, t1=0.5, paths=1, seed=1, dt=1 / 2048, saves=3)

    def rate(_: float, flat: np.ndarray) -> np.ndarray:
        V = flat.reshape(2, 2)
        root = np.sqrt(np.diag(V))
        M = np.outer(root, root) / (np.sqrt(2 * np.pi) * 2 * 0.7)
        return 0.36 * (M @ V + V @ M).ravel()

    exact = solve_ivp(rate, (0, 0.5), V0.ravel(), rtol=1e-10).y[:, -1].reshape(2, 2)
    np.testing.assert_allclose(ode.V[0, -1], exact, rtol=5e-4)
    # fluctuations of order width^(-1/4) = .1 a path, .0125 of the mean of 64, twice that allowed;
    # the bias is of order width^(-1/2) = .01
    np.testing.assert_allclose(chain.V[:, -1].mean(0), exact, atol=0.06)
    with pytest.raises(ValueError, match=r"times are layers / n\*\*0.5"):
        relu_attention.network(V0, values_, width=64, depth=4, paths=2, seed=1, saves=[0, 0.5])


def test_what_is_derived_on_the_usual_clock_alone_is_refused() -> None:
    with pytest.raises(Refusal, match=r"on the clock depth / n; .* depth / sqrt\(n\)"):
        finite_width(derivation("relu_attention"))
    with pytest.raises(ValueError, match="no correction for a finite n"):
        relu_attention.simulate(
            np.eye(2), relu_attention.Params(0.5, 1.0), t1=0.1, paths=2, seed=1, width=64
        )


def test_a_generated_module_says_its_clock_and_nothing_else_does() -> None:
    text = render(derivation("relu_attention"), "theory/mine.py", "mine")
    for words in ("clock t = layer / sqrt(n)", "time t1 (depth / sqrt(n))", "layers / sqrt(n).",
                  "b(V) / sqrt(n) to leading order", "pace=1 / 2"):  # fmt: skip
        assert words in text
    assert "depth / width" not in text
    shown = document.text(report.document(derivation("relu_attention")))
    assert "clock t = layer / sqrt(n)" in shown
    usual = render(derived(faint(Rational(1, 4)), n ** Rational(3, 2)), "mine", "mine")
    assert "clock t = layer / n^(3/2)" in usual and "pace=3 / 2" in usual


@pytest.mark.slow
def test_a_block_too_weak_for_the_clock_adds_nothing() -> None:
    def two(X: Any) -> Any:
        Z = mixed(X, eye(m) + softmax(n ** Rational(1, 4) * logits(X)) - 1 / m, gamma)
        return sqrt(1 - gamma**2) * Z + gamma * Z @ gaussian(n, n) / sqrt(n)

    sde = derived(two, sqrt(n))
    alone = derived(hotter, sqrt(n))
    assert (sde.drift - alone.drift).is_zero and (sde.diffusion - alone.diffusion).is_zero
    assert any("too little to count" in f for f in sde.facts)

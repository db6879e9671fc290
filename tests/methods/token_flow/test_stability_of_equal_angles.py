"""Where equal angles and two clusters rest, and how small changes of cosines grow about them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from odd_flows import ALL, AT_REST, cubic_pull, kinked_pull, pull_beyond_a_cosine, shifted_pull

from derive.methods.token_flow import deviation_checks
from derive.methods.token_flow.derivation import derive
from derive.methods.token_flow.deviations import Deviations, equilibria
from derive.methods.token_flow.equal_angles import RHO
from derive.methods.token_flow.instances import instance
from derive.methods.token_flow.names import COUNT
from derive.methods.token_flow.result import Absent
from derive.methods.token_flow.scalar_values import number
from derive.methods.token_flow.two_clusters import COSINE
from derive.registry import find, load

N = COUNT


@pytest.fixture(scope="module")
def linear():
    return derive(load(find("linear_sphere_attention")))


@pytest.fixture(scope="module")
def softmax():
    return derive(load(find("sphere_attention")))


def test_three_kinds_of_changes_have_the_eigenvalues_of_all_pairs(softmax):
    # every pair by differences of the text, decomposed by a solver that knows of no kinds
    one = instance(softmax.model, 47, tokens=6, d=6)
    cosine, n = 0.2, 6
    gram = (1 - cosine) * np.eye(n) + cosine
    equal = deviation_checks.with_products(one, gram, np.full(n, 1 / n))
    found = np.sort(np.linalg.eigvals(deviation_checks.by_pairs(equal)).real)
    values = {**one.numbers, RHO: cosine, COUNT: n}
    rates = [number(r, values) for r in softmax.deviations.rates]
    wanted = np.sort(np.repeat(rates, (1, n - 1, n * (n - 3) // 2)))
    np.testing.assert_allclose(found, wanted, rtol=1e-7)


def test_linear_attention_worked_out_by_hand(linear):
    # R' = (2/n) (R^2 - ...) : rho' = 2 rho (1 - rho)(1 + (n - 1) rho)/n has three zeros
    assert equilibria(linear.equal_angles.cosine, RHO) == (1, 0, -1 / (N - 1))
    at_right_angles = [sp.simplify(r.subs(RHO, 0) - 2 / N) for r in linear.deviations.rates]
    assert at_right_angles == [0, 0, 0]
    on_the_simplex = [r.subs(RHO, -1 / (N - 1)) for r in linear.deviations.rates]
    wanted = (-2 / (N - 1), 2 / (N - 1) ** 2, 2 / (N - 1))
    pairs = zip(on_the_simplex, wanted, strict=True)
    assert [sp.simplify(r - w) for r, w in pairs] == [0, 0, 0]


def test_zeros_of_a_rate_that_are_no_cosines_are_left_out():
    g = sp.Symbol("g", real=True)
    assert equilibria((g - 2) * (g**2 + 1) * (g + sp.Rational(1, 2)), g) == (-sp.Rational(1, 2),)


def test_a_zero_beyond_minus_one_at_few_tokens_is_left_out():
    assert equilibria((RHO - 1) * (RHO + 3 / (N - 1)), RHO) == (1,)


@pytest.mark.parametrize("kind", ["all", "tokens", "pairs"])
def test_a_wrong_growth_rate_is_seen(softmax, kind):
    found = softmax.deviations
    wrong: Deviations = replace(found, **{kind: getattr(found, kind) * sp.Rational(1001, 1000)})
    assert deviation_checks.rates(found, softmax.names).passed
    assert not deviation_checks.rates(wrong, softmax.names).passed


def test_a_wrong_resting_cosine_is_seen(softmax):
    assert deviation_checks.resting(-1 / (N - 1), softmax.names).passed
    assert not deviation_checks.resting(-1 / N, softmax.names).passed


def test_a_wrong_slope_of_two_clusters_is_seen(softmax):
    slope = softmax.two_clusters.rate.diff(COSINE).subs(COSINE, -1)
    assert deviation_checks.two_resting(sp.Integer(-1), slope, softmax.names).passed
    assert not deviation_checks.two_resting(sp.Integer(-1), -slope, softmax.names).passed
    assert not deviation_checks.two_resting(sp.Integer(0), slope, softmax.names).passed


def test_definitions_that_nobody_shipped_say_where_they_rest():
    said = [f for f in derive(cubic_pull).facts if f.kind == "rest"]
    assert said
    assert all(f.check.passed for f in said)


def test_equal_angles_with_a_free_norm_are_not_judged():
    free = [m for m in ALL if not m.sphere]
    assert free
    assert all(isinstance(derive(m).deviations, Absent) for m in free[:2])


@pytest.mark.parametrize("model", AT_REST, ids=lambda m: m.name)
def test_right_definitions_raise_no_alarm(model):
    result = derive(model)
    assert [f for f in result.facts if f.check is not None and not f.check.passed] == []


def test_cosines_that_few_tokens_can_have_are_not_where_equal_angles_rest():
    at = [f for f in derive(shifted_pull).facts if f.startswith("equal angles rest")]
    assert len(at) == 2  # at one, and on the simplex; -1/2 is a cosine of three tokens at most


def test_a_resting_cosine_of_parameters_is_said_where_it_is_one():
    (said,) = [f for f in derive(pull_beyond_a_cosine).facts if "angles rest at rho = gamma" in f]
    assert "gamma, where that is a cosine of theirs" in said


def test_kinks_have_no_growth_rates_at_equal_angles():
    found = derive(kinked_pull).deviations
    assert isinstance(found, Absent)
    assert "kink" in found.why

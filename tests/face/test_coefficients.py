"""Substitution, limits and series commute with taking entries, or are refused with the term."""

from __future__ import annotations

import pytest
import sympy as sp
from faces import equations

from derive.calculus.index.defined import Book
from derive.errors import RequestError
from derive.face.equations import Equations


@pytest.fixture(scope="module")
def relu() -> Equations:
    return equations("shaped_relu_mlp")


@pytest.fixture(scope="module")
def smooth() -> Equations:
    return equations("shaped_attention")


def flat(array: sp.NDimArray) -> list[sp.Expr]:
    return list(sp.flatten(array.tolist()))


def of(entries: sp.Matrix, name: str) -> sp.Symbol:
    return next(s for s in entries.free_symbols if s.name == name)


def test_subs_commutes_with_entries(relu: Equations) -> None:
    half = sp.Rational(1, 2)
    whole = relu.drift.sympy(m=2)
    after = whole.subs(of(whole, "gamma"), half)
    assert sp.simplify(relu.drift.subs(gamma=half).sympy(m=2) - after) == sp.zeros(2, 2)
    assert relu.drift.subs(gamma="1/2").value == relu.drift.subs(gamma=half).value
    assert "gamma = 1/2" in relu.drift.subs(gamma=half).text


def test_subs_refuses_what_is_not_exact_or_not_allowed(smooth: Equations) -> None:
    with pytest.raises(RequestError, match="exact"):
        smooth.drift.subs(gamma=0.5)
    with pytest.raises(RequestError, match="outside its range"):
        smooth.drift.subs(gamma=2)
    with pytest.raises(RequestError, match="zeta does not occur.*gamma, tau_0"):
        smooth.drift.subs(zeta=1)
    with pytest.raises(RequestError, match="m is a dimension that sums run over"):
        smooth.drift.subs(m=2)


def test_a_limit_is_that_of_every_term(smooth: Equations) -> None:
    linear = smooth.diffusion.limit(tau_0=sp.oo)
    entries = flat(smooth.diffusion.sympy(m=2))
    tau = next(s for e in entries for s in e.free_symbols if s.name == "tau_0")
    after = [sp.limit(e, tau, sp.oo) for e in entries]
    assert [sp.expand(a - b) for a, b in zip(flat(linear.sympy(m=2)), after, strict=True)] == [
        0
    ] * 16
    assert smooth.drift.limit(tau_0=sp.oo).value.is_zero
    with pytest.raises(RequestError, match="no finite value at tau_0 = 0, in the term"):
        smooth.drift.limit(tau_0=0)


def test_a_series_is_that_of_every_term(smooth: Equations) -> None:
    second, fourth = (smooth.diffusion.series("gamma", k) for k in (2, 4))
    entries = flat(smooth.diffusion.sympy(m=2))
    gamma = next(s for e in entries for s in e.free_symbols if s.name == "gamma")
    for found, order in ((second, 2), (fourth, 4)):
        wanted = [sp.series(e, gamma, 0, order + 1).removeO() for e in entries]
        pairs = zip(flat(found.sympy(m=2)), wanted, strict=True)
        assert [sp.expand(a - b) for a, b in pairs] == [0] * 16
    assert second.value != fourth.value
    with pytest.raises(RequestError, match="no power series|no finite"):
        smooth.drift.series("tau_0", 1)


def test_a_parameter_inside_a_factor_is_refused() -> None:
    """beta sits in the softmax of V, which is one tensor of the equation."""
    eq = equations("random_value_sphere_attention")
    with pytest.raises(RequestError, match=r"beta also sits inside S_\d+.*\.sympy"):
        eq.drift.limit(beta=0)


def test_graphs_take_numbers_and_refuse_limits() -> None:
    eq = equations("gaussian_tracking")
    cost = eq.running_cost.sympy(d=1)
    alpha = next(s for s in cost.free_symbols if s.name == "alpha")
    assert sp.expand(eq.running_cost.subs(alpha=3).sympy(d=1) - cost.subs(alpha, 3)) == 0
    assert "3" in eq.running_cost.subs(alpha=3).text
    with pytest.raises(RequestError, match="take entries first"):
        eq.running_cost.limit(alpha=0)


def test_a_limit_inside_a_range_is_that_of_both_sides() -> None:
    from derive.face.coefficients import limit
    from derive.notation import params

    x = params("x: real")
    assert limit(sp.sin(x) / x, "x", 0, Book()) == 1
    with pytest.raises(RequestError, match="two sides differ"):
        limit(sp.Abs(x) / x, "x", 0, Book())
    with pytest.raises(RequestError, match="two sides differ|no finite"):
        limit(1 / x, "x", 0, Book())

"""Substitution, limits and series commute with taking entries, or are refused with the term."""

from __future__ import annotations

from typing import Any

import pytest
import sympy as sp
from faces import equations

from derive.calculus.arrays.algebra import Algebra
from derive.calculus.index.defined import Book
from derive.errors import RequestError
from derive.face import coefficients
from derive.face.equations import Equations
from derive.notation.common.scalars import Param, Range


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


def test_graphs_take_numbers_limits_and_series() -> None:
    """Of the entries: what is done to scalars before arrays is what SymPy does after them."""
    eq = equations("gaussian_tracking")
    cost = eq.running_cost.sympy(d=1)
    alpha, beta = (next(s for s in cost.free_symbols if s.name == n) for n in ("alpha", "beta"))
    assert sp.expand(eq.running_cost.subs(alpha=3).sympy(d=1) - cost.subs(alpha, 3)) == 0
    assert "3" in eq.running_cost.subs(alpha=3).text
    assert sp.expand(eq.running_cost.limit(alpha=0).sympy(d=1) - cost.subs(alpha, 0)) == 0
    assert "alpha" not in eq.running_cost.limit(alpha=0).text.split("  at ")[0]
    law = eq.control_law.sympy(d=2)
    free = eq.control_law.limit(beta="oo").sympy(d=2)
    assert free == law.applyfunc(lambda e: sp.limit(e, beta, sp.oo))
    bent = eq.control_law.series("beta", 1, about=2).sympy(d=1)[0]
    wanted = sp.series(law[0, 0], beta, 2, 2).removeO()
    assert {s.name for s in bent.free_symbols} <= {s.name for s in wanted.free_symbols}
    exact = eq.control_law.sympy(d=1)[0]
    step = sp.Symbol("step", positive=True)
    off = (exact - bent).subs(beta, 2 + step)
    assert sp.limit(off / step, step, 0) == 0 and sp.limit(off / step**2, step, 0) != 0


def test_what_graphs_hold_beside_scalars_is_refused_with_the_term() -> None:
    eq = equations("gaussian_tracking")
    with pytest.raises(RequestError, match=r"no finite value at beta = 0.*in the term .*p_S"):
        eq.control_law.limit(beta=0)
    with pytest.raises(RequestError, match="no power series.*in the term"):
        eq.control_law.series("beta", 1)
    with pytest.raises(RequestError, match="alpha also sits inside .*take entries first"):
        eq.costate_rate.limit(alpha=0)


def test_a_limit_inside_a_range_is_that_of_both_sides() -> None:
    from derive.face.coefficients import limit
    from derive.notation import params

    x = params("x: real")
    assert limit(sp.sin(x) / x, "x", 0, equations("shaped_smooth_mlp")) == 1
    with pytest.raises(RequestError, match="two sides differ"):
        limit(sp.Abs(x) / x, "x", 0, equations("shaped_smooth_mlp"))
    with pytest.raises(RequestError, match="two sides differ|no finite"):
        limit(1 / x, "x", 0, equations("shaped_smooth_mlp"))


def test_a_value_may_name_a_parameter_of_the_equation() -> None:
    """Once a text made a symbol of its own of it: two of one name, of which one was put in."""
    drift = equations("shaped_attention").drift
    tied = drift.subs(gamma="tau_0 / 2")
    for way in (tied, tied.subs(tau_0=3), tied.limit(tau_0="oo"), tied.series("tau_0", 2)):
        names = {s.name for s in way.sympy(m=2)[0, 1].free_symbols}
        assert names == {"V_11", "V_12", "V_22"}, names
    plain = drift.subs(gamma=sp.Symbol("tau_0") / 2)
    assert plain.value == tied.value
    whole, half = drift.sympy(m=2)[0, 1], drift.subs(gamma="gamma/2").sympy(m=2)[0, 1]
    assert sp.simplify(half - whole / 4) == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda e: e.limit(gamma=5), "outside its range"),
        (lambda e: e.limit(tau_0=-1), "outside its range"),
        (lambda e: e.limit(tau_0="-oo"), "outside its range"),
        (lambda e: e.limit(tau_0=1.5), "exact"),
        (lambda e: e.subs(gamma="I"), "no real number"),
        (lambda e: e.subs(gamma=sp.Float(0.5)), "exact"),
        (lambda e: e.subs(gamma=None), "a number or an expression"),
        (lambda e: e.subs(gamma="("), "is no expression"),
        (lambda e: e.subs(gamma="open('/tmp/x')"), "is no expression"),
        (lambda e: e.subs(gamma="__import__('os').getcwd()"), "is no expression"),
        (lambda e: e.series("gamma", -1), "0, 1, 2"),
        (lambda e: e.series("gamma", 1.5), "0, 1, 2"),
        (lambda e: e.series("tau_0", 2, about="oo"), "finite centre"),
    ],
)
def test_what_is_no_value_is_refused_in_words(call: Any, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        call(equations("shaped_attention").drift)


def test_a_power_series_at_an_inner_point_is_that_of_both_sides() -> None:
    """|g| about 0 is g on one side alone."""
    text = sp.Abs(G) + G**2
    with pytest.raises(RequestError, match="from two sides differ"):
        coefficients.series(text, "g", 2, Alone())
    assert coefficients.series(sp.exp(G), "g", 2, Alone()) == 1 + G + G**2 / 2


G = Param("g", Range(-1.0, 1.0, True, True, "in (-1, 1)"))


class Alone:
    book, algebra, symbols = Book(), Algebra(), {"g": G}


def test_the_noise_takes_values_and_limits() -> None:
    noise = equations("shaped_attention").noise
    half = noise.subs(gamma="1/2")
    assert "sqrt(7)/4 * F_2" in half.text and "gamma**" not in half.text
    assert noise.limit(tau_0="oo").text.split("\n")[1].strip() == "gamma*sqrt(2 - gamma**2) * F_2"

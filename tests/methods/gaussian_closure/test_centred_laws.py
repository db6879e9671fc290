"""A law whose mean is zero by definition: exactness is decided under it, and it is held to."""

from __future__ import annotations

import jax
import numpy as np
import odd_closures as odd
import pytest
import sympy as sp
from built_closures import built

from derive.calculus.gaussian.homogeneous import homogeneous_mean
from derive.emit.gaussian_closure.module import render
from derive.errors import Refusal
from derive.methods.gaussian_closure import instances
from derive.methods.gaussian_closure.derivation import derive
from derive.verify.gaussian_closure.mutants import mutants

S = sp.Symbol("s", real=True)


@pytest.mark.parametrize(
    "body", [sp.Max(S, 0), sp.Max(S, 0) ** 2, S * sp.Abs(S), sp.Max(S, 0) ** 3]
)
@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_means_of_functions_that_scale(body: sp.Expr, order: int) -> None:
    found = homogeneous_mean(sp.Lambda(S, body), order)
    if found is None:
        return
    v = 1.7
    z = np.linspace(-12, 12, 400_001)
    slope = sp.lambdify(S, body.rewrite(sp.Piecewise).diff(S, order), "numpy")(np.sqrt(v) * z)
    weight = np.exp(-(z**2) / 2)
    wanted = (np.nan_to_num(slope) * weight).sum() / weight.sum()
    assert abs(float(found[0]) * v ** found[1] - wanted) < 1e-4 * max(1, abs(wanted))


def test_relu_scores_are_exact_under_a_centred_law() -> None:
    result, module = built("centred_relu")
    one = instances.instance(result.model, 95, size=3)
    a = one.arrays
    with jax.enable_x64(True):
        p = module.Params(*(a[n] for n in module.Params._fields))
        slope = np.asarray(module.jacobian(a["m"], a["S"], p))
        assert not np.asarray(module.mean_rate(a["m"], a["S"], p)).any()
        with pytest.raises(ValueError, match="mean0 must be zero"):
            module.solve(np.ones(3), a["S"], p, t1=0.1)
    np.testing.assert_allclose(slope, a["V"] @ a["S"] @ a["K"].T @ a["Q"] / 2, atol=1e-12)
    assert result.exact


def test_a_mean_that_moves_is_refused() -> None:
    with pytest.raises(Refusal, match="does not keep a mean of zero: its rate is c"):
        derive(odd.centred_bias)


def test_a_mean_that_rests_is_no_error_of_a_quadrature() -> None:
    text = render(derive(odd.centred_network), "p", "p")
    assert "lambda *law: (jacobian(*law),)" in text
    assert "(mean_rate(*law), jacobian(*law))" not in text


def test_mutants_of_a_network_are_held_to_a_rule_that_settles() -> None:
    rung = mutants(derive(odd.centred_network))
    assert rung.passed, rung.figures

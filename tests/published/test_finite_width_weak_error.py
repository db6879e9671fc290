"""The first correction in the width takes the weak error from n^(-1/2) to 1/n.

E V_12 of the shaped-ReLU MLP with c_+ + c_- != 0 (arXiv 2206.02768): the SDEs by collocation, with
the drift that is derived; the network by Monte Carlo with exact layer means and control variates
(`two_token_relu`), standard errors a few 1e-4.  Seeds are fixed, so nothing fails by chance;
for another seed the stated bounds leave four standard errors: false alarms below 1e-4 a test.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import two_token_relu as relu
from derivations import derivation
from two_token_relu import Case

from derive.calculus.index.evaluate import evaluate
from derive.generated import shaped_relu_mlp as module
from derive.methods.covariance_sde.corrected import corrected
from derive.registry import find, load
from derive.verify.covariance_sde.layer_mean import layer_mean

CASE = Case(0.8, 0.0, -2.0, 0.2)
T = 0.5


def params(case: Case) -> module.Params:
    return module.Params(case.gamma, case.c_plus, case.c_minus)


@cache
def found():  # type: ignore[no-untyped-def]
    return corrected(derivation("shaped_relu_mlp"))


def derived_size(case: Case, n: float | None) -> float:
    """Size of the derived drift: at every correlation the same multiple of q(rho) - rho."""
    sde = found()
    rho = np.array([-0.7, 0.1, 0.6])
    numbers = {p: getattr(case, p.name) for p in sde.sde.model.params}
    numbers |= {sde.sde.law.gram.dims[0]: 2.0, sde.width: n}
    drift = sde.drift if n is not None else derivation("shaped_relu_mlp").drift
    V = np.array([[[1, r], [r, 1]] for r in rho])
    sizes = evaluate(drift, {"V": V}, numbers)[:, 0, 1] / (relu.q(rho) - rho)
    assert np.ptp(sizes) < 1e-12 * np.max(sizes)
    return float(sizes[0])


@cache
def network(n: int) -> relu.Estimate:
    return relu.network_mean(CASE, n, round(T * n), 2**15, seed=3)


def test_collocation_keeps_the_martingale_and_has_converged() -> None:
    assert relu.sde_mean(CASE, T, 0.0) == pytest.approx(CASE.V_12, abs=1e-9)
    fine, coarse = (relu.sde_mean(CASE, T, relu.kappa(CASE), k) for k in (96, 64))
    assert fine == pytest.approx(coarse, abs=1e-7)


def test_derived_drifts_have_the_published_sizes() -> None:
    assert derived_size(CASE, None) == pytest.approx(relu.kappa(CASE), rel=1e-12)
    for n in (16, 64):
        assert derived_size(CASE, n) == pytest.approx(relu.kappa(CASE, n, True), rel=1e-12)


def test_the_chain_of_the_reference_has_the_law_of_the_dense_network() -> None:
    """Second moments at the end, 2^14 dense paths; 4.5 standard errors of either side."""
    n, depth = 16, 8
    run = module.network(
        [[1, 0.2], [0.2, 1]], params(CASE), width=n, depth=depth, paths=2**14, seed=2
    )
    V = run.V[:, -1]
    value = network(n)
    gap = V[:, 0, 1].mean() - value.mean
    assert abs(gap) < 4.5 * np.hypot(V[:, 0, 1].std() / 2**7, value.error)


@pytest.mark.slow  # quick: the derived sizes, and the mean at one width below
def test_weak_error_falls_like_the_root_of_n_and_with_the_correction_like_n() -> None:
    widths = (16, 32, 64)
    plain, better = [], []
    limit = relu.sde_mean(CASE, T, derived_size(CASE, None))
    for n in widths:
        value = network(n)
        plain.append(value.mean - limit)
        better.append(value.mean - relu.sde_mean(CASE, T, derived_size(CASE, n)))
    slopes = [np.polyfit(np.log(widths), np.log(np.abs(e)), 1)[0] for e in (plain, better)]
    print("plain:", plain, "corrected:", better, "slopes:", slopes)
    assert -0.62 < slopes[0] < -0.45
    assert -1.2 < slopes[1] < -0.65
    assert plain[0] > 5 * better[0] and plain[2] > 7 * better[2]


def test_the_mean_of_a_layer_is_the_published_one_at_every_width() -> None:
    V = np.array([[[1.0, 0.3], [0.3, 1.0]], [[1.0, -0.6], [-0.6, 1.0]]])
    rho = V[:, 0, 1]
    rate = layer_mean(load(find("shaped_relu_mlp")))
    for n in (4, 16, 400):
        found = rate(V, params(CASE)._asdict(), n)[:, 0, 1]
        assert np.allclose(found, relu.kappa(CASE, n) * (relu.q(rho) - rho), rtol=1e-12, atol=0)


def test_no_correction_is_needed_where_the_slopes_are_opposite() -> None:
    case = Case(0.8, 1.0, -1.0, 0.2)
    assert derived_size(case, 16) == pytest.approx(derived_size(case, None), rel=1e-12)


@pytest.mark.parametrize("n", [pytest.param(None, marks=pytest.mark.slow), 16])
def test_simulate_at_a_width_has_the_mean_of_the_corrected_sde(n: int | None) -> None:
    """2^15 paths; V_11 and V_22 are martingales: controls.  The two means are .05 apart."""
    V0 = np.array([[1, CASE.V_12], [CASE.V_12, 1]])
    options = {} if n is None else {"width": n}
    run = module.simulate(V0, params(CASE), t1=T, paths=2**15, seed=5, dt=1 / 128, **options)
    V = run.V[:, -1]
    controls = np.stack([V[:, 0, 0] - 1, V[:, 1, 1] - 1], -1)
    value = V[:, 0, 1]
    value = value - controls @ np.linalg.lstsq(controls, value - value.mean(), rcond=None)[0]
    error = value.std() / np.sqrt(len(value))
    exact = relu.sde_mean(CASE, T, derived_size(CASE, n))
    assert abs(value.mean() - exact) < 4 * error + 1e-3  # the step's own bias
    assert 4 * error + 1e-3 < 0.02


def test_a_width_at_which_the_step_leaves_the_cone_is_refused_with_the_one_that_does() -> None:
    # the drift's kernel has the size 1 - (c_+ + c_-) / sqrt(n): negative below n = 16
    given = module.Params(0.8, 3.0, 1.0)
    V0 = [[1, 0.2], [0.2, 1]]
    with pytest.raises(ValueError, match="from width = 16 on"):
        module.simulate(V0, given, t1=T, paths=64, seed=1, width=7)
    module.simulate(V0, given, t1=T, paths=64, seed=1, width=16)
    with pytest.raises(ValueError, match="width must be a positive integer"):
        module.simulate(V0, given, t1=T, paths=64, seed=1, width=0)

"""Definitions that are in no paper go through, with the right verdict and the right rates.

The reference is Gauss-Hermite quadrature of the definition's text.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import odd_closures as odd
import pytest
from built_closures import built

from derive.errors import DefinitionError, Refusal
from derive.generated import sigmoid_closure
from derive.methods.gaussian_closure import checks, clouds, instances
from derive.methods.gaussian_closure.derivation import derive
from derive.methods.gaussian_closure.result import CLOSED, CUBATURE, FOURIER
from derive.notation.closures.numeric import Cloud
from derive.theory.sigmoid_closure import sigmoid_closure as shipped

EXACT = [
    "key_penalised",
    "differential",
    "cross",
    "noisy",
    "l2_heads",
    "cross_sinkhorn",
    "differential_l2",
    "key_repelled",
    "quotient",
    "powers_of_exponentials",
    "mixed_linear",
    "centred_relu",
    "decoder",
    "windowed",
]
CLOSED_FORM = [
    "unnormalised",
    "polynomial",
    "polynomial_times_softmax",
    "cosine",
    "sine",
    "gauss_times_cosine",
    "two_kinds_a_head",
    "tanh_network",
    "features",
    "phases",
    "pairs",
]
INTEGRAL = [
    "probit",
    "gelu_weight",
    "sigmoid_heads",
    "tanh_weight",
    "softplus_weight",
    "gaussian_of_product",
    "quartic_of_product",
    "cross_sigmoid",
    "mixed_heads",
    "causal_sigmoid",
    "sigmoid_and_gauss",
    "squared_tanh",
    "logistic_slope",
]
QUADRATURE = [
    "normalised_sigmoid",
    "two_exponentials",
    "after_softmax",
    "quadratic_in_both",
    "normalised_wave",
    "polynomial_normaliser",
    "capped",
    "neural_value",
    "slow_tails",
    "sink",
    "capped_at",
    "positive_features",
    "mixed",
    "sloped",
]


#: the dearest
DEAR = (
    "gelu_weight",
    "gaussian_of_product",
    "softplus_weight",
    "cross_sigmoid",
    "mixed_heads",
    "causal_sigmoid",
    "sigmoid_and_gauss",
)
#: whose rates have those of others as their parts; that their steps pass is tried in any run
LIKE_OTHERS = ("gauss_times_cosine", "cosine", "tanh_weight", "sigmoid_heads", "two_exponentials")
LIKE_OTHERS += ("normalised_sigmoid", "quadratic_in_both", "differential_l2", "l2_heads")


def _timed(name: str) -> Any:
    late = name in DEAR or name in LIKE_OTHERS
    return pytest.param(name, marks=pytest.mark.slow) if late else name


def rates(name: str, scale: float = 0.2) -> tuple[float, float]:
    result, module = built(name)
    one = instances.instance(result.model, 91, scale=scale)
    with (
        jax.enable_x64(True),
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
    ):
        p = module.Params(
            *(np.asarray({**one.params, **one.arrays}[n]) for n in module.Params._fields)
        )
        law = (one.arrays["m"], one.arrays["S"])
        both = jax.jit(lambda m, S: (module.mean_rate(m, S, p), module.cov_rate(m, S, p)))
        mean, cov = (np.asarray(a) for a in both(*law))
        if result.noise is not None:
            G = one.arrays["G"]
            cov = cov - G @ G.T
    wanted = clouds.text_rates(result.model, one, 20 if result.model.positional else 32)
    return checks.residual(mean, wanted[0]), checks.residual(cov, wanted[1])


@pytest.mark.parametrize("name", [_timed(n) for n in EXACT])
def test_affine_velocities_are_exact(name: str) -> None:
    assert built(name)[0].exact
    assert max(rates(name)) < 1e-10


@pytest.mark.parametrize("name", [_timed(n) for n in CLOSED_FORM])
def test_other_tilts_are_projected_in_closed_form(name: str) -> None:
    result, _ = built(name)
    assert not result.exact and result.route == CLOSED
    assert max(rates(name)) < 1e-10


@pytest.mark.parametrize("name", [_timed(n) for n in INTEGRAL])
def test_scalar_functions_by_a_fourier_integral(name: str) -> None:
    result, _ = built(name)
    assert not result.exact and result.route == FOURIER
    assert max(rates(name, 0.12)) < 1e-10


@pytest.mark.parametrize("name", [_timed(n) for n in QUADRATURE])
def test_quotients_by_cubature(name: str) -> None:
    result, _ = built(name)
    assert not result.exact and result.route == CUBATURE
    assert max(rates(name)) < 1e-10


#: whose derivations alone take seconds; other weights of either kind stand in the list
LATE = DEAR[:5]
ALL = [*EXACT, *CLOSED_FORM, *INTEGRAL, *QUADRATURE]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in LATE else n for n in ALL]
)
def test_every_step_passes_its_check(name: str) -> None:
    result, _ = built(name)
    assert all(s.check.passed for s in result.steps if s.check is not None)


@pytest.mark.parametrize("name", ["two_sigmoids", "sigmoid_of_distance"])
def test_averages_over_keys_without_closed_form_are_sums_over_nodes(name: str) -> None:
    result = derive(getattr(odd, name))
    assert not result.exact and result.route == CUBATURE
    assert any("over their law too" in f for f in result.facts)
    assert all(s.check.passed for s in result.steps if s.check is not None)


@pytest.mark.slow
def test_keys_of_root_mean_square_one_are_averaged_by_nodes() -> None:
    """Against a rule of 70 Gauss-Hermite nodes a direction, and the estimate holds the error."""
    result, module = built("rms")
    assert not result.exact and any("over their law too" in f for f in result.facts)
    one = instances.instance(result.model, 96)
    with jax.enable_x64(True):
        p = module.Params(
            *(np.asarray({**one.params, **one.arrays}[n]) for n in module.Params._fields)
        )
        law = (one.arrays["m"], one.arrays["S"], p)
        mean, cov = (np.asarray(getattr(module, n)(*law)) for n in ("mean_rate", "cov_rate"))
        said = float(module.rate_error(*law))
    wanted = clouds.text_rates(result.model, one, 70, 40)
    error = max(checks.residual(mean, wanted[0]), checks.residual(cov, wanted[1]))
    assert error < 1e-6 and said < 1e-5


def test_a_relu_network_has_its_exact_projected_rates() -> None:
    """E W relu(Ux + b) = W (mu Phi + sigma phi), gradient W diag(Phi) U."""
    from scipy.stats import norm

    result, module = built("feed_forward")
    one = instances.instance(result.model, 92, size=3)
    a = one.arrays
    with jax.enable_x64(True):
        p = module.Params(*(a[n] for n in module.Params._fields))
        mean = np.asarray(module.mean_rate(a["m"], a["S"], p))
        gradient = np.asarray(module.jacobian(a["m"], a["S"], p))
    mu = a["U"] @ a["m"] + a["b"]
    sigma = np.sqrt(np.diag(a["U"] @ a["S"] @ a["U"].T))
    A = a["K"].T @ a["Q"]
    plain = a["V"] @ (a["m"] + a["S"] @ A @ a["m"]) + a["F"] @ a["m"] + a["c"]
    relu = mu * norm.cdf(mu / sigma) + sigma * norm.pdf(mu / sigma)
    assert checks.residual(mean, plain + a["W"] @ relu) < 1e-12
    slope = a["V"] @ a["S"] @ A + a["F"] + a["W"] @ np.diag(norm.cdf(mu / sigma)) @ a["U"]
    assert checks.residual(gradient, slope) < 1e-12
    assert not result.exact


def test_a_diverging_weight_has_a_negative_margin() -> None:
    """Unnormalised softmax: S (A^T S A) must stay below one; solve refuses and names the margin."""
    result, module = built("unnormalised")
    assert any("integrable while I + L^T M L > 0" in f for f in result.facts)
    one = instances.instance(result.model, 93)
    with jax.enable_x64(True):
        p = module.Params(*(one.arrays[n] for n in module.Params._fields))
        small = module.margin(one.arrays["m"], one.arrays["S"], p)
        large = module.margin(one.arrays["m"], 400 * one.arrays["S"], p)
    A = one.arrays["K"].T @ one.arrays["Q"]
    L = np.linalg.cholesky(one.arrays["S"])
    exact = np.linalg.eigvalsh(np.eye(2) - L.T @ A.T @ one.arrays["S"] @ A @ L)[0]
    assert abs(float(small) - exact) < 1e-12
    assert float(large) < 0
    with pytest.raises(
        ValueError, match=r"I \+ F\^T M F, F F\^T = cov, M = .* must be positive definite"
    ):
        module.solve(one.arrays["m"], 400 * one.arrays["S"], p, t1=1.0)


@pytest.mark.parametrize(
    "name, words",
    [
        ("quartic", "undecided: the exponent has degree 4 in y"),
        ("bare_norm", "kink or a pole, and a cubature over the keys would be coarse"),
        ("grows", "may grow faster than it: the average over the keys need not exist"),
        ("blind", "zero at some position: every key is masked there"),
        ("cubic", r"integral of the weight diverges.*s\*\*3.*must be even"),
        ("growing_square", r"integral of the weight diverges.*s\*\*2/4.*coefficient negative"),
    ],
)
def test_what_is_out_of_reach_is_refused_with_reason_and_place(name: str, words: str) -> None:
    with pytest.raises(Refusal, match=words) as caught:
        derive(getattr(odd, name))
    assert caught.value.place is not None and caught.value.place.file.endswith("odd_closures.py")


def test_a_changed_definition_changes_the_equations() -> None:
    from derive.emit.gaussian_closure.module import model_signature

    names = [n for n in ALL if n not in LATE]
    assert len({model_signature(built(n)[0]) for n in names}) == len(names)


def test_mistakes_in_a_definition_are_named() -> None:
    with pytest.raises(DefinitionError, match="must be the same.*transpose") as caught:
        derive(odd.transposed)
    assert caught.value.place is not None and caught.value.place.file.endswith("odd_closures.py")
    with pytest.raises(DefinitionError, match="a number for each pair"):
        derive(odd.vector_weight)


@pytest.mark.parametrize("name", ["key_penalised", "tanh_weight", "l2_heads", "after_softmax"])
def test_latex_has_no_double_scripts_and_balanced_braces(name: str) -> None:
    import re

    _, module = built(name)
    for equation in module.EQUATIONS.values():
        assert not re.search(r"\^\{[^{}]*\}\s*\^|_\{[^{}]*\}\s*_", equation), equation
        assert equation.count("{") == equation.count("}")
        assert equation.count(r"\left") == equation.count(r"\right")


GELU = pytest.param("gelu_weight", marks=pytest.mark.slow)


def trapezoid(mean: np.ndarray, cov: np.ndarray, nodes: int) -> Cloud:
    """N(mean, cov) on the line: exponentially convergent where Gauss-Hermite points are too few."""
    z = np.linspace(-9.5, 9.5, nodes)
    weight = np.exp(-(z**2) / 2)
    return Cloud(mean + z[:, None] * np.sqrt(cov[0, 0]), weight / weight.sum())


@pytest.mark.parametrize(
    "name",
    ["sigmoid_closure", "tanh_weight", "probit", GELU, "cosine", "normalised_sigmoid"],
)
def test_large_arguments_too(name: str) -> None:
    """Scores with a standard deviation of several units, against a double trapezoidal sum."""
    result, module = built(name) if hasattr(odd, name) else (derive(shipped), sigmoid_closure)
    one = instances.instance(result.model, 95, size=1, scale=1.3)
    one.arrays["S"], one.arrays["m"] = np.array([[1.5]]), np.array([0.8])
    queries = trapezoid(one.arrays["m"], one.arrays["S"], 801)
    gamma = clouds.text_velocity(
        result.model, one, queries, trapezoid(one.arrays["m"], one.arrays["S"], 1601)
    )
    mean = queries.weight @ gamma
    across = (queries.weight[:, None] * gamma).T @ (queries.at - one.arrays["m"])
    p = module.Params(*(np.asarray({**one.params, **one.arrays}[n]) for n in module.Params._fields))
    with jax.enable_x64(True):
        both = jax.jit(lambda m, S: (module.mean_rate(m, S, p), module.cov_rate(m, S, p)))
        found = both(one.arrays["m"], one.arrays["S"])
    score = (one.arrays["K"].T @ one.arrays["Q"])[0, 0] * 1.5
    assert abs(score) > 1
    assert checks.residual(np.asarray(found[0]), mean) < 1e-10
    assert checks.residual(np.asarray(found[1]), across + across.T) < 1e-10

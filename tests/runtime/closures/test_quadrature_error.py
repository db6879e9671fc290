"""Quadratures in a closure report their error, and the report is right.

The references are finer rules of another kind, or quadrature of the definition's text.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import odd_closures as odd
import pytest
from built_closures import built

from derive.methods.gaussian_closure import checks, instances
from derive.methods.gaussian_closure.derivation import derive
from derive.methods.gaussian_closure.result import CUBATURE
from derive.runtime.closures.results import Moments


def case(name: str, seed: int = 91, **options: Any) -> tuple[Any, Any, Any, tuple]:
    result, module = built(name)
    one = instances.instance(result.model, seed, **options)
    params = module.Params(
        *(np.asarray({**one.params, **one.arrays}[n]) for n in module.Params._fields)
    )
    return module, one, params, (one.arrays["m"], one.arrays["S"])


def value(function: Any, *arguments: Any) -> np.ndarray:
    """function(*arguments), compiled anew: what the nodes are is decided while tracing."""
    return np.asarray(jax.jit(lambda *a: function(*a))(*arguments))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sigmoid_heads", "gelu_weight", "normalised_sigmoid"])
def test_solve_says_how_far_its_rates_can_be_trusted(name: str) -> None:
    module, _, p, (m, S) = case(name, scale=0.3)
    out = module.solve(np.stack([m, m]), np.stack([S, 2 * S]), p, t1=0.2, rtol=1e-6)
    assert out.quadrature_error.shape == (2,)
    assert np.all(out.quadrature_error < 1e-10)


def test_closed_forms_have_no_quadrature_error() -> None:
    module, _, p, (m, S) = case("differential")
    out = module.solve(m, S, p, t1=0.1)
    assert out.quadrature_error == 0
    assert not hasattr(module, "rate_error")


def test_moments_have_five_fields_and_keep_the_estimate() -> None:
    out = Moments(*(np.zeros(2) for _ in range(5)), quadrature_error=np.ones(2))
    times, _, _, _, _ = out
    assert times.shape == (2,) and len(out) == 5
    assert np.all(out._replace(times=np.ones(3)).quadrature_error == 1)
    assert np.all(Moments(*out).quadrature_error == 0)


@pytest.mark.parametrize("size", [pytest.param(4.0, marks=pytest.mark.slow), 1e6])
def test_the_estimate_of_a_fourier_integral_is_its_error(size: float) -> None:
    """Arguments of standard deviation up to a million: rule and estimate against ten times as many
    frequencies."""
    from derive.runtime.common.fineness import finer

    module, _, p, (m, S) = case("tanh_weight")
    with jax.enable_x64(True):
        law = (3 * m, size * S)
        p = p._replace(Q=4 * p.Q, K=4 * p.K)
        estimate = float(value(module.rate_error, *law, p))
        found = value(module.jacobian, *law, p)
        with finer(10):
            wanted = value(module.jacobian, *law, p)
    error = checks.residual(found, wanted)
    assert error < 2 * estimate + 1e-12
    assert estimate < 1e-7 if size < 10 else estimate < 1e-2


def test_a_kink_is_named() -> None:
    result, _ = built("kinked")
    assert result.route == CUBATURE
    assert any("relu has a kink: its transform decays slowly" in f for f in result.facts)


@pytest.mark.slow
def test_the_cubature_of_a_kink_is_estimated() -> None:
    """On the line every run has it: tests/methods/gaussian_closure/test_kinks_and_poles.py."""
    from derive.runtime.common.fineness import finer

    module, one, p, law = case("kinked", scale=0.5)
    with jax.enable_x64(True):
        estimate = float(value(module.rate_error, *law, p))
        found = value(module.jacobian, *law, p)
        with finer(4):
            wanted = value(module.jacobian, *law, p)
    assert estimate < 1e-6
    assert checks.residual(found, wanted) < estimate


@pytest.mark.slow
def test_a_coarse_cubature_is_warned_of() -> None:
    module, _, p, law = case("kinked", scale=0.5)
    with pytest.warns(RuntimeWarning, match="quadrature of the rates has relative errors up to"):
        out = module.solve(*law, p, t1=0.01, rtol=1e-4)
    assert 1e-6 < out.quadrature_error < 1


def test_slow_tails_are_named() -> None:
    facts = derive(odd.slow_tails).facts
    assert any(
        "no derivative of reciprocal_power up to order 6 has light tails" in f for f in facts
    )


def test_cubature_is_over_what_the_velocity_sees() -> None:
    """Five dimensions, keys of three: the law of Qx has dimension 3, where tensor rules serve."""
    result, _ = built("normalised_sigmoid")
    assert result.through == (("Q", 2, 1),)
    module, one, p, law = case("normalised_sigmoid", size=5, scale=0.2)
    assert p.Q.shape[0] < 4
    with jax.enable_x64(True):
        assert float(value(module.rate_error, *law, p)) < 1e-10
        wide = float(value(module.rate_error, *law, wider(p)))
        seen = value(module.jacobian, *law, p)
        whole = value(module.jacobian, *law, wider(p))
    # rows of zeros change nothing but the number of forms: the lattice, with its error
    assert 1e-12 < wide < 1e-2
    assert checks.residual(whole, seen) < 2 * wide


def wider(p: Any) -> Any:
    rows = np.zeros((5, 5))
    rows_k = rows.copy()
    rows[: len(p.Q)], rows_k[: len(p.K)] = p.Q, p.K
    return p._replace(Q=rows, K=rows_k)


def test_the_velocity_reports_its_error_too() -> None:
    module, one, p, law = case("tanh_weight")
    with jax.enable_x64(True):
        mild = float(module.velocity_error(one.arrays["x"], *law, p))
        far = float(module.velocity_error(300 * one.arrays["x"], law[0], 50 * law[1], p))
    assert mild < 1e-14 and far > 1e-8


@pytest.mark.parametrize("name", ["cosine", "gauss_times_cosine"])
def test_complex_exponentials_leave_nothing_imaginary(name: str) -> None:
    module, one, p, law = case(name)
    x = one.arrays["x"]
    with jax.enable_x64(True):
        kinds = [
            jax.eval_shape(module.velocity, x, *law, p),
            jax.eval_shape(module.mean_rate, *law, p),
            jax.eval_shape(module.cov_rate, *law, p),
        ]
    assert all(kind.dtype == np.float64 for kind in kinds)

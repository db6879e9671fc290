"""Growth of harmonics at weights that overflow, and the noise that stops it."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy.special import ive

import derive


@pytest.fixture(scope="module", autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("beta", [1.0, 800.0, 1e5])
def test_growth_on_the_circle_is_that_of_bessel_functions_at_any_beta(beta):
    kernel = derive.load("sphere_attention")
    for degree in (1, 3):
        wanted = degree**2 * ive(degree, beta) / (beta * ive(0, beta))
        got = float(kernel.growth(degree, kernel.Params(beta=beta), 2))
        assert got == pytest.approx(wanted, rel=1e-10)


def test_growth_beyond_floating_point_is_infinite():
    kernel = derive.load("sphere_attention_unnormalised")
    assert float(kernel.growth(1, kernel.Params(beta=700.0), 3)) == pytest.approx(
        2 * _first_mean(700.0), rel=1e-9
    )
    assert float(kernel.growth(1, kernel.Params(beta=800.0), 3)) == np.inf


def _first_mean(beta):
    """Mean of exp(beta t) (1 - t^2)/2 over t uniform in (-1, 1), by hand, for large beta."""
    # int (1 - t^2) e^{b t} dt = 2 (b - 1) e^b / b^3 + ...
    return np.exp(beta + np.log(2 * (beta - 1) / beta**3) - np.log(4.0))


def test_the_first_harmonic_of_weak_attention_is_neutral_at_noise_one_half():
    # on the circle the phases are coupled by sines: degree 1 grows at 1/2, noise takes kappa
    kernel = derive.load("sphere_attention")
    got = float(kernel.noise_threshold(kernel.Params(beta=1e-8), 2))
    assert got == pytest.approx(0.5, rel=1e-7)


def test_the_threshold_is_where_the_largest_growth_vanishes():
    kernel = derive.load("noisy_sphere_attention")
    at = float(kernel.noise_threshold(kernel.Params(beta=9.0, kappa=0.3), 3))
    rates = [float(kernel.growth(k, kernel.Params(beta=9.0, kappa=at), 3)) for k in range(1, 33)]
    assert max(rates) == pytest.approx(0.0, abs=1e-12)


def test_degrees_are_a_positive_number():
    kernel = derive.load("sphere_attention")
    with pytest.raises(ValueError, match="degrees = 0"):
        kernel.noise_threshold(kernel.Params(beta=1.0), 3, degrees=0)


def test_stability_at_exponents_that_overflow_is_no_number():
    # a square of the denominator would overflow, and the rate vanish without a word
    kernel = derive.load("sphere_attention")
    assert all(np.isfinite(kernel.equal_angle_stability(0.3, 5, kernel.Params(beta=300.0))))
    extreme = kernel.equal_angle_stability(0.3, 5, kernel.Params(beta=np.float64(-1e3)))
    assert all(np.isnan(extreme))

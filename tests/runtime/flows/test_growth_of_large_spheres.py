"""Means over the uniform law of large spheres and growth of high harmonics keep their digits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from derive.runtime.flows.words import growth_rate, uniform_mean


@pytest.mark.parametrize("d", [3, 512, 10_000])
def test_powers_have_the_means_of_the_uniform_law(d: int) -> None:
    with jax.enable_x64(True):
        assert float(uniform_mean(lambda t: t**2, d)) == pytest.approx(1 / d, rel=1e-9)
        # P_2' = 2 d t / (d - 1), and t^2 (1 - t^2) has the mean (d - 1) / (d (d + 2))
        assert float(growth_rate(lambda t: t, 2, d)) == pytest.approx(2 / (d + 2), rel=1e-9)


def test_a_high_harmonic_is_no_part_of_a_low_push() -> None:
    with jax.enable_x64(True):
        assert abs(float(growth_rate(lambda t: jnp.exp(t), 600, 3))) < 1e-9


def test_a_sphere_that_the_points_do_not_resolve_is_refused() -> None:
    with pytest.raises(ValueError, match="40000"):
        growth_rate(lambda t: t, 1, 100_000)

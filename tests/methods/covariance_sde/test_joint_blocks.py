"""Blocks that cannot be cut apart have the limit that they have apart, or one by hand."""

from __future__ import annotations

from functools import cache

import joint_layers
import numpy as np
import pytest
import sympy as sp

from derive.calculus.index.evaluate import evaluate
from derive.methods.common.record import require_sound
from derive.methods.covariance_sde.derivation import derive
from derive.methods.covariance_sde.result import CovarianceSDE


@cache
def derived(name: str) -> CovarianceSDE:
    return derive(getattr(joint_layers, name))


@pytest.mark.parametrize("name", ["linear_linear_joint", "linear_bent_joint"])
def test_blocks_held_together_pass_their_own_checks(name: str) -> None:
    """An odd function skips an order: a degree that misses its next term once counted as whole."""
    result = derived(name)
    require_sound(result.steps, name, result.facts)
    (expand,) = [s for s in result.steps if s.name == "expand"]
    assert expand.check is not None and expand.check.residual < 1e-14


@pytest.mark.parametrize(
    "name", ["linear_linear", pytest.param("bent_linear", marks=pytest.mark.slow), "linear_bent"]
)
def test_a_small_multiple_of_the_input_changes_the_drift_alone(name: str) -> None:
    """X / n added at the end: 2 (1 - gamma^2) V more drift, whatever the blocks fluctuate by."""
    apart, joint = derived(name), derived(f"{name}_joint")
    assert len(apart.blocks) == 2 and len(joint.blocks) == 1
    assert (apart.diffusion - joint.diffusion).is_zero
    V = np.array([[1.3, 0.4], [0.4, 0.7]])
    numbers = {joint_layers.gamma: 0.6, apart.law.gram.dims[0]: 2}
    change = evaluate(joint.drift - apart.drift, {"V": V}, numbers)
    np.testing.assert_allclose(change, 2 * 0.64 * V, rtol=1e-12)


def variance(result: CovarianceSDE, gamma: float) -> float:
    """d<V, V>/dt of one token at V = 1."""
    numbers: dict[sp.Symbol, float] = {
        joint_layers.gamma: gamma,
        result.law.gram.dims[0]: 1,
    }
    return float(evaluate(result.diffusion, {"V": np.ones((1, 1))}, numbers).item())


@pytest.mark.parametrize("gamma", [0.3, 0.6, 0.9])
def test_one_token_by_hand(gamma: float) -> None:
    """V' = |x'|^2 / n for x' a sum of independent Gaussian parts, conditioned on the state.

    Two branches of one input, x' = s^2 x + s g u + g v with u and v of law N(0, I) at V = 1 and
    s^2 + g^2 = 1: its variance per unit time is 2 / n times the sum over pairs of parts of the
    products of their mean squares, but the first with itself, which does not fluctuate:
    2 (1 - s^8) for s^4 + s^2 g^2 + g^2 = 1.
    """
    s = np.sqrt(1 - gamma**2)
    two = variance(derived("two_branches_of_one_input"), gamma)
    assert two == pytest.approx(2 * (1 - s**8), rel=1e-12)


@pytest.mark.parametrize("gamma", [0.3, 0.6, 0.9])
def test_one_weight_used_twice_by_hand(gamma: float) -> None:
    """x' = a x + b u + c w with u = W x, w = W u, all of size one.

    W acts anew on what of u is orthogonal to x, and W x = u on the rest, so u.w = x.u + a fresh
    part: |u|^2, |w|^2 / |u|^2, x.u, x.w and that part are independent, of variance 2 or 1.
    """
    s, g = np.sqrt(1 - gamma**2), gamma
    a, b, c = s**2, np.sqrt(2) * s * g, g**2
    expected = 2 * (b**2 + c**2) ** 2 + 2 * c**4
    expected += 4 * (a * b + b * c) ** 2 + 4 * a**2 * c**2 + 4 * b**2 * c**2
    found = variance(derived("one_weight_in_both"), gamma)
    assert found == pytest.approx(expected, rel=1e-12)

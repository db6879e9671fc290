"""Layers that are on no page derive, agree with a route of their own, or are refused truly."""

from __future__ import annotations

import numpy as np
import odd_layers
import pytest

from derive.calculus.index.evaluate import evaluate
from derive.errors import Refusal
from derive.methods.covariance_sde.derivation import derive
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.verify.covariance_sde.independent import independent
from derive.verify.covariance_sde.instance import instance
from derive.verify.covariance_sde.references import references

#: by the second route: the text on arrays, cubature, extrapolation
BY_CUBATURE = (
    "fixed_keys",
    "multi_query",
    "windowed",
    "mixed_tokens",
    "learned_keys",
    "scaled_skip",
    "with_bias",
    "gram_response",
    "plain_branch",
)


def derived(name: str) -> CovarianceSDE:
    result = derive(getattr(odd_layers, name))
    failed = [s.name for s in result.steps if s.check is not None and not s.check.passed]
    assert not failed, failed
    return result


def values(result: CovarianceSDE, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one = instance(result, len(V), 3)
    return tuple(evaluate(e, {"V": V}, one.numbers) for e in (result.drift, result.diffusion))  # type: ignore[return-value]


#: one with each rule that the others use again
QUICK = ("fixed_keys", "mixed_tokens", "gram_response")


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in BY_CUBATURE],
)
def test_the_second_route_agrees(name: str) -> None:
    result = derived(name)
    rung = independent(references(result))
    assert rung.passed and rung.figures, rung.figures
    assert (result.noise.covariance() - result.diffusion).is_zero


def test_correlated_parts_share_a_field() -> None:
    """W W^T / n - I, s = 2 gamma sqrt(1 - gamma^2): E V' by Isserlis, n Cov by hand.

    With Z = W W^T / n - I, of E Z^2 = (1 + 1/n) I: V' - V = X (s Z + gamma^2 (Z^2 - I)) X^T / n.
    """
    result = derived("gram_of_a_weight")
    one = instance(result, 2, 3)
    g = one.params["gamma"]
    V = one.V
    drift, diffusion = values(result, V)
    np.testing.assert_allclose(drift, g**2 * V, rtol=1e-12)
    linear = np.einsum("ac,bd->abcd", V, V) + np.einsum("ad,bc->abcd", V, V)
    s = 2 * g * np.sqrt(1 - g**2)
    # Cov of X Z X^T and X Z^2 X^T / n in units of `linear`: 1, 1 + 1, 1
    size = s**2 + 2 * s * g**2 + 2 * g**4
    np.testing.assert_allclose(diffusion, size * linear, rtol=1e-12)


@pytest.mark.slow
def test_normalised_keys_see_correlations_alone() -> None:
    """Logits rho / tau_0: scaling all tokens alike scales V, drift and noise as a linear law."""
    normal = derived("normalised_keys")
    V = np.array([[1.3, 0.3], [0.3, 0.8]])
    (drift, diffusion), (larger, wider) = values(normal, V), values(normal, 4 * V)
    assert np.abs(drift).max() > 1e-4
    np.testing.assert_allclose(larger, 4 * drift, rtol=1e-12)
    np.testing.assert_allclose(wider, 16 * diffusion, rtol=1e-12)


@pytest.mark.slow  # quick: the normalised branch below, and the published post-norm layer
def test_one_normalisation_at_the_end_is_as_good_as_one_after_each_block() -> None:
    each, once = derived("normalised_twice"), derived("normalised_once")
    assert (each.drift - once.drift).is_zero
    assert (each.diffusion - once.diffusion).is_zero


def test_a_normalised_branch_drifts_by_its_own_fluctuation() -> None:
    """Unit rows, u = x W / |x W|, by hand: E rho(u_a, u_b) = rho - rho (1 - rho^2) / (2 n).

    The size of the sum varies by the cross term t c_aa alone, t = 2 gamma sqrt(1 - gamma^2), with
    n Cov(c_aa, c_bb) = rho^2: rows of variance t^2 / n add -t^2 rho (1 - rho^2) / 4.
    """
    result = derived("normalised_branch")
    V = np.array([[1.0, 0.3], [0.3, 1.0]])
    g, rho = instance(result, 2, 3).params["gamma"], 0.3
    drift, _ = values(result, V)
    t = 2 * g * np.sqrt(1 - g**2)
    off = -rho * (1 - rho**2) * (g**2 / 2 + t**2 / 4)
    np.testing.assert_allclose(drift, [[0, off], [off, 0]], atol=1e-13)


@pytest.mark.parametrize(
    "name, words",
    [
        ("mean_over_units", "holds one part in n of V"),
        ("not_on_the_sphere", "the layer does not keep it there"),
        ("twice_too_long", "multiplies a row of unit size by 2"),
        ("undeclared_keys", "proportional to the width"),
        ("bias_of_order_one", "softmax\\(logits \\+ log\\(p\\)\\)"),
    ],
)
def test_refused_with_the_true_reason(name: str, words: str) -> None:
    with pytest.raises(Refusal, match=words) as caught:
        derive(getattr(odd_layers, name))
    assert caught.value.place is not None and caught.value.place.file == odd_layers.__file__


@pytest.mark.slow  # quick: the blocks of `test_joint_blocks` and the shipped transformer
def test_attention_beside_a_kinked_network_derives() -> None:
    result = derived("parallel")
    assert {t.kind for t in result.drift.tensors()} == {"covariance", "kernel"}

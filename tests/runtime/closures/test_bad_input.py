"""What a user may get wrong with a closure is named; what is legal, though odd, is solved."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import odd_closures as odd
import pytest
from built_closures import built

from derive.errors import Refusal
from derive.generated import sinkhorn_closure, softmax_closure
from derive.methods.gaussian_closure.derivation import derive

RNG = np.random.default_rng(3)
Q, K, V = RNG.normal(size=(2, 3)) / 2, RNG.normal(size=(2, 3)) / 2, np.eye(3)
MEAN, COV = np.zeros(3), np.eye(3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"K": np.ones((4, 3))}, r"K must have shape \(d_k, d\), got \(4, 3\): d_k is 4 .* 2 in Q"),
        ({"Q": np.ones((2, 5))}, r"Q must have shape \(d_k, d\), got \(2, 5\): d is 5 .* in mean0"),
        ({"V": np.ones((3, 2))}, r"V must have shape \(d, d\), got \(3, 2\): d is 2 .* in mean0"),
        ({"cov0": np.triu(np.ones((3, 3)))}, r"cov0 is not symmetric \(off by 1\)"),
        ({"cov0": np.diag([1.0, -0.5, 1])}, "not positive semi-definite: its smallest .* is -0.5"),
        ({"cov0": np.eye(4)}, r"cov0 has \(4, 4\): the last axes do not match"),
    ],
)
def test_shapes_and_covariances_that_do_not_fit_are_named(changed: dict, message: str) -> None:
    given = {"Q": Q, "K": K, "V": V, "cov0": COV, **changed}
    params = softmax_closure.Params(given["Q"], given["K"], given["V"])
    with pytest.raises(ValueError, match=message):
        softmax_closure.solve(MEAN, given["cov0"], params, t1=1.0)


def test_a_covariance_of_deficient_rank_is_legal() -> None:
    thin = np.diag([1.0, 1.0, 0.0])
    out = softmax_closure.solve(MEAN, thin, softmax_closure.Params(Q, -Q, V), t1=1.0)
    values = np.linalg.eigvalsh(out.cov[-1])
    assert abs(values[0]) < 1e-14 and values[1] > 1e-3


def test_a_blow_up_leaves_what_was_before_and_its_time() -> None:
    """S^-1 falls by 2 t: from the identity the solution ends at t = 1/2."""
    p = softmax_closure.Params(np.eye(2), np.eye(2), np.eye(2))
    out = softmax_closure.solve(np.zeros(2), np.eye(2), p, t1=1.0, saves=[0.25, 0.4, 0.75])
    assert abs(out.blow_up_time / 0.5 - 1) < 1e-6
    assert np.allclose(out.cov[0], 2 * np.eye(2), rtol=1e-6)
    assert np.allclose(out.cov[1], 5 * np.eye(2), rtol=1e-6)
    assert np.all(np.isnan(out.cov[2]))


def test_a_diverging_integral_says_which_matrix_must_be_positive_definite() -> None:
    _, module = built("key_repelled")
    p = module.Params(np.eye(2), np.eye(2), np.eye(2))
    with pytest.raises(ValueError) as caught:
        module.solve(np.zeros((2, 2)), np.stack([np.eye(2) / 2, 4 * np.eye(2)]), p, t1=1.0)
    words = str(caught.value)
    assert "diverges for cov0 of law [1]" in words
    assert "I + F^T M F, F F^T = cov, M = - K^T K must be positive definite" in words
    assert "smallest eigenvalue is -3" in words


def test_an_undecided_closure_is_refused_with_its_place() -> None:
    with pytest.raises(Refusal, match="undecided: .* has a kink or a pole") as caught:
        derive(odd.bare_norm)
    assert caught.value.place is not None and caught.value.place.line > 1


# quick: the slopes that the stiff method takes, in the next test
@pytest.mark.slow
@pytest.mark.parametrize("eigenvalues", [(1.0, 1.0, 1.0), (1.0, 1.0, 0.0)], ids=["equal", "zero"])
def test_sinkhorn_by_the_stiff_method_from_equal_or_zero_eigenvalues(eigenvalues: Any) -> None:
    p = sinkhorn_closure.Params(Q, K, RNG.normal(size=(3, 3)), np.array(1.0))
    law = (MEAN, np.diag(eigenvalues))
    explicit, stiff = (
        sinkhorn_closure.solve(*law, p, t1=0.3, method=m).cov[-1] for m in ("explicit", "stiff")
    )
    assert np.abs(explicit - stiff).max() < 1e-7


def test_derivatives_at_equal_eigenvalues_are_those_of_differences() -> None:
    p = sinkhorn_closure.Params(Q, K, V, np.array(1.0))
    change = RNG.normal(size=(3, 3))
    change = change + change.T
    with jax.enable_x64(True):

        @jax.jit
        def rate(step: Any) -> Any:
            return sinkhorn_closure.cov_rate(MEAN, np.eye(3) + step * change, p)

        _, slope = jax.jvp(rate, (np.array(0.0),), (np.array(1.0),))
        wanted = (rate(np.array(1e-5)) - rate(np.array(-1e-5))) / 2e-5
        back = jax.grad(lambda s: rate(s)[0, 1])(np.array(0.0))
    assert np.abs(np.asarray(slope - wanted)).max() < 1e-8
    assert abs(float(back) - float(slope[0, 1])) < 1e-12

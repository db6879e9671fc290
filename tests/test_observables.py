"""Observables beside formulas written apart: loops, singular values, a projection."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from derive import observables as o
from derive.runtime.common.precision import precision

X = np.random.default_rng(7).normal(size=(2, 3, 4, 6))
V = X @ np.swapaxes(X, -1, -2) / 6
PLACES = list(itertools.product(range(2), range(3)))


def _correlations(v):  # type: ignore[no-untyped-def]
    pairs = [(a, b) for a in range(len(v)) for b in range(a)]
    return [v[a, b] / (v[a, a] * v[b, b]) ** 0.5 for a, b in pairs]


def _entropy(v):  # type: ignore[no-untyped-def]
    shares = np.linalg.svd(v, compute_uv=False) / np.trace(v)
    return -sum(p * np.log(p) for p in shares)


DIRECT = {
    "correlations": _correlations,
    "entropy": _entropy,
    "effective_rank": lambda v: np.exp(_entropy(v)),
    "gap": lambda v: np.array([1, -1, 0, 0]) @ v @ np.array([1, -1, 0, 0]),
    "variances": lambda v: [v[i, i] for i in range(len(v))],
    "eigenvalues": lambda v: sorted(np.linalg.svd(v, compute_uv=False)),
}


@pytest.mark.parametrize("name", DIRECT)
def test_numpy_and_jax_agree_with_the_direct_formula(name: str) -> None:
    wanted = np.array([[DIRECT[name](V[i, j]) for j in range(3)] for i in range(2)])
    found = getattr(o, name)(V)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, wanted, rtol=1e-10)
    with precision("float64"):
        traced = jax.jit(jax.vmap(getattr(o, name)))(jnp.asarray(V))
        assert isinstance(traced, jax.Array)
        np.testing.assert_allclose(traced, wanted, rtol=1e-10)
    np.testing.assert_allclose(getattr(o, name)(V[0, 0].tolist()), wanted[0, 0], rtol=1e-10)


def test_the_gap_of_any_two_tokens() -> None:
    wanted = ((X[..., 3, :] - X[..., 1, :]) ** 2).sum(-1) / 6
    np.testing.assert_allclose(o.gap(V, 1, 3), wanted, rtol=1e-10)


def test_the_distance_from_the_cone_is_that_of_the_projection() -> None:
    """No positive semi-definite matrix is nearer than the projection, and that is as far."""
    A = np.random.default_rng(8).normal(size=(4, 4))
    A = (A + A.T) / 2
    values, vectors = np.linalg.eigh(A)
    nearest = (vectors * np.maximum(values, 0)) @ vectors.T
    found = o.cone_distance(A)
    assert found == pytest.approx(np.linalg.norm(A - nearest)) and found > 0.1
    assert np.all(o.cone_distance(V) < 1e-12)
    others = V.reshape(-1, 4, 4)
    assert min(np.linalg.norm(A - (nearest + e * v)) for v in others for e in (0.01, 1)) > found


def test_edges() -> None:
    eye = np.eye(3)
    assert o.effective_rank(eye) == pytest.approx(3) and o.effective_rank(1e300 * eye) > 2.999
    assert o.effective_rank(np.ones((3, 3))) == pytest.approx(1)
    assert o.effective_rank([[1, 0], [0, 0]]) == 1  # whole numbers; a zero eigenvalue
    still = np.diag([1.0, 0.0])
    assert o.correlations(still) == [0.0]
    assert o.correlations(1e200 * np.array([[1, 0.5], [0.5, 1]])) == pytest.approx([0.5])
    lost = np.stack([np.full((2, 2), np.nan), np.eye(2)])
    np.testing.assert_array_equal(np.isnan(o.entropy(lost)), [True, False])
    np.testing.assert_array_equal(np.isnan(o.correlations(lost)), [[True], [False]])
    with np.errstate(invalid="ignore"):
        assert np.isnan(o.effective_rank(np.zeros((2, 2))))

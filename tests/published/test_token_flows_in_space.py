"""What is told of attention in R^d equals what its paper proves, and late tokens are there.

Source: Geshkovski, Letrouit, Polyanskiy, Rigollet, The emergence of clusters in self-attention
dynamics (arXiv 2305.05465).  The blow-up of linear attention is the covariance's closed form.
"""

from __future__ import annotations

import warnings

import jax
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.special import softmax

from derive.generated import euclidean_attention as attention
from derive.generated import euclidean_linear_attention as linear
from derive.generated import isotropic_attention as isotropic


def params(V, A=None):
    """Q^T K = A."""
    A = np.eye(len(V)) if A is None else A
    return attention.Params(Q=np.eye(len(V)), K=A, V=np.asarray(V, float))


def late(module, x, given, times):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of rounding in what shrinks in z
        return module.solve(x, given, t1=times[-1], saves=times, rtol=1e-9).x


def drawn(n, d, seed=0):
    """The paper's tokens, U[-5, 5]^d."""
    return np.random.default_rng(seed).uniform(-5, 5, (n, d))


def test_the_rescaled_system():
    rng = np.random.default_rng(1)
    Q, K, V = rng.standard_normal((3, 3, 3))
    z, t = drawn(6, 3) / 5, 0.7
    x = z @ expm(t * V).T
    P = softmax((x @ Q.T) @ (x @ K.T).T, axis=1)
    stated = np.einsum("ij,ijk->ik", P, (z[None] - z[:, None]) @ V.T)
    with jax.enable_x64(True):
        found = attention.rescaled_velocity(z, t, attention.Params(Q, K, V))
    np.testing.assert_allclose(found, stated, rtol=1e-10)


def test_in_one_dimension_attention_becomes_boolean_of_rank_one_or_two():
    given = isotropic.Params(beta=np.float64(1.0), v=np.float64(1.0))
    ranks = set()
    for seed in range(4):
        x = drawn(20, 1, seed) + (7 if seed == 3 else 0)
        told = isotropic.limit_object(x, given)
        with jax.enable_x64(True):
            ends = late(isotropic, x, given, np.array([0.0, 8.0]))
            P = np.asarray(isotropic.attention_matrix(ends[-1], given))
        boolean = P > 0.5
        assert np.abs(P - boolean).max(axis=1)[told.leaders >= 0].max() < 1e-6
        assert len(set(np.argmax(P, axis=1))) <= 3  # leaders
        ranks.add(np.linalg.matrix_rank(boolean[told.leaders >= 0].astype(float)))
        assert told.most == (1 if seed == 3 else 3)
    assert ranks == {1, 2}


def test_attention_becomes_boolean_doubly_exponentially():
    """-log(1 - P) grows as exp(V t): its logarithm has slope V."""
    x = np.array([[3.0], [2.0], [1.0]])
    given = isotropic.Params(beta=np.float64(1.0), v=np.float64(1.0))
    times = np.array([0.0, 2.0, 2.5, 3.0])
    with jax.enable_x64(True):
        ends = late(isotropic, x, given, times)[1:]
        lacks = [float(np.asarray(isotropic.attention_matrix(e, given))[2, 1]) for e in ends]
    slopes = np.diff(np.log(-np.log(lacks))) / 0.5
    assert np.abs(slopes - 1).max() < 0.1


def test_values_of_the_identity_give_a_polytope_and_its_resting_points():
    """|B x|^2 = max over vertices of <B x, B v>, B the root of Q^T K; on the boundary or at 0."""
    G = np.array([[1.0, 0.4], [-0.2, 0.8]])
    A = G @ G.T
    x = drawn(20, 2)
    assert attention.limit_object(x, params(np.eye(2), A)).kind == "polytope"
    z = np.exp(-10.0) * late(attention, x, params(np.eye(2), A), np.array([0.0, 10.0]))[-1]
    scores = z @ A @ z.T
    lacks = (scores.max(axis=1) - np.diag(scores)) / np.abs(scores).max()
    assert lacks.max() < 1e-3
    # a supporting line through each but those at 0
    off = np.linalg.norm(z, axis=1) > 1e-2
    normals = z[off] @ A
    assert ((normals @ z.T).max(axis=1) - (normals * z[off]).sum(1)).max() < 1e-2


@pytest.mark.parametrize("seed", [0, 1])
def test_a_good_triple_gives_three_hyperplanes_at_most(seed):
    """The matrix of the paper's code; all of one sign: one."""
    V = np.array([[0.64709742, 0.81911926], [0.61210449, 0.63263484]])
    x = drawn(20, 2, seed)
    told = attention.limit_object(x, params(V))
    assert (told.kind, told.most) == ("hyperplanes", 3)
    time = 11 / told.eigenvalue
    c = np.exp(-11) * late(attention, x, params(V), np.array([0.0, time]))[-1] @ told.across[0]
    gaps = np.min(np.abs(c[:, None] - np.array([c.min(), 0, c.max()])), axis=1)
    assert gaps.max() < 1e-3 * np.abs(told.coordinates).max()
    one_side = x * np.sign(told.coordinates)
    assert attention.limit_object(one_side, params(V)).most == 1


def test_paranormal_values_give_a_polytope_times_a_space():
    V = np.diag([1.0, 1.0, -0.5])
    x = drawn(20, 3)
    told = attention.limit_object(x, params(V))
    assert told.kind == "polytope and plane" and told.across.shape == (2, 3)
    end = attention.limit_object(late(attention, x, params(V), np.array([0, 11.0]))[-1], params(V))
    assert end.unrest.max() < 1e-3


def test_minus_the_identity_takes_all_tokens_to_zero():
    x = drawn(8, 2) / 5
    assert attention.limit_object(x, params(-np.eye(2))).kind == "origin"
    sizes = np.abs(late(attention, x, params(-np.eye(2)), np.array([0, 20.0, 80.0, 320.0])))
    sizes = sizes.max(axis=(1, 2))
    assert np.all(sizes[1:] < sizes[:-1] / 1.5)


def test_linear_attention_blows_up_when_its_covariance_does():
    """S' = S (A + A^T) S: S = (S_0^-1 - t (A + A^T))^-1, second moments, V = 1."""
    rng = np.random.default_rng(3)
    x, A = rng.standard_normal((4, 8, 2)), rng.standard_normal((2, 2))
    given = linear.Params(Q=np.eye(2), K=A, V=np.eye(2))
    both = A + A.T
    S0 = np.swapaxes(x, -1, -2) @ x / 8
    stated = np.array([1 / np.linalg.eigvals(s @ both).real.max() for s in S0])
    assert np.all(stated > 0)
    with pytest.warns(RuntimeWarning, match="go to infinity"):
        found = linear.solve(x, given, t1=1.5 * stated.max(), saves=[0, 0.5 * stated.min()])
    np.testing.assert_allclose(found.blow_up_time, stated, rtol=1e-6)
    S = np.swapaxes(found.x[:, 1], -1, -2) @ found.x[:, 1] / 8
    wanted = np.linalg.inv(np.linalg.inv(S0) - found.times[1] * both)
    np.testing.assert_allclose(S, wanted, rtol=1e-5)

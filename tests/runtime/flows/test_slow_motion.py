"""Clusters in the limit of a large parameter beside clusters at large finite ones."""

from __future__ import annotations

import numpy as np
import pytest

import derive


@pytest.fixture(scope="module")
def kernel():
    return derive.load("sphere_attention")


def drawn(seed, count, d):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T, rng.dirichlet(5 * np.ones(count))


@pytest.mark.parametrize(("seed", "count", "d"), [(0, 3, 3), (1, 4, 2), (5, 5, 4)])
def test_merges_are_those_at_large_beta(kernel, seed, count, d):
    gram, masses = drawn(seed, count, d)
    limit = kernel.slow_motion(gram, masses, kernel.Params(beta=1.0))
    logs = []
    for beta in (60.0, 120.0):
        found = kernel.solve_clusters(gram, masses, kernel.Params(beta=beta))
        np.testing.assert_array_equal(np.sort(found.merged_pairs), np.sort(limit.merged_pairs))
        logs.append(np.log(found.merge_times))
    slopes = (logs[1] - logs[0]) / 60
    np.testing.assert_allclose(slopes, limit.exponents, atol=0.02)
    # places: of what is left after every merge but the last, where one cluster has no angles
    last = kernel.solve_clusters(
        gram, masses, kernel.Params(beta=120.0), saves=found.merge_times * (1 + 1e-9)
    )
    np.testing.assert_allclose(last.gram[:-1], limit.gram[1:-1], atol=0.03)
    np.testing.assert_allclose(last.masses, limit.masses[1:], rtol=1e-12)


def test_a_pair_that_passes_a_third_cluster_hands_on_to_it(kernel):
    # the closest pair's geodesic passes by a third cluster, which is met first
    def on_the_sphere(*angles):
        return [
            np.array([np.cos(a) * np.cos(b), np.sin(a) * np.cos(b), np.sin(b)]) for a, b in angles
        ]

    x = np.stack(on_the_sphere((0.0, 0.0), (1.0, 0.0), (0.25, 1.01)))
    gram = x @ x.T
    assert gram[0, 1] > max(gram[0, 2], gram[1, 2])
    light = np.array([0.1, 0.1, 0.8])
    limit = kernel.slow_motion(gram, light, kernel.Params(beta=1.0))
    found = kernel.solve_clusters(gram, light, kernel.Params(beta=200.0))
    np.testing.assert_array_equal(np.sort(found.merged_pairs), np.sort(limit.merged_pairs))


def test_the_last_cluster_holds_all_mass(kernel):
    gram, masses = drawn(2, 6, 6)
    found = kernel.slow_motion(gram, masses, kernel.Params(beta=1.0))
    assert found.exponents.shape == (5,)
    assert np.all(np.diff(found.exponents) >= 0)
    np.testing.assert_allclose(found.masses[-1], 1.0)
    assert "6 clusters" in repr(found)


def test_pairs_that_are_equally_close_are_refused(kernel):
    with pytest.raises(ValueError, match="equally close"):
        kernel.slow_motion(np.eye(3), np.full(3, 1 / 3), kernel.Params(beta=1.0))


def test_antipodal_clusters_are_refused(kernel):
    with pytest.raises(ValueError, match="antipodal"):
        kernel.slow_motion(np.array([[1.0, -1], [-1, 1]]), [0.5, 0.5], kernel.Params(beta=1.0))


def test_a_definition_without_a_large_parameter_has_no_slow_motion():
    assert not hasattr(derive.load("linear_sphere_attention"), "slow_motion")


def test_clusters_at_one_place_are_one_from_the_start(kernel):
    gram = np.array([[1.0, 1.0, 0.2], [1.0, 1.0, 0.2], [0.2, 0.2, 1.0]])
    found = kernel.slow_motion(gram, [0.3, 0.3, 0.4], kernel.Params(beta=1.0))
    assert found.exponents[0] == -np.inf
    np.testing.assert_allclose(found.exponents[1], 0.8, atol=1e-9)
    two = kernel.slow_motion(np.ones((2, 2)), [0.5, 0.5], kernel.Params(beta=1.0))
    np.testing.assert_array_equal(two.gram[-1], np.ones((2, 2)))


def test_masses_whose_squares_vanish_are_refused(kernel):
    gram = np.array([[1.0, 0.1, 0.2], [0.1, 1.0, 0.9], [0.2, 0.9, 1.0]])
    with pytest.raises(ValueError, match="too small"):
        kernel.slow_motion(gram, [1.0, 1e-200, 1e-200], kernel.Params(beta=1.0))


@pytest.mark.parametrize("d", [2, 3, 5])
def test_no_third_cluster_comes_between_a_pair_on_its_way(kernel, d):
    # cosines of c to either are below that of the pair all the way, whatever the shares
    rng = np.random.default_rng(d)
    for _ in range(40):
        x = rng.standard_normal((3, d))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        pairs = [(0, 1, 2), (0, 2, 1), (1, 2, 0)]
        a, b, c = (x[k] for k in max(pairs, key=lambda p: x[p[0]] @ x[p[1]]))
        angle, share = np.arccos(a @ b), rng.uniform()
        across = (b - (a @ b) * a) / np.sin(angle)
        for part in np.linspace(0, 1, 50)[:-1]:
            turns = (share * part * angle, angle - (1 - share) * part * angle)
            first, second = (np.cos(t) * a + np.sin(t) * across for t in turns)
            assert first @ second >= max(first @ c, second @ c) - 1e-12

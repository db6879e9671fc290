"""Where tokens of R^d go is told from M, S and the tokens, and late tokens are there."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import numpy as np
import pytest
from flow_models import Matrices, softmax

from derive.runtime.flows.entry import limit_object, solve
from derive.runtime.flows.words import in_frame, in_frame_of_average

ONE = np.eye(3)
TURN = np.array([[0.0, -1.0, 0], [1.0, 0, 0], [0, 0, 0]])
JORDAN = np.array([[1.0, 1.0, 0], [0, 1.0, 0], [0, 0, 0.1]])
MIXED = np.array([[0.9, 0.2, -0.4], [0.3, 1.1, 0.5], [-0.2, 0.6, 0.8]])


def tokens(n: int = 9, d: int = 3, seed: int = 0, size: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-size, size, (n, d))


def turned(*eigenvalues: float) -> np.ndarray:
    return np.asarray(MIXED @ np.diag(eigenvalues) @ np.linalg.inv(MIXED))


def told(x: Any, S: Any, M: Any) -> Any:
    return limit_object(softmax, x, Matrices(S, M))


def late(x: np.ndarray, S: np.ndarray, M: np.ndarray, time: float) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of rounding in what shrinks in z
        return np.asarray(solve(softmax, x, Matrices(S, M), t1=time, rtol=1e-9).x[..., -1, :, :])


def along(M: np.ndarray) -> np.ndarray:
    """Scores that see the leading eigenvector of a matrix with three, and little else."""
    values, right = np.linalg.eig(M)
    first = np.linalg.inv(right)[np.argmax(values.real)].real
    return np.outer(first, first) + 0.01 * MIXED


@pytest.mark.parametrize(
    ("M", "S", "kind", "most", "words"),
    [
        (turned(1, 0.3, -0.5), along(turned(1, 0.3, -0.5)), "hyperplanes", 3, "or at 0"),
        (turned(1, 0.3, -0.5), -along(turned(1, 0.3, -0.5)), "hyperplanes", 1, "one hyperplane"),
        (ONE, MIXED @ MIXED.T, "polytope", None, "at a vertex, at 0, or at the foot"),
        (ONE, -MIXED @ MIXED.T, "polytope", 1, "one point"),
        (ONE, MIXED @ MIXED.T + TURN, "polytope", None, "not symmetric"),
        (np.diag([1.0, 1, -0.5]), ONE, "polytope and plane", None, "its vertices"),
        (np.diag([1.0, 1, -0.5]), -ONE, "polytope and plane", 1, "times the other directions"),
        (-ONE, ONE, "origin", 1, "all tokens x go to 0"),
        (TURN - 0.1 * ONE, ONE, "origin", 1, "more slowly than any exponential"),
        (-ONE, -ONE, "none", None, "no eigenvalue of M has a positive real part"),
        (TURN + ONE, ONE, "none", None, "are not real"),
        (np.diag([1.0, 0.5, -1.2]), ONE, "none", None, "not above the modulus of all others"),
        (JORDAN, ONE, "none", None, "fewer eigenvectors than roots"),
        (np.diag([1.0, 0.5, 0.2]), np.diag([0.0, 1, 1]), "none", None, "vanishes"),
        (ONE, np.diag([1.0, 1, -1]), "none", None, "has no sign"),
        (0 * ONE, ONE, "none", None, "no eigenvalue of M has a positive real part"),
    ],
)
def test_every_spectrum_has_its_object_or_its_reason(M, S, kind, most, words) -> None:
    found = told(tokens(), S, M)
    assert (found.kind, found.most) == (kind, most)
    assert words in found.words
    assert (found.coordinates is None) == (found.across is None)


def test_a_three_fold_root_that_rounding_splits_is_no_leading_eigenvalue() -> None:
    block = np.array([[1.0, 1, 0], [0, 1, 1], [0, 0, 1]])
    for seed in range(20):
        turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
        assert told(tokens(), ONE, turn @ block @ turn.T).kind == "none"


def test_coordinates_are_those_that_grow_with_the_leading_eigenvalue() -> None:
    M = turned(1.2, 0.4, -0.3)
    found = told(tokens(), along(M), M)
    assert found.eigenvalue == pytest.approx(1.2)
    assert np.allclose(found.across @ M, 1.2 * found.across)
    assert np.allclose(found.coordinates, tokens() @ found.across.T)
    first = np.linalg.eig(M)[1][:, np.argmax(np.linalg.eigvals(M).real)].real
    first = first / (found.across[0] @ first)
    assert found.form[0, 0] == pytest.approx(first @ along(M) @ first)


def test_late_tokens_stand_in_the_hyperplanes_and_a_turned_sign_takes_them_elsewhere() -> None:
    M = turned(1, 0.3, -0.5)
    S = along(M)
    x = tokens(12)
    scale = np.max(np.abs(told(x, S, M).coordinates))
    ends = {}
    for sign in (1, -1):
        end = told(late(x, sign * S, M, 10.0), sign * S, M)
        ends[sign] = np.exp(-10) * end.coordinates[:, 0] / scale
        assert end.unrest.max() < 1e-3 or sign < 0
    c = ends[1]
    gaps = np.min(np.abs(c[:, None] - np.array([c.min(), 0.0, c.max()])), axis=1)
    assert gaps.max() < 1e-3
    assert np.ptp(c) > 1  # what one hyperplane would not have
    assert np.ptp(ends[-1]) < 0.02


def test_late_tokens_rest_in_a_polytope_at_vertices_feet_or_zero() -> None:
    S = np.array([[1.0, 0.3], [0.3, 0.6]])
    x = tokens(16, 2, seed=3)
    z = np.exp(-11.0) * late(x, S, np.eye(2), 11.0)
    scores = z @ S @ z.T
    assert (scores.max(1) - np.diag(scores)).max() < 1e-3 * np.abs(scores).max()
    before = told(x, S, np.eye(2))
    assert before.unrest.max() > 0.2
    assert told(late(x, S, np.eye(2), 11.0), S, np.eye(2)).unrest.max() < 1e-3


def test_a_polytope_times_a_plane() -> None:
    M = np.diag([1.0, 1.0, -0.5])
    end = told(late(tokens(12), ONE, M, 11.0), ONE, M)
    assert end.unrest.max() < 1e-3
    assert np.ptp(end.coordinates, axis=0).min() > 1
    one = told(late(tokens(12), -ONE, M, 11.0), -ONE, M)
    assert np.exp(-11.0) * np.ptp(one.coordinates, axis=0).max() < 1e-2


def test_tokens_told_to_go_to_zero_come_closer_all_the_time() -> None:
    x = 0.5 * tokens(6)
    M = TURN - 0.3 * ONE
    sizes = [np.abs(late(x, ONE, M, t)).max() for t in (10.0, 40.0, 160.0)]
    assert sizes[0] > 1.5 * sizes[1] > 1.5**2 * sizes[2]
    assert np.abs(late(x, -ONE, M, 40.0)).max() > 1


@pytest.mark.parametrize("scale", [0.3, 2.0, 30.0])
def test_leaders_in_one_dimension_are_never_told_wrongly(scale: float) -> None:
    """200 systems: told at the start from order and size; found in the attention late."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(200, 9, 1)) + rng.normal(size=(200, 1, 1))
    S = np.full((1, 1), scale)
    end = late(x, S, np.ones((1, 1)), 9.0)
    count = 0
    for start, last in zip(x, end, strict=True):
        found = told(start, S, np.ones((1, 1)))
        scores = last @ S @ last.T
        seen = np.argmax(scores, axis=1)
        known = found.leaders >= 0
        assert np.array_equal(found.leaders[known], seen[known])
        count += known.sum()
        later = told(last, S, np.ones((1, 1))).leaders
        assert np.sum(later < 0) <= 1  # one token at most is left
        assert np.array_equal(later[later >= 0], seen[later >= 0])
    assert count > {0.3: 0.2, 2.0: 0.5, 30.0: 0.9}[scale] * 1800


def test_what_repels_in_one_dimension_follows_the_smallest() -> None:
    x = np.array([[3.0], [1.0], [2.0]])
    S, M = -np.ones((1, 1)), np.ones((1, 1))
    found = told(x, S, M)
    assert found.most == 1 and found.leaders.tolist() == [1, 1, 1]
    end = late(x, S, M, 9.0)
    assert np.argmax(end @ S @ end.T, axis=1).tolist() == [1, 1, 1]
    assert told(x - 1.5, S, M).leaders.tolist() == [-1, -1, -1]


def test_late_tokens_are_read_whatever_their_size() -> None:
    M = turned(1, 0.3, -0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = told(1e200 * tokens(), along(M), M)
        one = told([[1e200], [-2e200], [3e100]], np.ones((1, 1)), np.ones((1, 1)))
        none = told(np.zeros((3, 1)), np.ones((1, 1)), np.ones((1, 1)))
    assert np.isfinite(found.unrest).all() and found.unrest.max() <= 2
    assert one.leaders.tolist() == [0, 1, 0]
    assert none.leaders.tolist() == [-1, -1, -1] and not none.unrest.any()


def test_the_frame_of_an_average_keeps_digits_that_differences_lose() -> None:
    """At t = 12 the fast direction is e^18 of the slow one."""
    turn = MIXED[:2, :2]
    M = turn @ np.diag([1.0, -0.5]) @ np.linalg.inv(turn)
    first, z = np.linalg.inv(turn)[0], tokens(6, 2)
    with jax.enable_x64(True):
        params = Matrices(np.outer(first, first), M)
        share = lambda x: jax.nn.softmax(x @ params.A @ x.T, axis=1)  # noqa: E731
        kept = np.asarray(in_frame_of_average(share, M, z, 12.0))
        lost = np.asarray(in_frame(lambda x: softmax.velocity(x, params), M, z, 12.0))
    c = z @ first
    leader = np.where(c > 0, np.argmax(c), np.argmin(c))
    wanted = (z[leader] - z) @ M.T
    assert np.abs(kept - wanted).max() < 1e-12
    assert 1e-10 < np.abs(lost - wanted).max() < 1e-4


@pytest.mark.parametrize(
    ("x", "S", "said"),
    [
        (np.ones((1, 3)), ONE, "two tokens or more"),
        (np.ones((2, 4, 3)), ONE, r"\(n, d\)"),
        (np.full((2, 3), np.nan), ONE, "x"),
        (np.ones((2, 2)), ONE, "shape"),
        (np.ones((2, 3)), np.stack([ONE, ONE]), "batch axes"),
    ],
)
def test_bad_input_is_refused(x: Any, S: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        told(x, S, ONE)

"""`solve_clusters` against integrals, known times and the tokens themselves."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from flow_models import Beta, causal, relaxing, sa, sphere, usa
from scipy.integrate import quad

from derive.runtime.flows.entry import FlowModel, solve, solve_clusters

HALF = [0.5, 0.5]


def two_cluster_time(beta: float, masses: Any, merged: float) -> float:
    """Time from right angle to 1 - g = merged: the integral of dg over its rate, g = 1 - e^s."""
    m, k = masses

    def slowness(s: float) -> float:
        u = np.exp(s)
        pull = sum(b / (a * np.exp(beta * u) + b) for a, b in ((m, k), (k, m)))
        return 1 / (pull * (2 - u))

    edges = np.linspace(np.log(merged), 0, 41)
    return sum(
        quad(slowness, a, b, epsabs=0, epsrel=1e-12)[0]
        for a, b in zip(edges, edges[1:], strict=False)
    )


@pytest.mark.parametrize("masses", [(0.5, 0.5), (0.9, 0.1)], ids=["equal", "unequal"])
@pytest.mark.parametrize("beta", [4.0, 20.0, 40.0, 300.0])
def test_two_clusters_at_right_angles_meet_when_the_integral_says(beta: float, masses: Any) -> None:
    """Times from 14 to 1e127; a step's error of 1e-8 moves them by beta times as much."""
    out = solve_clusters(sa, np.eye(2), masses, Beta(beta))
    wanted = two_cluster_time(beta, masses, 1e-6)
    assert abs(out.merge_times[0] / wanted - 1) < 3e-7
    assert out.ended == "one cluster" and out.merged_pairs.tolist() == [[0, 1]]
    assert out.masses[0].tolist() == list(masses)
    assert np.allclose(out.masses[-1], 1, rtol=1e-15)
    assert np.all(np.diff(out.times) >= 0) and np.all(out.gram[-1] == 1)


@pytest.mark.parametrize(
    ("beta", "known"), [(4.0, 10.7), (8.0, 197), (12.0, 6.9e3), (16.0, 2.8e5), (20.0, 1.2e7)]
)
def test_two_clusters_meet_at_the_known_times(beta: float, known: float) -> None:
    """Measured on tokens, with 1 - g = .001 for the end."""
    out = solve_clusters(sa, np.eye(2), HALF, Beta(beta), merged=1e-3)
    assert abs(out.merge_times[0] / known - 1) < 0.02


def test_a_merge_at_beta_40_takes_less_than_a_second() -> None:
    solve_clusters(sa, np.eye(2), HALF, Beta(3.0))  # compiled
    start = time.perf_counter()
    out = solve_clusters(sa, np.eye(2), HALF, Beta(40.0))
    assert time.perf_counter() - start < 1
    assert out.merge_times[0] > 2e15


def masses_of(counts: Any) -> np.ndarray:
    return np.asarray(counts) / np.sum(counts)


@pytest.mark.parametrize("model", [sa, usa], ids=["SA", "USA"])
def test_clusters_with_masses_move_as_their_tokens(model: FlowModel) -> None:
    """Clusters of 3, 1, 2 and 2 tokens that stand in one point, through the first merges."""
    counts, beta = [3, 1, 2, 2], 5.0
    directions = sphere(np.random.default_rng(15), 4, 3)
    where = np.repeat(np.arange(4), counts)
    probe = solve_clusters(
        model, directions @ directions.T, masses_of(counts), Beta(beta), merged=1e-10
    )
    one, two, three = probe.merge_times
    times = [0.5 * one, one + 0.7 * (two - one), two + 0.5 * (three - two)]
    t1 = times[-1] * 1.01
    options = {"t1": t1, "saves": times}
    found = solve_clusters(
        model, directions @ directions.T, masses_of(counts), Beta(beta), merged=1e-10, **options
    )
    tokens = solve(model, directions[where], Beta(beta), rtol=1e-11, **options)
    wanted = tokens.x @ np.swapaxes(tokens.x, -1, -2)
    first = [list(where).index(k) for k in range(4)]
    apart = np.abs(found.gram - wanted[:, first][:, :, first]).max(axis=(1, 2))
    # just after a merge its tokens are sqrt(2 merged) apart, and the clusters one
    assert np.all(apart < [1e-8, 3e-6, 1e-8])
    assert found.labels.max(axis=1).tolist() == [3, 2, 1]
    sums = [sorted({float(m) for m in row.round(12)}) for row in found.masses]
    assert sums[0] == [0.125, 0.25, 0.375]
    assert all(np.isclose(row[np.unique(lab, return_index=True)[1]].sum(), 1)
               for row, lab in zip(found.masses, found.labels, strict=True))  # fmt: skip


def test_merges_of_six_clusters_are_a_staircase_of_the_energy() -> None:
    """Plateaus of 2 beta E e^-beta are sums of squared masses; every merge is one label less."""
    x = sphere(np.random.default_rng(0), 6, 3)
    beta = 60.0
    out = solve_clusters(sa, x @ x.T, np.full(6, 1 / 6), Beta(beta))
    assert len(out.merge_times) == 5 and np.all(np.diff(out.merge_times) > 0)
    assert out.energy is not None
    assert out.merge_times[-1] / out.merge_times[-2] > 1e3
    height = 2 * beta * np.exp(-beta) * out.energy
    for k, end in enumerate(out.merge_times[1:]):
        save = np.flatnonzero(out.times < 0.5 * end)[-1]
        if out.times[save] < 2 * out.merge_times[k] or end < 20 * out.merge_times[k]:
            continue
        first = np.unique(out.labels[save], return_index=True)[1]
        assert abs(height[save] / (out.masses[save, first] ** 2).sum() - 1) < 0.02
        assert out.labels[save].max() == 4 - k
    assert np.all(np.diff(height) > -1e-12)


def test_the_tolerance_of_a_merge_moves_what_follows_little() -> None:
    x = sphere(np.random.default_rng(16), 5, 3)
    one, other = (
        solve_clusters(sa, x @ x.T, np.full(5, 0.2), Beta(15.0), merged=merged, rtol=1e-10)
        for merged in (1e-6, 1e-9)
    )
    assert one.merged_pairs.tolist() == other.merged_pairs.tolist()
    assert np.abs(one.merge_times[1:] / other.merge_times[1:] - 1)[-1] < 1e-4
    # the last of a pair's way is an exponential of rate two: a known time more
    gain = other.merge_times[0] - one.merge_times[0]
    assert abs(gain - np.log(1e3) / 2) < 1e-2


def test_clusters_at_equal_angles_meet_all_at_once() -> None:
    out = solve_clusters(sa, 0.7 * np.eye(4) + 0.3, np.full(4, 0.25), Beta(9.0), saves=None)
    assert len(out.merge_times) == 3
    assert np.abs(out.merge_times / out.merge_times[0] - 1).max() < 1e-7
    assert out.labels[-1].tolist() == [0, 0, 0, 0]


def test_saves_are_landed_on_and_the_end_stands() -> None:
    times = [0.0, 1.0, 5.0, 1e3, 1e9]
    out = solve_clusters(sa, np.eye(2), HALF, Beta(4.0), saves=times)
    assert out.times.tolist() == times
    x = np.eye(2)
    tokens = solve(sa, x, Beta(4.0), t1=5.0, saves=times[:3], rtol=1e-11)
    assert np.abs(out.gram[:3, 0, 1] - (tokens.x[:, 0] * tokens.x[:, 1]).sum(-1)).max() < 1e-7
    assert np.all(out.gram[3:] == 1)
    short = solve_clusters(sa, np.eye(2), HALF, Beta(4.0), t1=2.0, saves=3)
    assert short.ended == "t1" and short.times.tolist() == [0, 1, 2]
    assert short.merge_times.shape == (0,) and short.merged_pairs.shape == (0, 2)
    every = solve_clusters(sa, np.eye(2), HALF, Beta(4.0), t1=2.0)
    assert every.times[-1] == 2.0 and np.allclose(every.gram[-1], short.gram[-1], atol=1e-9)


def test_what_does_not_move_in_float64_is_told() -> None:
    opposite = np.array([[1.0, -1.0], [-1.0, 1.0]])
    with pytest.warns(RuntimeWarning, match="2 clusters are left .* no rate differs from zero"):
        out = solve_clusters(sa, opposite, HALF, Beta(1.0), t1=7.0, saves=3)
    assert out.ended == "nothing moves" and np.all(out.gram == opposite)
    with pytest.warns(RuntimeWarning, match="more time than it holds"):
        solve_clusters(sa, np.eye(2), HALF, Beta(800.0))
    with pytest.warns(RuntimeWarning, match="max_steps was reached"):
        assert solve_clusters(sa, np.eye(2), HALF, Beta(9.0), max_steps=5).ended == "max_steps"


def test_clusters_that_are_one_at_the_start_are_merged_there() -> None:
    R = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    out = solve_clusters(sa, R, [0.25, 0.25, 0.5], Beta(6.0))
    assert out.merge_times[0] == 0 and out.labels[0].tolist() == [0, 0, 1]
    assert abs(out.merge_times[1] / two_cluster_time(6.0, HALF, 1e-6) - 1) < 1e-7


@pytest.mark.parametrize("space", [False, True], ids=["sphere", "space"])
def test_two_that_meet_go_on_in_their_centre(space: bool) -> None:
    x = np.array([[1.0, 0.0, 0.0], [np.cos(0.4), np.sin(0.4), 0.0], [0.0, 0.6, 0.8]])
    masses = masses_of([3, 1, 4])
    model = FlowModel(Beta, {"beta": ()}, not space, sa.velocity, gram_rate=sa.gram_rate)
    out = solve_clusters(model, x @ x.T, masses, Beta(1.0), t1=1e-9, saves=[0.0], merged=0.1)
    centre = (3 * x[0] + x[1]) / 4
    if not space:
        centre /= np.linalg.norm(centre)
    y = np.stack([centre, centre, x[2]])
    assert np.abs(out.gram[0] - y @ y.T).max() < 1e-15
    assert out.masses[0].tolist() == [0.5, 0.5, 0.5]


def _relax(R: Any, masses: Any, p: Beta) -> Any:
    """Inner products of x_a' = beta (mean - x_a), the mean over masses."""
    half = p.beta * ((masses @ R)[None, :] - R)
    return half + half.T


def test_clusters_in_space_have_lengths() -> None:
    x = np.random.default_rng(17).normal(size=(3, 2))
    model = FlowModel(Beta, {"beta": ()}, False, relaxing.velocity, gram_rate=_relax)
    masses = masses_of([2, 1, 1])
    out = solve_clusters(model, x @ x.T, masses, Beta(0.5), t1=3.0, saves=4)
    mean = masses @ x
    moved = mean + (x - mean) * np.exp(-0.5 * out.times)[:, None, None]
    assert np.abs(out.gram - moved @ np.swapaxes(moved, -1, -2)).max() < 1e-7
    end = solve_clusters(model, x @ x.T, masses, Beta(0.5), merged=1e-8)
    assert end.ended == "one cluster"
    assert np.abs(end.gram[-1] - mean @ mean).max() < 1e-4


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"gram0": np.eye(2)[0]}, "gram0 must have shape"),
        ({"gram0": np.eye(1)}, "K >= 2"),
        ({"gram0": [[1, 0.2], [0.1, 1]]}, "gram0 is not symmetric"),
        ({"gram0": [[1, 0.2], [0.2, 1.1]]}, r"gram0\[1, 1\] = 1.1.* length one"),
        ({"gram0": [[1, 1.5], [1.5, 1]]}, "gram0 is not positive semi-definite"),
        ({"gram0": [[1, np.nan], [np.nan, 1]]}, "gram0 has entries that are not finite"),
        ({"masses": [0.5, 0.6]}, "masses sum to 1.1"),
        ({"masses": [1.5, -0.5]}, r"masses\[1\] = -0.5 must be positive"),
        ({"masses": [1.0]}, "masses must have shape"),
        ({"masses": [0.5, np.inf]}, "masses has entries that are not finite"),
        ({"params": Beta([1.0, 2.0])}, "beta has batch axes"),
        ({"t1": -1.0}, "t1 = -1.0"),
        ({"t1": 0.0}, "t1 = 0.0"),
        ({"saves": 5}, "saves, as a number, needs a t1"),
        ({"saves": [2.0, 1.0]}, "saves must be an increasing list"),
        ({"merged": 0.0}, "merged = 0"),
        ({"rtol": 1e-17}, "rtol = 1e-17"),
        ({"max_steps": 0}, "max_steps must be a positive integer"),
        ({"spec": relaxing}, "no equation of its clusters"),
        ({"spec": FlowModel(Beta, {}, True, causal.velocity, None, sa.gram_rate, True)}, "places"),
    ],
)
def test_bad_clusters_are_refused_by_name(change: dict, text: str) -> None:
    given = {"spec": sa, "gram0": np.eye(2), "masses": HALF, "params": Beta(1.0)} | change
    spec, R, masses, params = (given.pop(n) for n in ("spec", "gram0", "masses", "params"))
    with pytest.raises(ValueError, match=text):
        solve_clusters(spec, R, masses, params, **given)


def test_results_are_short_in_words() -> None:
    out = solve_clusters(sa, np.eye(2), HALF, Beta(4.0))
    assert repr(out).startswith("Clusters(2 clusters, ") and len(repr(out)) < 160

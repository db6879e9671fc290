"""Plans that send laws to targets, replayed by another solver."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import linear_sum_assignment

import derive.generated.measure_to_measure as kernel
from derive.runtime.common.precision import precision
from derive.runtime.flows.match.certificate import AGAIN, APART, unsteady
from derive.runtime.flows.match.distances import w2
from derive.runtime.flows.match.matching import NoPlan, match

N = 24  # tokens of a law: one shape, compiled once
AXES = np.eye(3)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def cloud(k, n=N):
    rng = np.random.default_rng(k)
    return unit(unit(np.array([1, 0.3 * k, 0.2])) + 0.4 * rng.standard_normal((n, 3)))


def ring(k, n=12):
    turn = np.linspace(0, 2 * np.pi, n, endpoint=False)[:, None] + 0.1
    return unit(AXES[k] + 0.3 * (np.cos(turn) * AXES[k - 1] + np.sin(turn) * AXES[k - 2]))


CLOUDS = [cloud(k) for k in range(3)]
RINGS = [ring(k) for k in range(3)]


def integrated(plan, x, masses=None):
    """Tokens at the end of x' = P_x(V m + W relu(U x + b)), by SciPy."""
    share = np.full(len(x), 1 / len(x)) if masses is None else masses / np.sum(masses)
    theta = plan.theta
    assert not np.any(theta.B)
    for k, length in enumerate(np.diff(plan.times)):
        V, U, W, b = (np.asarray(getattr(theta, name)[k]) for name in ("V", "U", "W", "b"))

        def rate(_, flat, V=V, U=U, W=W, b=b):
            y = flat.reshape(-1, len(V))
            v = V @ (share @ y) + np.maximum(y @ U.T + b, 0) @ W.T
            return (v - ((v * y).sum(1) / (y * y).sum(1))[:, None] * y).ravel()

        found = solve_ivp(rate, (0, length), x.ravel(), method="DOP853", rtol=1e-11, atol=1e-14)
        x = unit(found.y[:, -1].reshape(x.shape))
    return x


def farthest(x, y):
    """From the tokens to as many copies of each point, paired at the least cost."""
    y = np.repeat(y, len(x) // len(y), axis=0)
    cost = np.linalg.norm(x[:, None] - y, axis=2)
    return cost[linear_sum_assignment(cost**2)].max()


@pytest.fixture(scope="module")
def rings():
    return kernel.match(CLOUDS, RINGS)


@pytest.fixture(scope="module")
def points():
    return kernel.match(CLOUDS, list(AXES))


def test_clouds_of_unequal_masses_end_at_three_points():
    masses = [np.random.default_rng(k).uniform(0.1, 3, N) for k in range(3)]
    plan = kernel.match(CLOUDS, list(AXES), input_masses=masses)
    for k in range(3):
        ends = integrated(plan, CLOUDS[k], masses[k])
        assert np.linalg.norm(ends - AXES[k], axis=1).max() < 1e-6


def test_clouds_end_at_rings(rings):
    for k in range(3):
        assert farthest(integrated(rings, CLOUDS[k]), RINGS[k]) < 1e-6


def test_what_stands_outside_a_gate_rests(rings):
    states = [rings.inputs, *rings.states()]
    pulls = [i for i, piece in enumerate(rings.pieces) if piece.kind in ("pull", "push")]
    moved = 0
    for i in pulls:
        piece, x = rings.pieces[i].params, states[i].x
        outside = (x @ np.asarray(piece.U).T + np.asarray(piece.b) < 0).all(2)
        moved += int((~outside).sum())
        assert np.abs(states[i + 1].x - x)[outside].max(initial=0.0) < 1e-15
        others = np.delete(np.arange(3), rings.pieces[i].law)
        assert outside[others].all()
    assert moved


def test_laws_that_are_parted_are_restored(points):
    states = [points.inputs, *points.states()]
    done = set()
    for i, piece in enumerate(points.pieces):
        if piece.kind == "unsplit":
            done.add(piece.law)
            rest = [k for k in range(3) if k not in done]
            assert np.abs(states[i + 1].x[rest] - states[0].x[rest]).max(initial=0) < 1e-9
    assert done == {0, 1, 2} and points.restored < 1e-9


@pytest.mark.parametrize("kind", ["symmetric", "nearly one"])
def test_equal_barycentres_are_taken_apart(kind):
    rng = np.random.default_rng(5)
    halves = unit(rng.standard_normal((3, N // 2, 3)))
    inputs = [np.vstack([x, -x]) for x in halves]
    if kind == "nearly one":
        inputs = [CLOUDS[0], unit(CLOUDS[0] + 1e-8 * rng.standard_normal((N, 3))), inputs[2]]
    plan = kernel.match(inputs, list(AXES))
    for k in range(3):
        assert np.linalg.norm(integrated(plan, inputs[k]) - AXES[k], axis=1).max() < 1e-6


def test_copies_of_a_token_stay_together():
    inputs = [np.repeat(x[:12], 2, axis=0) for x in CLOUDS]
    plan = kernel.match(inputs, RINGS)
    for k in range(3):
        assert farthest(integrated(plan, inputs[k]), RINGS[k]) < 1e-6


def test_tokens_that_rounding_alone_tells_apart_are_not_spread():
    same = unit(AXES[0] + 1e-13 * np.random.default_rng(0).standard_normal((N, 3)))
    with pytest.raises(RuntimeError, match=r"float64 does not tell|gate is closed"):
        kernel.match([same, *CLOUDS[1:]], RINGS)


@pytest.mark.parametrize("copies", [2, 3])
def test_points_of_a_target_that_are_one_are_joined(copies):
    targets = [np.repeat(x, copies, axis=0) for x in RINGS]
    plan = kernel.match(CLOUDS, targets)
    assert len(plan.pieces) < 70
    assert farthest(integrated(plan, CLOUDS[1]), RINGS[1]) < 1e-6
    np.testing.assert_array_less(plan.findings["W_2 to each target"], 1e-6)


def test_laws_of_one_name_are_paired():
    inputs = dict(zip("abc", CLOUDS, strict=True))
    plan = kernel.match(inputs, {"c": AXES[2], "a": AXES[0], "b": AXES[1]})
    ends = plan.run(plan.inputs).x
    assert np.linalg.norm(ends - AXES[:, None], axis=2).max() < 1e-6
    with pytest.raises(ValueError, match="d, c has no pair|c, d has no pair"):
        kernel.match(inputs, {"d": AXES[2], "a": AXES[0], "b": AXES[1]})
    with pytest.raises(ValueError, match="both go by names"):
        kernel.match(inputs, list(AXES), input_masses=[np.ones(N)] * 3)


@pytest.mark.parametrize(
    ("inputs", "targets", "more", "words"),
    [
        (CLOUDS, AXES[:2], {}, "3 inputs and 2 targets"),
        ([CLOUDS[0], CLOUDS[0][::-1]], AXES[:2], {}, "they move alike"),
        (CLOUDS, [AXES[0], AXES[0], AXES[1]], {}, "keeps different laws different"),
        ([unit(CLOUDS[0][:, :2])], [np.array([1.0, 0.0])], {}, "circle"),
        (CLOUDS, np.eye(4)[:3], {}, "3 dimensions, targets 4"),
        ([2 * x for x in CLOUDS], AXES, {}, "project=True"),
        ([], [], {}, "holds no laws"),
        ([np.full((N, 3), np.nan)], AXES[:1], {}, "not finite"),
        (CLOUDS[:1], [RINGS[0][:5]], {}, "splits no token"),
        (CLOUDS[:1], [cloud(4, 30)], {}, "splits no token"),
        (CLOUDS, AXES, {"tolerance": 1e-12}, "beyond what plans reach"),
        (CLOUDS, AXES, {"tolerance": np.nan}, "beyond what plans reach"),
        (CLOUDS, AXES, {"tolerance": np.inf}, "below 1"),
        (CLOUDS, AXES, {"seed": "x"}, "seed must be an integer"),
        (CLOUDS, AXES, {"longest": 0.0}, "must be positive"),
        (CLOUDS, AXES, {"input_masses": [-np.ones(N)] * 3}, "non-negative"),
        (CLOUDS, AXES, {"input_masses": [np.ones(N)] * 2}, "their masses 2"),
    ],
)
def test_what_no_plan_can_do_is_said(inputs, targets, more, words):
    with pytest.raises(ValueError, match=words):
        kernel.match(inputs, list(targets), **more)


def test_masses_that_do_not_make_up_the_points_are_said():
    masses = [np.random.default_rng(1).uniform(0.5, 1, N), None, None]
    with pytest.raises(RuntimeError, match="the masses of tokens do not make up"):
        kernel.match(CLOUDS, RINGS, input_masses=masses)


def test_tokens_in_float32_are_on_the_sphere():
    single = [x.astype(np.float32) for x in CLOUDS]
    assert kernel.match(single, list(AXES)).findings["W_2 to each target"].max() < 1e-6


def test_a_plan_that_hangs_on_the_last_digits_is_refused():
    inputs = [CLOUDS[0], unit(CLOUDS[0] + 1e-12), CLOUDS[1]]
    with pytest.raises(RuntimeError, match="last digits"):
        kernel.match(inputs, list(AXES))


def test_a_saved_plan_is_the_same(rings, tmp_path):
    again = kernel.load_plan(rings.save(tmp_path / "plan.v1"))
    assert repr(again) == repr(rings) and again.table() == rings.table()
    for one, other in zip(rings.theta, again.theta, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.run(again.inputs).x, rings.run(rings.inputs).x)


def test_files_that_hold_no_plan_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("none")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut off")
    np.save(tmp_path / "one.npy", AXES)
    for name in ("text.npz", "cut.npz", "one.npy"):
        with pytest.raises(ValueError, match=r"no \.npz file of arrays"):
            kernel.load_plan(tmp_path / name)


def test_a_plan_as_a_function_ends_where_its_replay_does(rings):
    ends = rings.run(rings.inputs).x[0]
    with precision("float64"):
        for masses in (None, np.ones(N), 7 * np.ones(N)):
            np.testing.assert_allclose(rings.module(64)(CLOUDS[0], masses), ends, atol=1e-6)


def test_a_function_in_float32_is_refused_where_it_tells_no_tokens_apart(rings, points):
    with pytest.raises(ValueError, match="float32"):
        rings.module()(CLOUDS[0].astype(np.float32))
    single = points.module()(CLOUDS[0].astype(np.float32))
    assert np.abs(np.asarray(single) - AXES[0]).max() < 1e-5


def test_apply_takes_tokens_of_the_same_dimension(points):
    with pytest.raises(ValueError, match="4 entries"):
        points.apply(np.eye(4))


@pytest.mark.parametrize("unequal", [False, True])
def test_distances_to_nearest_points_need_no_transport(unequal, monkeypatch):
    rng = np.random.default_rng(3)
    p = rng.uniform(0.5, 1, N) if unequal else np.ones(N)
    near = unit(np.repeat(RINGS[0], 2, axis=0) + 1e-3 * rng.standard_normal((N, 3)))
    p = p / p.sum()
    far = np.linalg.norm(near - np.repeat(RINGS[0], 2, axis=0), axis=1)
    monkeypatch.setattr("derive.runtime.flows.match.distances._transport", None)
    found = w2(near, p, RINGS[0], p[::2] + p[1::2])
    assert found == pytest.approx(np.sqrt(p @ far**2), rel=1e-12)


def test_splits_are_planned_by_the_emitted_rate():
    """With its sign turned no split parts a law."""
    turned = replace(kernel._SPEC, split_rate=lambda z, mean, c: -kernel.split_rate(z, mean, c))
    with pytest.raises(NoPlan, match="no direction parts"):
        match(turned, CLOUDS, AXES[:, None])


def test_findings_that_part_or_do_not_arrive_again_are_unsteady():
    assert not unsteady({AGAIN: [1e-7], APART: 1e-6}, 1e-9)
    assert "hangs" in unsteady({AGAIN: [1e-7, 1e-3], APART: 1e-6}, 1e-9)
    assert "hangs" in unsteady({AGAIN: [1e-7], APART: 0.1}, 1e-9)
    assert "hangs" in unsteady({AGAIN: [1e-7, np.nan], APART: 1e-6}, 1e-9)

"""`solve` against scalar equations, closed forms and an independent integrator."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flow_models import Beta, Matrices, Nothing, causal, cubic, relaxing, sa, softmax, sphere, usa
from scipy.integrate import solve_ivp

from derive.runtime.common import adaptive
from derive.runtime.common.lane_blocks import launch, to_target
from derive.runtime.flows import entry, solver
from derive.runtime.flows.entry import FlowModel, solve


def equal_angle_rate(g: float, n: int, beta: float, normalised: bool = True) -> float:
    """Rate of the common inner product of n tokens at equal angles (Geshkovski et al., 2023)."""
    pull = 2 * np.exp(beta * g) * (1 - g) * ((n - 1) * g + 1)
    return pull / (np.exp(beta) + (n - 1) * np.exp(beta * g) if normalised else n)


def dop853(rate, x: np.ndarray, t1: float) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Tokens at t1 by SciPy, from a velocity of NumPy arrays."""
    flat = lambda t, y: rate(y.reshape(x.shape)).ravel()  # noqa: E731
    found = solve_ivp(flat, (0, t1), x.ravel(), method="DOP853", rtol=1e-13, atol=1e-13)
    return found.y[:, -1].reshape(x.shape)


def attention(x: np.ndarray, beta: float, mask: bool = False) -> np.ndarray:
    weights = np.exp(beta * (x @ x.T - 1))
    if mask:
        weights = np.tril(weights)
    return weights @ x / weights.sum(axis=1, keepdims=True)


def tangent(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    return v - (x * v).sum(axis=1, keepdims=True) * x


@pytest.mark.parametrize(
    ("model", "rate"),
    [
        (sa, lambda x: tangent(x, attention(x, 3.0))),
        (usa, lambda x: tangent(x, np.exp(3.0 * x @ x.T) @ x / len(x))),
        (causal, lambda x: tangent(x, attention(x, 3.0, mask=True))),
    ],
    ids=["SA", "USA", "causal"],
)
def test_tokens_on_the_sphere_equal_an_independent_integrator(model, rate) -> None:  # type: ignore[no-untyped-def]
    x = sphere(np.random.default_rng(0), 7, 3)
    out = solve(model, x, Beta(3.0), t1=2.0)
    assert np.abs(out.x[-1] - dop853(rate, x, 2.0)).max() < 2e-8
    assert out.x.shape == (2, 7, 3) and np.isinf(out.blow_up_time)


def test_tokens_in_space_equal_an_independent_integrator() -> None:
    rng = np.random.default_rng(1)
    x, A, V = rng.normal(size=(6, 3)), rng.normal(size=(3, 3)), rng.normal(size=(3, 3)) / 2

    def rate(x: np.ndarray) -> np.ndarray:
        scores = x @ A @ x.T
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return weights @ x / weights.sum(axis=1, keepdims=True) @ V.T

    out = solve(softmax, x, Matrices(A, V), t1=1.5)
    exact = dop853(rate, x, 1.5)
    assert np.abs(out.x[-1] - exact).max() < 1e-7 * np.abs(exact).max()


def test_a_linear_flow_is_its_closed_form() -> None:
    x = np.random.default_rng(2).normal(size=(5, 2))
    x[1], x[3] = x[0], 0  # a token of no length is a token, beside two that are one
    out = solve(relaxing, x, Beta(0.7), t1=3.0, saves=4)
    mean = x.mean(axis=0)
    wanted = mean + (x - mean) * np.exp(-0.7 * out.times)[:, None, None]
    assert np.abs(out.x - wanted).max() < 1e-7


@pytest.mark.parametrize("normalised", [True, False], ids=["SA", "USA"])
def test_tokens_at_equal_angles_keep_them_as_the_scalar_equation_says(normalised: bool) -> None:
    n, beta = 5, 2.0
    out = solve(sa if normalised else usa, np.eye(n), Beta(beta), t1=1.0, saves=5)
    g = solve_ivp(
        lambda t, g: equal_angle_rate(g, n, beta, normalised),
        (0, 1),
        [0.0],
        t_eval=out.times,
        method="DOP853",
        rtol=1e-12,
        atol=1e-13,
    ).y[0]
    found = out.x @ np.swapaxes(out.x, -1, -2)
    off = ~np.eye(n, dtype=bool)
    assert np.abs(found[:, off] - g[:, None]).max() < 1e-8


@pytest.mark.parametrize(
    ("beta", "time"), [(0.1, 5.19), (1, 5.27), (3, 5.90), (5, 9.54), (7, 32.2), (9, 178.7)]
)
def test_32_tokens_at_right_angles_come_together_at_the_known_times(
    beta: float, time: float
) -> None:
    """Times at which their inner product reaches .999, known to three digits."""
    half = 0.5 * 10 ** (np.floor(np.log10(time)) - 2)
    out = solve(sa, np.eye(32), Beta(beta), t1=time + half, saves=[time - half, time + half])
    before, after = (x[0] @ x[1] for x in out.x)
    assert before < 0.999 < after


def test_tokens_stay_on_the_sphere_to_rounding() -> None:
    x = sphere(np.random.default_rng(3), 4, 9, 5)
    for rtol in (1e-3, 1e-10):
        out = solve(usa, x, Beta(2.0), t1=5.0, saves=7, rtol=rtol)
        assert np.abs(np.linalg.norm(out.x, axis=-1) - 1).max() < 5e-16


def test_a_step_on_the_sphere_has_order_eight() -> None:
    """Local errors fall like the ninth power of the step, the projection included."""
    x = sphere(np.random.default_rng(4), 6, 3)
    exact = {h: dop853(lambda x: tangent(x, attention(x, 2.0)), x, h) for h in (0.8, 0.4)}
    with jax.enable_x64(True):
        eq = solver.equation(sa)
        params: tuple[dict, dict] = ({}, {"beta": np.float64(2.0)})
        state = (x[..., None],)
        errors = []
        for h, wanted in exact.items():
            step = solver._attempt(sa, eq)
            found = step(state, eq.rate(state, state, params), np.array([h]), params, 0.0)
            errors.append(np.abs(np.asarray(found.state[0])[..., 0] - wanted).max())
    assert 8.0 < np.log2(errors[0] / errors[1]) < 10.5


@pytest.mark.parametrize("rtol", [1e-5, 1e-8, 1e-11])
def test_estimated_errors_are_those_against_a_reference(rtol: float) -> None:
    """At all saves, early ones included; one system in fifty may be off by a little."""
    rng = np.random.default_rng(5)
    saves = [0.1, 1.0, 4.0, 9.0, 16.0]
    for beta in (1.0, 6.0):
        x = sphere(rng, 64, 8, 3)
        exact = solve(sa, x, Beta(beta), t1=16.0, saves=saves, rtol=1e-13)
        out = solve(sa, x, Beta(beta), t1=16.0, saves=saves, rtol=rtol)
        true = np.linalg.norm(out.x - exact.x, axis=-1).max(axis=-1)
        assert np.mean(out.error < true) < 0.02
        assert np.all(out.error > 0.1 * true)
        # no empty promise: the error of a step is the least that is said
        assert np.median(out.error[:, 2:] / np.maximum(true[:, 2:], rtol)) < 50


def test_errors_fall_with_the_tolerance() -> None:
    x = sphere(np.random.default_rng(6), 10, 3)
    exact = dop853(lambda x: tangent(x, attention(x, 4.0)), x, 3.0)
    errors = [
        np.abs(solve(sa, x, Beta(4.0), t1=3.0, rtol=rtol).x[-1] - exact).max()
        for rtol in (1e-4, 1e-7, 1e-10)
    ]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-9


def test_batched_systems_are_the_single_ones() -> None:
    rng = np.random.default_rng(7)
    x, betas = sphere(rng, 70, 5, 3), rng.uniform(1, 8, size=70)
    out = solve(sa, x, Beta(betas), t1=6.0, saves=3)
    assert out.x.shape == (70, 3, 5, 3) and out.clusters.shape == (70, 3, 5)
    assert out.error.shape == out.energy.shape == (70, 3)
    for k in (0, 13, 69):
        one = solve(sa, x[k], Beta(betas[k]), t1=6.0, saves=3)
        assert np.abs(one.x - out.x[k]).max() < 1e-12
        assert one.steps == out.steps[k]
    grid = solve(sa, x[:6].reshape(2, 3, 5, 3), Beta(betas[:3]), t1=1.0)
    assert grid.x.shape == (2, 3, 2, 5, 3) and grid.steps.shape == (2, 3)
    assert np.abs(grid.x[1, 2] - solve(sa, x[5], Beta(betas[2]), t1=1.0).x).max() < 1e-12


def test_energies_grow_along_a_gradient_flow_and_are_those_of_the_tokens() -> None:
    x = sphere(np.random.default_rng(8), 3, 12, 3)
    out = solve(usa, x, Beta(2.0), t1=2.0, saves=9)
    assert out.energy is not None
    assert np.all(np.diff(out.energy, axis=-1) > 0)
    wanted = np.exp(2.0 * out.x @ np.swapaxes(out.x, -1, -2)).mean(axis=(-1, -2)) / 4
    assert np.allclose(out.energy, wanted, rtol=1e-13)
    assert solve(relaxing, x[0], Beta(1.0), t1=1.0).energy is None


def test_blow_up_in_space_is_told_with_its_time() -> None:
    """x_i' = mean of <x_i, x_j> x_j: S = x^T x / n has S' = 2 S^2, infinite at 1 / (2 largest)."""
    x = np.random.default_rng(9).normal(size=(3, 6, 2))
    largest = np.linalg.eigvalsh(np.swapaxes(x, -1, -2) @ x / 6)[:, -1]
    ends = 1 / (2 * largest)
    middle = (np.sort(ends)[1] + np.sort(ends)[2]) / 2
    with pytest.warns(RuntimeWarning, match="2 of 3 systems ended .* go to infinity"):
        out = solve(cubic, x, Nothing(), t1=middle, saves=[0.0, 0.5 * ends.min(), middle])
    blown = ends < middle
    assert np.abs(out.blow_up_time[blown] / ends[blown] - 1).max() < 1e-6
    assert np.isinf(out.blow_up_time[~blown]).all()
    assert np.isnan(out.x[blown, -1]).all() and np.isfinite(out.x[:, :2]).all()
    assert np.isnan(out.error[blown, -1]).all() and (out.clusters[blown, -1] == -1).all()
    S = np.swapaxes(out.x, -1, -2) @ out.x / 6
    S0 = S[:, 0]
    wanted = np.linalg.inv(np.linalg.inv(S0) - 2 * out.times[1] * np.eye(2))
    assert np.abs(S[:, 1] / wanted - 1).max() < 1e-6


def caps(angle: float) -> np.ndarray:
    turns = np.array([0.0, 0.05, angle, angle + 0.08])
    return np.stack([np.cos(turns), np.sin(turns)], axis=-1)


def test_metastable_clusters_stand_for_a_million_units_in_few_steps() -> None:
    """Four tokens in two caps at beta = 40: each collapses, both stand until e^(40 (1 - cos))."""
    out = solve(sa, caps(2.4), Beta(40.0), t1=1e6, saves=[0, 64, 1e3, 1e6])
    assert out.clusters.tolist() == [[0, 1, 2, 3]] + 3 * [[0, 0, 1, 1]]
    assert out.counts.tolist() == [4, 2, 2, 2]
    assert np.linalg.norm(out.x[-1, 0] - out.x[-1, 1]) < 1e-13
    assert np.abs(out.x[-1] - out.x[1]).max() < 1e-8
    assert out.steps < 60


def test_tokens_of_a_model_with_places_are_never_taken_for_one() -> None:
    """The second of two equal tokens sees the first and itself, the third all three."""
    x = np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, 0]])
    out = solve(causal, x, Beta(1.0), t1=1.0)
    assert np.linalg.norm(out.x[-1, 1] - out.x[-1, 2]) > 0.1
    wanted = dop853(lambda x: tangent(x, attention(x, 1.0, mask=True)), x, 1.0)
    assert np.abs(out.x[-1] - wanted).max() < 1e-8


class Turning(NamedTuple):
    rate: Any


def _turn(x: Any, p: Turning) -> Any:
    """The centre moves by one a time; tokens approach it before it has come to zero, then part."""
    middle = x.mean(axis=0)
    return p.rate * jnp.sign(middle[0]) * (x - middle) + jnp.array([1.0, 0.0], x.dtype)


def test_tokens_that_met_and_would_part_again_are_told_of() -> None:
    """They come to e^-30 of their distance, beyond the tolerance, and would be e^9 of it by t1."""
    model = FlowModel(Turning, {"rate": ()}, False, _turn)
    x = np.array([[-3.0, -0.5], [-3.0, 0.5], [-3.0, 0.1]])
    with pytest.warns(RuntimeWarning, match="had met within the tolerance and, at t = 6, would pa"):
        solve(model, x, Turning(10.0), t1=6.9, saves=[0, 2, 6, 6.9])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(model, x, Turning(10.0), t1=2.9)


def test_roundings_over_long_times_are_counted_and_told_of() -> None:
    with pytest.warns(RuntimeWarning, match="from t = 1e.15 on, roundings of the velocities"):
        out = solve(sa, caps(2.4), Beta(40.0), t1=1e15, saves=[0, 1e6, 1e15])
    assert out.error[1] < 1e-7 < 1e-3 < out.error[2]


def test_steps_that_time_cannot_tell_from_none_end_a_system() -> None:
    """Tokens turn at rate one; from 1e16 on, steps of that size do not move the time."""
    turn = FlowModel(
        Nothing, {}, True, lambda x, p: jnp.stack([-x[:, 1], x[:, 0]], axis=1), ordered=True
    )
    state = np.eye(2)[..., None]
    with jax.enable_x64(True):
        task = entry._task(turn, state, ({}, {}), adaptive.Control(1e-8, 1000, 2e16), None)
        flight = launch(task, (state,), 1e16)
        flight.h[:] = 0.1
        to_target(task, flight, 2e16, lambda share: None)
    assert flight.status[0] == adaptive.OVERFLOW and flight.steps[0] < 10
    with pytest.warns(RuntimeWarning, match="float64 tells no times apart .* solve_clusters"):
        entry._warn(flight)


def test_the_step_limit_ends_a_system_with_a_word() -> None:
    with pytest.warns(RuntimeWarning, match="max_steps was reached"):
        out = solve(usa, caps(2.4), Beta(12.0), t1=10.0, saves=3, max_steps=5)
    assert np.isnan(out.x[1:]).all() and np.isnan(out.blow_up_time)
    assert "clusters at the end: none" in repr(out)


def test_float32_is_followed_through() -> None:
    x = sphere(np.random.default_rng(10), 6, 3).astype(np.float32)
    out = solve(sa, x, Beta(2.0), t1=3.0, dtype="float32", rtol=1e-5)
    assert out.x.dtype == np.float32
    exact = solve(sa, x, Beta(2.0), t1=3.0)
    distance = np.linalg.norm(out.x[-1] - exact.x[-1], axis=-1).max()
    assert distance < out.error[-1] < 1e-3
    assert np.abs(np.linalg.norm(out.x, axis=-1) - 1).max() < 3e-7


def test_progress_is_reported_and_results_are_short_in_words() -> None:
    seen: list[float] = []
    x = sphere(np.random.default_rng(11), 3, 4, 3)
    out = solve(sa, x, Beta(1.0), t1=2.0, saves=4, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == 1.0
    text = repr(out)
    assert text.startswith("Flow(3 systems of 4 tokens in 3 dimensions, 4 times from 0 to 2, clus")
    assert len(text) < 160

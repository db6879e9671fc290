"""`solve` against closed forms and an independent integrator."""

from __future__ import annotations

import closures
import jax
import numpy as np
import pytest
from attention_models import (
    Growing,
    Params,
    Relaxation,
    diffusing,
    growing,
    l2,
    linear,
    relaxing,
    softmax,
)
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from derive.runtime.closures.entry import solve


def wishart(rng: np.random.Generator, count: int, d: int, rank: int | None = None) -> np.ndarray:
    G = rng.normal(size=(count, d, rank or d))
    return G @ np.swapaxes(G, -1, -2) / d


def relative(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    size = np.abs(wanted).max(axis=(-1, -2))
    return np.abs(found - wanted).max(axis=(-1, -2)) / size


@pytest.fixture(scope="module")
def many() -> tuple:
    rng = np.random.default_rng(0)
    d = 4
    Q, K = rng.normal(size=(2, d, d)) / 2
    S0 = wishart(rng, 4096, d)
    out = solve(softmax, np.zeros(d), S0, Params(Q, K, np.eye(d)), t1=1.0, saves=[0.0, 0.25, 1.0])
    return S0, K.T @ Q, out


def test_blow_up_times_of_4096_laws_equal_the_closed_form(many: tuple) -> None:
    S0, A, out = many
    exact = closures.blow_up_time(S0, A)
    ends = exact < 1
    assert 0.5 < ends.mean() < 0.95
    assert np.array_equal(np.isfinite(out.blow_up_time), ends)
    assert np.abs(out.blow_up_time[ends] / exact[ends] - 1).max() < 1e-6


def test_covariances_of_4096_laws_equal_the_closed_form(many: tuple) -> None:
    S0, A, out = many
    exact = closures.blow_up_time(S0, A)
    for save, t in enumerate(out.times):
        alive = exact > t
        wanted = np.stack([closures.covariance(S, A, t) for S in S0[alive]])
        # an error of the time to blow-up, relative, is one of the covariance
        allowed = 1e-7 / (1 - t / exact[alive])
        assert np.all(relative(out.cov[alive, save], wanted) < allowed)
        assert np.all(np.isnan(out.cov[~alive, save]))
        assert np.all(np.isnan(out.factor[~alive, save]))


def test_results_do_not_depend_on_the_batch(many: tuple) -> None:
    S0, A, out = many
    rng = np.random.default_rng(0)
    Q, K = rng.normal(size=(2, 4, 4)) / 2
    for lane in (0, 17, 4095):
        one = solve(softmax, np.zeros(4), S0[lane], Params(Q, K, np.eye(4)), t1=1.0, saves=3)
        assert one.mean.shape == (3, 4) and one.cov.shape == (3, 4, 4)
        assert one.blow_up_time.shape == ()
        if np.isfinite(out.blow_up_time[lane]):
            assert abs(one.blow_up_time / out.blow_up_time[lane] - 1) < 1e-8
        else:
            assert relative(one.cov[-1], out.cov[lane, -1]) < 1e-7


@pytest.mark.parametrize("rank", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_rank_deficient_laws_keep_their_rank(rank: int) -> None:
    rng = np.random.default_rng(1)
    Q, K = rng.normal(size=(2, 2, 4)) / 2
    S0 = wishart(rng, 16, 4, rank)
    out = solve(softmax, rng.normal(size=4), S0, Params(Q, K, np.eye(4)), t1=0.1)
    assert np.all(np.linalg.matrix_rank(out.factor[:, -1]) == rank)
    wanted = np.stack([closures.covariance(S, K.T @ Q, 0.1) for S in S0])
    assert relative(out.cov[:, -1], wanted).max() < 1e-7


def test_limit_of_the_long_run_is_the_closed_form() -> None:
    rng = np.random.default_rng(2)
    d = 4
    Q = rng.normal(size=(2, d))
    S0 = wishart(rng, 16, d)  # as many as above: one program for both tests
    for model in (softmax, l2):
        out = solve(model, np.zeros(d), S0, Params(Q, -Q, np.eye(d)), t1=1e9)
        wanted = np.stack([closures.limit(S, -Q.T @ Q) for S in S0])
        assert relative(out.cov[:, -1], wanted).max() < 1e-6


@pytest.mark.parametrize(
    ("model", "method"),
    [
        pytest.param(softmax, "explicit", id="softmax-explicit"),
        pytest.param(softmax, "stiff", id="softmax-stiff"),
        pytest.param(l2, "explicit", id="l2-explicit"),
        pytest.param(l2, "stiff", id="l2-stiff", marks=pytest.mark.slow),
        pytest.param(linear, "explicit", id="linear-explicit"),
        pytest.param(linear, "stiff", id="linear-stiff", marks=pytest.mark.slow),
    ],
)
def test_mean_and_covariance_equal_an_independent_integrator(model, method: str) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(3)
    d = 3
    p = Params(*rng.normal(size=(2, 2, d)) / 2, np.eye(d) + rng.normal(size=(d, d)) / 4)
    m0, S0 = rng.normal(size=d), wishart(rng, 1, d)[0]
    A = p.K.T @ p.Q

    def rate(t: float, y: np.ndarray) -> np.ndarray:
        m, S = y[:d], y[d:].reshape(d, d)
        gain = np.linalg.inv(np.eye(d) + 2 * S @ p.K.T @ p.K) if model is l2 else np.eye(d)
        scale = 2 if model is l2 else 1
        if model is linear:
            M = p.V @ (S + np.outer(m, m)) @ A
            return np.concatenate([M @ m, (M @ S + S @ M.T).ravel()])
        half = scale * p.V @ gain @ S @ A
        return np.concatenate([p.V @ gain @ m + half @ m, (half @ S + S @ half.T).ravel()])

    y0 = np.concatenate([m0, S0.ravel()])
    exact = solve_ivp(rate, (0, 0.3), y0, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    out = solve(model, m0, S0, p, t1=0.3, method=method)
    assert np.isinf(out.blow_up_time)
    found = np.concatenate([out.mean[-1], out.cov[-1].ravel()])
    assert np.abs(found - exact).max() < 1e-7 * np.abs(exact).max()


def test_errors_fall_with_the_tolerance() -> None:
    rng = np.random.default_rng(4)
    Q, K = rng.normal(size=(2, 2, 3)) / 2  # shapes and models as above: the same programs
    S0 = wishart(rng, 1, 3)
    t = 0.5 * closures.blow_up_time(S0, K.T @ Q)[0]
    wanted = closures.covariance(S0[0], K.T @ Q, t)
    for method in ("explicit", "stiff"):
        errors = [
            relative(
                solve(
                    softmax,
                    np.zeros(3),
                    S0[0],
                    Params(Q, K, np.eye(3)),
                    t1=t,
                    rtol=rtol,
                    method=method,
                ).cov[-1],
                wanted,
            )
            for rtol in (1e-4, 1e-6, 1e-8, 1e-10)
        ]
        assert errors[-1] < 1e-8
        assert all(b < a / 5 for a, b in zip(errors, errors[1:], strict=False)), errors


@pytest.mark.slow  # quick: the laws of test_single_parameters and the batch of 4096
def test_parameters_may_differ_from_law_to_law() -> None:
    rng = np.random.default_rng(5)
    Q, K = rng.normal(size=(2, 6, 2, 3)) / 3
    S0 = wishart(rng, 1, 3)[0]
    out = solve(softmax, np.zeros(3), S0, Params(Q, K, np.eye(3)), t1=0.1)
    wanted = np.stack([closures.covariance(S0, k.T @ q, 0.1) for q, k in zip(Q, K, strict=True)])
    assert relative(out.cov[:, -1], wanted).max() < 1e-7


@pytest.mark.parametrize("method", ["auto", "stiff"])
def test_stiff_laws_are_noticed_and_solved(method: str) -> None:
    rates = np.diag([1e6, 1.0, 0.1])
    m0 = np.array([1.0, 2.0, 3.0])
    p = Relaxation(rates, np.zeros((3, 3)))
    out = solve(relaxing, m0, np.eye(3), p, t1=10.0, method=method, max_steps=3000)
    assert np.isinf(out.blow_up_time)  # an explicit method alone needs millions of steps
    assert np.allclose(out.mean[-1], m0 * np.exp(-10 * np.diag(rates)), atol=1e-7)
    assert np.allclose(out.cov[-1], np.diag(np.exp(-20 * np.diag(rates))), atol=1e-7)


@pytest.mark.parametrize("method", ["explicit", "stiff"])
@pytest.mark.parametrize("start", [0.0, pytest.param(1.0, marks=pytest.mark.slow)])
def test_additive_noise_of_rank_one_reaches_every_direction(start: float, method: str) -> None:
    rng = np.random.default_rng(6)
    d, t = 3, 0.7
    rate = 2 * np.eye(d) + rng.normal(size=(d, d)) / 2
    b = np.zeros((d, d))
    b[:, 0] = rng.normal(size=d)
    out = solve(diffusing, np.ones(d), start * np.eye(d), Relaxation(rate, b), t1=t, method=method)
    both = expm(np.block([[-rate, b @ b.T], [np.zeros((d, d)), rate.T]]) * t)
    flow = both[:d, :d]
    wanted = start * flow @ flow.T + both[:d, d:] @ flow.T
    assert np.abs(out.cov[-1] - wanted).max() < 1e-8
    assert np.linalg.eigvalsh(out.cov[-1])[0] > -1e-16
    assert np.allclose(out.factor[-1] @ out.factor[-1].T, out.cov[-1], atol=1e-14)


def test_a_weight_that_stops_to_be_integrable_ends_the_solution() -> None:
    # s' = 2 s^2 / (1 - s) from 1/10: s reaches 1 at t = (9 - log 10) / 2, a finite value
    with pytest.warns(RuntimeWarning, match="stops to converge"):
        out = solve(
            growing, np.zeros(2), np.eye(2) / 10, Growing(np.eye(2), 1.0), t1=5.0, saves=[3.0, 5.0]
        )
    assert abs(out.blow_up_time / ((9 - np.log(10)) / 2) - 1) < 1e-6
    assert np.all(np.isfinite(out.cov[0])) and np.all(np.isnan(out.cov[1]))
    with pytest.raises(ValueError, match="Gaussian integral of the weight diverges"):
        solve(growing, np.zeros(2), 2 * np.eye(2), Growing(np.eye(2), 1.0), t1=5.0)


def test_exponential_growth_is_not_a_blow_up() -> None:
    p = Params(np.zeros((1, 2)), np.zeros((1, 2)), np.eye(2))  # m' = m, S' = 0
    out = solve(softmax, np.ones(2), np.eye(2), p, t1=100.0)
    assert np.isinf(out.blow_up_time)
    assert np.allclose(out.mean[-1] / np.exp(100.0), 1, rtol=1e-6)
    with pytest.warns(
        RuntimeWarning, match="overflow of the floating-point numbers, not a blow-up"
    ):
        out = solve(softmax, np.ones(2), np.eye(2), p, t1=1000.0, saves=[100.0, 1000.0])
    assert np.isinf(out.blow_up_time)
    assert np.all(np.isfinite(out.mean[0])) and np.all(np.isnan(out.mean[1]))


def test_running_out_of_steps_is_reported() -> None:
    p = Params(np.eye(2), -np.eye(2), np.eye(2))
    with pytest.warns(RuntimeWarning, match="max_steps"):
        out = solve(softmax, np.ones(2), np.eye(2), p, t1=10.0, max_steps=5)
    assert np.isnan(out.blow_up_time) and np.all(np.isnan(out.cov[-1]))


def test_single_precision() -> None:
    rng = np.random.default_rng(7)
    Q, K = rng.normal(size=(2, 3, 3))
    S0 = wishart(rng, 32, 3)
    out = solve(softmax, np.zeros(3), S0, Params(Q, K, np.eye(3)), t1=1.0, dtype="float32")
    exact = closures.blow_up_time(S0, K.T @ Q)
    ends = exact < 1
    assert out.cov.dtype == np.float32 and ends.any()
    assert np.abs(out.blow_up_time[ends] / exact[ends] - 1).max() < 1e-3


GOOD = {"Q": np.ones((2, 3)), "K": np.ones((2, 3)), "V": np.eye(3)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Q": np.ones((2, 4))}, r"Q must have shape \(d_k, d\), got \(2, 4\): d is 4 .* mean0"),
        ({"K": np.ones((3, 3))}, r"K must have shape .* d_k is 3 here and 2 in Q"),
        ({"V": np.ones(3)}, r"V must have shape \(d, d\), got \(3,\)"),
        ({"V": np.full((3, 3), np.nan)}, r"not finite: V\[0, 0\] = nan"),
        ({"cov0": np.arange(9.0).reshape(3, 3)}, "cov0 is not symmetric"),
        ({"cov0": np.diag([1.0, 1.0, -1.0])}, "not positive semi-definite: .* is -1"),
        ({"cov0": np.eye(2)}, r"cov0 has \(2, 2\)"),
        ({"mean0": np.zeros((4, 3)), "cov0": np.stack([np.eye(3)] * 5)}, "do not broadcast"),
        ({"t1": -1.0}, "t1 = -1"),
        ({"rtol": 0.0}, "rtol"),
        ({"method": "rk4"}, "method must be"),
        ({"saves": [0.0, 2.0]}, "saves must lie in"),
    ],
)
def test_bad_input_is_named(changes: dict, message: str) -> None:
    given = {"mean0": np.zeros(3), "cov0": np.eye(3), "t1": 1.0, **GOOD, **changes}
    params = {n: given.pop(n) for n in "QKV"}
    mean0, cov0 = given.pop("mean0"), given.pop("cov0")
    with pytest.raises(ValueError, match=message):
        solve(softmax, mean0, cov0, params, **given)


@pytest.mark.parametrize(
    ("d", "method", "dtype", "models"),
    [
        (3, "explicit", "float32", [l2]),
        (3, "stiff", "float32", [diffusing]),
        pytest.param(3, "explicit", "float32", [diffusing], marks=pytest.mark.slow),
        pytest.param(3, "stiff", "float64", [l2, diffusing], marks=pytest.mark.slow),
        pytest.param(9, "explicit", "float64", [l2, diffusing], marks=pytest.mark.slow),
    ],
)
def test_no_silent_promotion(d: int, method: str, dtype: str, models: list) -> None:
    """Both methods, in float32, which a float64 would promote; the rest is slow."""
    rng = np.random.default_rng(8)
    S0 = wishart(rng, 2, d) / 10
    options = {"t1": 0.1, "method": method, "rtol": 1e-4, "dtype": dtype}
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        given = Params(np.eye(d), -np.eye(d), np.eye(d)), Relaxation(np.eye(d), np.eye(d))
        for model in models:
            out = solve(model, np.zeros(d), S0, given[model is diffusing], **options)
            assert out.cov.dtype == dtype and np.all(np.isfinite(out.cov))

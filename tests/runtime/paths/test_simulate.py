"""`simulate` samples the published SDE: exact laws, bits, exits, steps, refusals.

Seeds are fixed, so a pass is reproducible; the stated false-alarm rates are those of a fresh seed.
"""

from __future__ import annotations

from typing import Any

import closed_form_laws as laws
import jax
import numpy as np
import pytest
import two_token_gap as gap
from scipy.stats import kstest

from derive.generated import shaped_attention as model
from derive.runtime.paths.results import Paths

Params = model.Params
GAMMA = 0.8
V2 = np.array([[1.0, 0.2], [0.2, 1.0]])
V3 = np.array([[1.3, 0.4, -0.2], [0.4, 0.8, 0.1], [-0.2, 0.1, 1.1]])
PROBS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
BIAS = np.array([0.02, 0.02, 0.02, 0.02, 0.05])  # of a quantile: 2 %, at q95 5 %

# (gamma^2, tau_0, t), exit_radius
ROWS = [
    ((0.125, 1.0, 0.75), 1e8),
    ((0.125, 0.25, 0.5), 1e3),
    ((0.25, 0.5, 0.5), 1e3),
    ((0.8, 0.5, 0.5), 1e8),
]


def _gaps(row: tuple[float, float, float], radius: float, paths: int) -> tuple[Paths, np.ndarray]:
    """The paths and the gap w at the end, +inf for a path that has exited."""
    gamma2, tau_0, t1 = row
    sample = model.simulate(
        V2, Params(np.sqrt(gamma2), tau_0), t1=t1, paths=paths, seed=20, exit_radius=radius
    )
    V = sample.V[:, -1]
    w = V[:, 0, 0] - 2 * V[:, 0, 1] + V[:, 1, 1]
    return sample, np.where(np.isfinite(sample.exit_time), np.inf, w)


def _quantile_errors(row: tuple[float, float, float], paths: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact quantiles, and the standard errors sqrt(p (1 - p) / N) / density of sample ones."""
    exact = gap.quantiles(*row, 1.6, PROBS)
    step = 1e-3 * exact
    above, below = (gap.cdf(*row, 1.6, exact + s) for s in (step, -step))
    density = (above - below) / (2 * step)
    return exact, np.sqrt(PROBS * (1 - PROBS) / paths) / density


@pytest.mark.parametrize(
    ("row", "radius"), [ROWS[0], *(pytest.param(*r, marks=pytest.mark.slow) for r in ROWS[2::2])]
)
def test_quantiles_of_the_two_token_gap_are_those_of_the_published_sde(
    row: tuple[float, float, float], radius: float
) -> None:
    """2 % (5 % in the tails) for the step's bias, plus 3.5 standard errors of a sample quantile.

    Without bias a quantile fails with probability below 5e-4; 10 of them: below 0.5 %.  The rows:
    one whose paths explode, one whose paths hardly do; the slow test below has all of them.
    """
    sample, w = _gaps(row, radius, 2**14)
    exact, error = _quantile_errors(row, 2**14)
    found = np.quantile(w, PROBS, method="lower")
    assert np.all(np.abs(found - exact) <= BIAS * exact + 3.5 * error), found / exact - 1
    _exit_share(row, radius, sample, 2**14)


@pytest.mark.slow
@pytest.mark.parametrize(("row", "radius"), ROWS)
def test_quantiles_of_many_paths_are_exact_to_two_percent(
    row: tuple[float, float, float], radius: float
) -> None:
    """2^17 paths, 2 % (5 % in the tails), the sampling error included."""
    sample, w = _gaps(row, radius, 2**17)
    exact, _ = _quantile_errors(row, 2**17)
    found = np.quantile(w, PROBS, method="lower")
    assert np.all(np.abs(found - exact) <= BIAS * exact), found / exact - 1
    _exit_share(row, radius, sample, 2**17)


def _exit_share(row: tuple[float, float, float], radius: float, sample: Paths, paths: int) -> None:
    """Explosions are found (10 % and 3.5 standard errors: false alarm 5e-4), others not invented.

    For gamma^2 >= 1/2 no path explodes: fewer than one in a thousand may leave the radius.
    """
    share = float(np.mean(np.isfinite(sample.exit_time)))
    assert sample.exited == share
    exact = gap.exploded(*row, 1.6)
    if exact > 1e-3:
        margin = 0.1 * exact + 3.5 * np.sqrt(exact * (1 - exact) / paths)
        assert abs(share - exact) <= margin, (share, exact)
    else:
        assert share < 1e-3, share


def test_adding_paths_changes_no_earlier_path() -> None:
    few = model.simulate(V2, Params(GAMMA, 0.6), t1=0.3, paths=37, seed=5, saves=3)
    many = model.simulate(V2, Params(GAMMA, 0.6), t1=0.3, paths=300, seed=5, saves=3)
    np.testing.assert_array_equal(few.V, many.V[:37])
    np.testing.assert_array_equal(few.exit_time, many.exit_time[:37])
    assert len(np.unique(many.V[:, -1, 0, 0])) == 300  # and every path is its own


@pytest.mark.parametrize("dt", [None, 0.02])
def test_block_size_changes_no_bits(dt: float | None) -> None:
    runs = [
        model.simulate(V2, Params(GAMMA, 0.3), t1=0.3, paths=200, seed=6, dt=dt, block_size=size)
        for size in (None, 64)
    ]
    for other in runs[1:]:
        np.testing.assert_array_equal(runs[0].V, other.V)
        np.testing.assert_array_equal(runs[0].exit_time, other.exit_time)


def test_the_seed_decides_the_bits() -> None:
    first, again, other = (
        model.simulate(V2, Params(GAMMA, 1.0), t1=0.2, paths=20, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.V, again.V)
    assert np.all(first.V[:, -1] != other.V[:, -1])


@pytest.mark.parametrize("tau_0", [pytest.param(0.5, marks=pytest.mark.slow), 1.0])
def test_identical_tokens_stay_identical(tau_0: float) -> None:
    V0 = np.array([[1.0, 1.0, 0.3], [1.0, 1.0, 0.3], [0.3, 0.3, 0.8]])
    sample = model.simulate(V0, Params(GAMMA, tau_0), t1=0.4, paths=64, seed=7, saves=5)
    V = sample.V
    size = np.max(np.abs(V), axis=(-2, -1))
    for a, b in (((0, 0), (0, 1)), ((0, 0), (1, 1)), ((0, 2), (1, 2))):
        difference = np.abs(V[..., a[0], a[1]] - V[..., b[0], b[1]])
        assert np.max(difference / size) < 1e-9
    assert np.min(np.linalg.eigvalsh(V)[..., 0] / size) > -1e-12
    assert np.std(V[:, -1, 0, 0]) > 0.1  # they do move


def test_all_tokens_identical_follow_the_one_token_law() -> None:
    """Attention does nothing to equal tokens.  KS at level 1e-3."""
    t1 = 0.5
    sample = model.simulate(np.ones((2, 2)), Params(GAMMA, 0.3), t1=t1, paths=2**12, seed=8)
    V = sample.V[:, -1]
    np.testing.assert_allclose(V, V[:, :1, :1] * np.ones((2, 2)), rtol=1e-9)
    law = laws.one_token_log_law(laws.rate(GAMMA), t1)
    assert kstest(np.log(V[:, 0, 0]), law.cdf).pvalue > 1e-3


def test_paths_are_positive_semi_definite_and_symmetric() -> None:
    sample = model.simulate(V3, Params(GAMMA, 0.4), t1=0.5, paths=128, seed=9, saves=4)
    np.testing.assert_array_equal(sample.V, np.swapaxes(sample.V, -1, -2))
    size = np.max(np.abs(sample.V), axis=(-2, -1))
    assert np.min(np.linalg.eigvalsh(sample.V)[..., 0] / size) > -1e-13


@pytest.mark.parametrize("gamma", [pytest.param(0.3, marks=pytest.mark.slow), 0.8])
def test_one_token_is_log_normal(gamma: float) -> None:
    """KS at level 1e-3 each, 2^13 paths."""
    t1 = 0.6
    sample = model.simulate(np.array([[1.7]]), Params(gamma, 0.5), t1=t1, paths=2**13, seed=10)
    law = laws.one_token_log_law(laws.rate(gamma), t1)
    logs = np.log(sample.V[:, -1, 0, 0] / 1.7)
    assert kstest(logs, law.cdf).pvalue > 1e-3
    assert kstest(logs, laws.one_token_log_law(1.3 * laws.rate(gamma), t1).cdf).pvalue < 1e-3


@pytest.mark.parametrize("m", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_log_det_without_attention_is_normal(m: int) -> None:
    """KS at level 1e-3 each, 2^13 paths."""
    t1, V0 = 0.5, V3[:m, :m]
    sample = model.simulate(V0, Params(GAMMA, np.inf), t1=t1, paths=2**13, seed=11)
    found = np.linalg.slogdet(sample.V[:, -1])[1] - np.linalg.slogdet(V0)[1]
    assert kstest(found, laws.log_det_law(m, laws.rate(GAMMA), t1).cdf).pvalue > 1e-3


def test_moments_without_attention_are_the_closed_form() -> None:
    """z-tests of E V (6), E tr V^2 and E (tr V)^2 at 4 standard errors: below 1e-3 in all."""
    t1, gamma = 0.3, 0.6
    sample = model.simulate(V3, Params(gamma, np.inf), t1=t1, paths=2**14, seed=12)
    V = sample.V[:, -1]
    rows, columns = np.tril_indices(3)
    p, q = laws.trace_moments(V3, laws.rate(gamma), t1)
    values = np.column_stack(
        [
            V[:, rows, columns],
            np.einsum("pab,pba->p", V, V),
            np.einsum("paa->p", V) ** 2,
        ]
    )
    exact = np.concatenate([V3[rows, columns], [p, q]])
    z = (values.mean(axis=0) - exact) / (values.std(axis=0, ddof=1) / np.sqrt(len(V)))
    assert np.all(np.abs(z) < 4), z


def test_results_are_float64_and_the_global_setting_is_left_alone() -> None:
    before = jax.config.jax_enable_x64
    sample = model.simulate(V2, Params(GAMMA, 1.0), t1=0.1, paths=16, seed=13)
    assert sample.V.dtype == np.float64 and sample.exit_time.dtype == np.float64
    assert isinstance(sample.V, np.ndarray)
    assert jax.config.jax_enable_x64 == before
    assert np.any(sample.V.astype(np.float32) != sample.V)  # not float32 in a float64 array
    with pytest.raises(ValueError):
        model.simulate(V2, Params(GAMMA, 1.0), t1=0.1, paths=16, seed=13, dt=1.0)
    assert jax.config.jax_enable_x64 == before


def test_float32_runs_and_has_the_law_of_one_token() -> None:
    """KS at level 1e-3."""
    sample = model.simulate(
        np.array([[1.0]]), Params(GAMMA, 1.0), t1=0.5, paths=4096, seed=14, dtype="float32"
    )
    assert sample.V.dtype == np.float32
    law = laws.one_token_log_law(laws.rate(GAMMA), 0.5)
    assert kstest(np.log(sample.V[:, -1, 0, 0].astype(float)), law.cdf).pvalue > 1e-3


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match='"float64" or "float32"'):
        model.simulate(V2, Params(GAMMA, 1.0), t1=0.1, paths=4, seed=0, dtype="float16")


@pytest.mark.parametrize("dt", [None, 1 / 256])
def test_a_path_that_exits_stands_still_inside_the_radius(dt: float | None) -> None:
    radius = 3.0
    sample = model.simulate(
        V2, Params(GAMMA, 0.5), t1=0.5, paths=512, seed=15, saves=11, dt=dt, exit_radius=radius
    )
    gone = np.isfinite(sample.exit_time)
    assert 0.1 < sample.exited == np.mean(gone) < 0.95
    assert np.all(np.isfinite(sample.V))
    assert np.max(np.abs(sample.V)) <= radius
    assert np.all((sample.exit_time[gone] > 0) & (sample.exit_time[gone] <= 0.5 + 1e-12))
    after = sample.exit_time[:, None] <= sample.times[None, :]  # (paths, saves)
    for save in range(len(sample.times) - 1):
        rows = after[:, save]
        np.testing.assert_array_equal(sample.V[rows, save], sample.V[rows, save + 1])
    alive = ~gone
    assert np.all(sample.V[alive, -1] != sample.V[alive, -2])


def test_exit_does_not_change_the_path_before_it() -> None:
    near, far = (
        model.simulate(
            V2, Params(GAMMA, 0.5), t1=0.4, paths=128, seed=16, saves=9, exit_radius=radius
        )
        for radius in (3.0, 1e8)
    )
    before = near.exit_time[:, None] > near.times[None, :]
    assert np.any(~before)
    np.testing.assert_array_equal(near.V[before], far.V[before])


def test_explosive_parameters_give_finite_paths() -> None:
    sample = model.simulate(
        3 * V3, Params(0.35, 0.1), t1=0.5, paths=128, seed=17, exit_radius=1e6, saves=3
    )
    assert np.all(np.isfinite(sample.V))
    assert sample.exited > 0.05


@pytest.mark.parametrize("options", [{}, pytest.param({"scheme": "euler"}, marks=pytest.mark.slow)])
def test_fixed_steps_have_the_mean_and_second_moments(options: dict[str, Any]) -> None:
    """Without attention both schemes keep E V exactly; (tr V)^2 to O(dt).

    z-tests at 4 standard errors (7: below 1e-3), with 2 % more for the second moment.
    """
    t1, gamma = 0.25, 0.5
    sample = model.simulate(
        V3, Params(gamma, np.inf), t1=t1, paths=2**13, seed=18, dt=1 / 128, **options
    )
    V = sample.V[:, -1]
    rows, columns = np.tril_indices(3)
    low = V[:, rows, columns]
    error = low.std(axis=0, ddof=1) / np.sqrt(len(V))
    assert np.all(np.abs(low.mean(axis=0) - V3[rows, columns]) < 4 * error)
    squares = np.einsum("paa->p", V) ** 2
    _, q = laws.trace_moments(V3, laws.rate(gamma), t1)
    margin = 4 * squares.std(ddof=1) / np.sqrt(len(V)) + 0.02 * q
    assert abs(squares.mean() - q) < margin


def test_a_fixed_step_that_is_too_large_is_refused_with_one_that_would_do() -> None:
    import re

    params = Params(GAMMA, 0.02)
    with pytest.raises(ValueError, match="too large") as caught:
        model.simulate(V3, params, t1=1.0, paths=8, seed=0, dt=0.1)
    message = str(caught.value)
    found = re.search(r"dt = (\S+) would do", message)
    assert found, message
    good = float(found.group(1))
    sample = model.simulate(V3, params, t1=4 * good, paths=8, seed=0, dt=good)
    assert np.all(np.isfinite(sample.V))


@pytest.mark.parametrize("dt", [0.0, -0.1, 2.0, np.nan])
def test_a_fixed_step_outside_the_interval_is_refused(dt: float) -> None:
    with pytest.raises(ValueError, match="dt"):
        model.simulate(V2, Params(GAMMA, 1.0), t1=1.0, paths=8, seed=0, dt=dt)


def test_euler_needs_a_step_and_schemes_have_names() -> None:
    with pytest.raises(ValueError, match="pass dt"):
        model.simulate(V2, Params(GAMMA, 1.0), t1=1.0, paths=8, seed=0, scheme="euler")
    with pytest.raises(ValueError, match="scheme"):
        model.simulate(V2, Params(GAMMA, 1.0), t1=1.0, paths=8, seed=0, scheme="milstein")


GOOD: dict[str, Any] = {
    "V0": V2,
    "params": Params(GAMMA, 1.0),
    "t1": 0.2,
    "paths": 4,
    "seed": 0,
}

BAD: list[tuple[dict[str, Any], str]] = [
    ({"V0": np.array([[1.0, 0.5], [0.2, 1.0]])}, r"not symmetric.*\(V0 \+ V0\.T\) / 2"),
    ({"V0": np.array([[1.0, 2.0], [2.0, 1.0]])}, "positive semi-definite.*eigenvalue"),
    ({"V0": np.array([[-1.0]])}, "positive semi-definite"),
    ({"V0": np.ones((2, 3))}, r"square.*\(2, 3\)"),
    ({"V0": np.ones(3)}, r"square.*\(3,\)"),
    ({"V0": np.ones((0, 0))}, "V0"),
    ({"V0": np.array([[1.0, np.nan], [np.nan, 1.0]])}, "not finite"),
    ({"V0": np.array([[np.inf]])}, "not finite"),
    ({"params": Params(1.5, 1.0)}, r"gamma = 1.5 .*\(0, 1\)"),
    ({"params": Params(0.0, 1.0)}, "gamma = 0 "),
    ({"params": Params(-0.5, 1.0)}, "gamma = -0.5"),
    ({"params": Params(0.5, 0.0)}, "tau_0 = 0 .*positive"),
    ({"params": Params(0.5, -1.0)}, "tau_0 = -1 "),
    ({"params": Params(np.nan, 1.0)}, "gamma is not a number"),
    ({"params": (0.5,)}, "Params"),
    ({"params": {"gamma": 0.5, "tau": 1.0}}, "tau_0.*unknown.*'tau'"),
    ({"saves": [0.1, 0.1]}, "increasing"),
    ({"saves": [0.2, 0.1]}, "increasing"),
    ({"saves": [-0.1, 0.1]}, "saves must lie in"),
    ({"saves": [0.1, 0.3]}, "saves must lie in"),
    ({"saves": []}, "saves"),
    ({"saves": 1}, "saves"),
    ({"saves": [0.0, np.nan]}, "saves"),
    ({"t1": 0.0}, "t1"),
    ({"t1": -1.0}, "t1"),
    ({"t1": np.inf}, "t1"),
    ({"t1": np.nan}, "t1"),
    ({"exit_radius": 1.0}, "exit_radius = 1 .*larger"),
    ({"exit_radius": 0.5}, "exit_radius"),
    ({"exit_radius": np.nan}, "exit_radius"),
    ({"paths": 0}, "paths"),
    ({"paths": 2.5}, "paths"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_senseless_input_is_refused_with_a_message_that_names_it(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.simulate(**{**GOOD, **change})


def test_the_refused_inputs_are_changes_of_one_that_runs() -> None:
    sample = model.simulate(**GOOD)
    assert sample.V.shape == (4, 2, 2, 2)
    np.testing.assert_array_equal(sample.times, [0.0, 0.2])
    np.testing.assert_allclose(sample.V[:, 0], np.broadcast_to(V2, (4, 2, 2)), rtol=0, atol=0)


def test_states_that_the_sphere_does_not_hold_are_refused() -> None:
    from derive.generated import random_value_sphere_attention as model

    params, settings = model.Params(beta=1.0, d=3.0), {"t1": 0.1, "paths": 2, "seed": 0}
    with pytest.raises(ValueError, match=r"V_aa = 1, but V0\[0,0\] = 2"):
        model.simulate(2 * np.eye(2), params, **settings)
    with pytest.raises(ValueError, match="V0 has rank 4, but tokens of d = 3"):
        model.simulate(np.eye(4), params, **settings)
    flat = np.ones((4, 4))  # four equal tokens fit anywhere
    assert np.all(np.isfinite(model.simulate(flat, params, **settings).V))

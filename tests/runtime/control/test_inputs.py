"""What `solve` and `turnpike` refuse: numbers that are not what the definition declared."""

from __future__ import annotations

import dataclasses

import control_models as models
import numpy as np
import pytest

from derive.runtime.control import entry as optimal_control
from derive.runtime.control import extremals

MODEL = dataclasses.replace(
    models.linear(),
    ranges={"goal": (0, "inf", True, True, "positive")},
    kinds={"Q": "symmetric", "R": "symmetric", "F": "symmetric", "B": "positive"},
)
ONE = np.eye(2)
GOOD = models.Linear(-ONE, ONE + 1, np.ones(2), ONE, ONE, 0 * ONE, np.zeros(2))
SKEW = np.array([[1.0, 1.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("Q", SKEW, r"^Q is not symmetric \(off by 1\)"),
        ("R", SKEW, "^R is not symmetric"),
        ("F", np.array([[0.0, 1e-6], [0.0, 0.0]]), "^F is not symmetric"),
        ("B", ONE, r"^B is declared positive, but B\[0, 1\] = 0"),
        ("goal", np.array([1.0, -1.0]), "^goal = -1 is outside its range: positive"),
        ("goal", np.array([1.0, 0.0]), "^goal = 0 is outside its range: positive"),
        ("G", ONE + 1j, "^G is complex"),
        ("G", np.array([[1.0, np.nan], [0.0, 0.0]]), "^G has entries that are not finite"),
        ("G", np.ma.masked_equal(ONE, 1.0), r"^G\[\d, \d\] is masked"),
        ("G", [["a", "b"], ["c", "d"]], "^G takes real numbers, got text"),
        ("G", [[1.0], [1.0, 2.0]], "^G is no array of numbers"),
        ("G", np.zeros((0, 0)), "^G is empty"),
    ],
)
def test_data_must_be_what_they_were_declared(name, value, said):
    params = GOOD._replace(**{name: value})
    for call in (
        lambda: optimal_control.turnpike(MODEL, params, starts=1),
        lambda: optimal_control.solve(MODEL, np.ones(2), params, T=1.0),
    ):
        with pytest.raises(ValueError, match=said):
            call()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"T": -1.0}, "T = -1 must be a positive"),
        ({"T": np.inf}, "T = inf must be a positive"),
        ({"T": 1 + 1j}, "the horizon T is complex"),
        ({"T": "long"}, "the horizon T takes real numbers, got text"),
        ({"T": 1.0, "tolerance": 0}, "tolerance must be positive"),
        ({"T": 1.0, "tolerance": np.nan}, "tolerance must be positive"),
        ({"T": 1.0, "most_intervals": 0}, "most_intervals must be a positive integer"),
        ({"T": 1.0, "most_intervals": 40.5}, "most_intervals must be a positive integer"),
        ({"T": 1.0, "starts": -1}, "starts must be a positive integer"),
        ({"T": 1.0, "near": "the goal"}, "near takes what turnpike"),
        # read after the solution; quick: the next test
        pytest.param({"T": 1.0, "saves": 1}, "saves", marks=pytest.mark.slow),
        pytest.param({"T": 1.0, "saves": [0.0, 2.0]}, "saves", marks=pytest.mark.slow),
    ],
)
def test_options_out_of_range(options, said):
    with pytest.raises(ValueError, match=said):
        optimal_control.solve(MODEL, np.ones(2), GOOD, **options)


@pytest.mark.parametrize("saves", [1, [0.0, 2.0]])
def test_times_out_of_range(saves):
    with pytest.raises(ValueError, match="saves"):
        extremals.save_times(saves, 1.0)


@pytest.mark.parametrize("x0", [np.array([1.0, np.nan]), np.array([1j, 0]), np.zeros(0)])
def test_first_states_that_are_no_numbers(x0):
    with pytest.raises(ValueError, match=r"^x0\.x "):
        optimal_control.solve(MODEL, x0, GOOD, T=1.0)


def test_integers_of_numpy_are_numbers():
    few = np.int64(3)
    found = optimal_control.solve(
        MODEL, np.ones(2, int), GOOD, T=np.int64(2), saves=few, starts=few, most_intervals=few * 100
    )
    assert found.times.tolist() == [0.0, 1.0, 2.0]

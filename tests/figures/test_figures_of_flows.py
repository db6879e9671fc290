"""Figures of token flows, each at a small size, against what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run as _run
from small_figures import OF_FLOWS, draw

from derive.figures import limit_objects, staircase

pytest.importorskip("matplotlib")


@pytest.mark.parametrize("name", OF_FLOWS)
def test_a_figure_draws(small: Callable[[str], Any], tmp_path: Path, name: str) -> None:
    draw(small, name, tmp_path)


def test_tokens_agree_where_the_derived_curve_says(small: Callable[[str], Any]) -> None:
    request, arrays = small("consensus")
    for n in request["tokens"]:
        for share, when in zip(arrays[f"share_{n}"], arrays[f"curve_{n}"], strict=True):
            late = arrays["times"] > 1.5 * when + 1
            early = arrays["times"] < 0.5 * when
            assert np.all(share[early] < 0.05) and np.all(share[late] > 0.95)
    assert arrays["curve_8"][0] == pytest.approx(4.6, abs=0.5)


def test_limit_objects_are_reached_and_leaders_are_those_that_were_told(
    small: Callable[[str], Any],
) -> None:
    request, arrays = small("limit_objects")
    for d in request["dimensions"]:
        late = arrays[f"way_{d}"][-1]
        assert np.abs(arrays[f"attention_{d}"].max(axis=1) - 1).max() < 1e-3
        seen = np.argmax(arrays[f"attention_{d}"], axis=1)
        assert np.linalg.norm(late - late[seen], axis=1).max() < 0.05
    known = arrays["leaders_1"] >= 0
    assert known.sum() >= 5
    assert np.array_equal(
        np.argmax(arrays["attention_1"], axis=1)[known], arrays["leaders_1"][known]
    )
    corners = limit_objects.hull(np.array([[0.0, 0], [2, 0], [1, 0.2], [2, 2], [0, 2], [1, 1]]))
    assert corners.tolist() == [[0, 0], [2, 0], [2, 2], [0, 2]]


def test_tokens_blow_up_when_it_is_told(small: Callable[[str], Any]) -> None:
    """Near the end the size falls as the root of the time that is left."""
    _, arrays = small("blow_up")
    told = np.isfinite(arrays["ends"])
    assert told.sum() >= 2
    for size, end in zip(arrays["size"][told], arrays["ends"][told], strict=True):
        before = np.flatnonzero(arrays["times"] < end - 0.005)[[-8, -1]]
        left = np.log(end - arrays["times"][before])
        assert np.diff(np.log(size[before]))[0] / np.diff(left)[0] == pytest.approx(-0.5, abs=0.05)


def test_the_energy_stands_at_the_sum_of_squared_masses(small: Callable[[str], Any]) -> None:
    _, arrays = small("staircase")
    assert np.all(np.diff(arrays["energy"]) > -1e-9)
    assert np.all(np.diff(arrays["counts"]) <= 0) and arrays["counts"][-1] < arrays["counts"][0]
    assert arrays["energy"][-1] == pytest.approx(arrays["plateau"][-1], rel=0.05)


def test_angles_close_with_the_derived_powers(small: Callable[[str], Any]) -> None:
    request, arrays = small("angle_tails")
    late = arrays["times"] > 50
    powers = [float(arrays[f"{name}_power"]) for name in request["models"]]
    assert np.isnan(powers[0]) and np.isfinite(powers[1:]).all()
    for name, power in zip(request["models"], powers, strict=True):
        if np.isfinite(power):
            slope = np.polyfit(np.log(arrays["times"][late]), np.log(arrays[name][late]), 1)[0]
            assert -slope == pytest.approx(power, rel=0.05), name


def test_caps_hold_as_their_bounds_say(small: Callable[[str], Any]) -> None:
    request, arrays = small("metastability")
    t = arrays["times"]
    closed = t >= arrays["closes"]
    together = t <= arrays["stays"]
    assert (closed & together).any()
    assert np.all(arrays["spread"][:, closed & together] <= request["closed"])
    assert np.all(arrays["furthest"][together] <= 2 * arrays["width"])


def test_the_energy_is_what_its_dissipation_adds_up_to(small: Callable[[str], Any]) -> None:
    request, arrays = small("energy")
    for name in request["models"]:
        energy = arrays[f"{name}_energy"]
        assert np.ptp(energy) > 0.1 * energy[0]
        np.testing.assert_allclose(arrays[f"{name}_identity"], energy, rtol=1e-6)


def test_harmonics_grow_as_derived(small: Callable[[str], Any]) -> None:
    _, arrays = small("harmonics")
    np.testing.assert_allclose(arrays["measured"], arrays["derived"], rtol=1e-3)


def test_a_film_has_a_picture_for_every_save(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    short = staircase.REQUEST | {"tokens": 4, "times": [0.05, 1.0], "saves": 3}
    monkeypatch.setattr(staircase, "REQUEST", short)
    monkeypatch.chdir(tmp_path)
    code, out, _ = _run(capsys, "figure", "staircase", "--film", "--out", "results")
    assert code == 0 and "staircase.gif" in out
    assert Image.open(tmp_path / "results" / "staircase.gif").n_frames == 3
    code, _, err = _run(capsys, "figure", "densities", "--film", "--out", "results")
    assert code == 2 and "no film" in err

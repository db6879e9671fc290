"""Results of kernels are shown in a line, drawn, and labelled."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import derive
from derive.errors import RequestError
from derive.runtime.closures.results import Moments, Particles
from derive.runtime.control.results import Extremal
from derive.runtime.paths.results import Paths


@pytest.fixture
def paths() -> Paths:
    kernel = derive.load("shaped_attention")
    params = kernel.Params(gamma=0.5, tau_0=1.0)
    return kernel.simulate(0.2 + 0.8 * np.eye(2), params, t1=0.1, paths=8, seed=0, saves=3)


def moments() -> Moments:
    derive.load("linear_closure")
    eye = np.broadcast_to(np.eye(2), (3, 4, 2, 2))
    return Moments(np.linspace(0, 1, 4), np.zeros((3, 4, 2)), eye, eye, np.full(3, np.inf))


def test_a_result_is_shown_in_a_line(paths: Paths) -> None:
    assert repr(paths) == "<Paths: times 0..0.1 (3), V 8x3x2x2, exit_time inf (8)>"
    assert "\n" not in repr(moments()) and "cov 3x4x2x2" in repr(moments())
    assert "x 4x5x2" in repr(Particles(np.arange(4.0), np.zeros((4, 5, 2))))


def test_a_picture_has_the_medians(paths: Paths) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = paths.plot()  # type: ignore[attr-defined]
    assert [line.get_label() for line in axes.lines] == ["V[1,1]", "V[1,2]", "V[2,2]"]
    drawn = axes.lines[1].get_ydata()
    assert drawn == pytest.approx(np.median(paths.V[:, :, 0, 1], axis=0))
    assert derive.plot(moments(), ax=axes) is axes


def test_labelled_arrays_have_named_axes(paths: Paths) -> None:
    pytest.importorskip("xarray")
    found = paths.to_xarray()  # type: ignore[attr-defined]
    assert dict(found.sizes) == {"path": 8, "time": 3, "token": 2, "other": 2}
    assert found["time"].values == pytest.approx(paths.times)
    assert derive.to_xarray(moments())["cov"].dims == ("batch_0", "time", "coordinate", "other")


def test_an_extremal_has_its_arrays_by_name() -> None:
    from collections import namedtuple

    from derive.face.results import curves

    X, U = namedtuple("X", ["S"]), namedtuple("U", ["V"])
    square = np.zeros((5, 2, 2))
    found = curves(Extremal(np.arange(5.0), X(square), X(square), U(square), np.float64(1), None))
    assert {n: a for n, (a, _) in found.items()} == {
        "S": ("time", "S_0", "S_1"),
        "p_S": ("time", "S_0", "S_1"),
        "V": ("time", "V_0", "V_1"),
    }


def test_what_is_missing_is_told(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RequestError, match=r"pip install 'derive\[xarray\]'"):
        derive.to_xarray(paths)
    with pytest.raises(RequestError, match=r"pip install 'derive\[plot\]'"):
        derive.plot(paths)
    with pytest.raises(RequestError, match="no result over time"):
        derive.to_xarray((1, 2))

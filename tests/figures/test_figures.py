"""`derive figure`: names, cache and drawings; each computation at a small size, against what is
known of it.  Seeds are fixed, so nothing here can fail by chance."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import closures
import jax
import numpy as np
import pytest
from command_line import run as _run
from small_figures import DEAR, MODULES, OF_FLOWS, SMALL, draw

from derive.figures import (
    catalogue,
    cone,
    correlation,
    densities,
    explosion,
    finite_width,
)
from derive.figures import turnpike as turnpikes
from derive.figures.cache import cached, key
from derive.figures.instances import TITLES
from derive.registry import registered

pytest.importorskip("matplotlib")


def test_the_list_names_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "figure")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == catalogue.names()
    drawn = {n for n in catalogue.names() if not n.startswith("turnpike_")}
    assert set(MODULES) == drawn


def test_every_turnpike_is_of_a_registered_model() -> None:
    control = {e.name for e in registered() if e.method == "optimal_control"}
    assert set(TITLES) <= control


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("corelation", "did you mean correlation?"),
        ("turnpike_mean", "did you mean turnpike_mean_tracking?"),
        ("zzz", "known figures: correlation, densities"),
    ],
)
def test_an_unknown_figure_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, said: str
) -> None:
    code, _, err = _run(capsys, "figure", name, "--out", tmp_path / "new")
    assert code == 2 and said in err
    assert not (tmp_path / "new").exists()


def test_naming_a_figure_imports_nothing_heavy() -> None:
    program = (
        "import sys; from derive.cli import main; code = main(['figure']);"
        "heavy = {'jax', 'sympy', 'matplotlib', 'numpy'} & set(sys.modules);"
        "sys.exit(code or (f'imported: {heavy}' if heavy else 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] * (n in DEAR))
        for n in sorted(set(MODULES) - set(OF_FLOWS))
    ],
)
def test_a_figure_draws(small: Callable[[str], Any], tmp_path: Path, name: str) -> None:
    draw(small, name, tmp_path)


def test_the_command_writes_a_picture_and_keeps_its_arrays(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(densities, "REQUEST", densities.REQUEST | SMALL["densities"])
    monkeypatch.chdir(tmp_path)
    code, out, err = _run(capsys, "figure", "densities", "--out", "pictures")
    assert code == 0 and "densities" in err  # progress
    *pictures, kept = out.split()
    assert pictures == [f"pictures/densities.{kind}" for kind in ("png", "svg", "pdf")]
    assert kept.startswith("pictures/cache/densities-")
    first = [Path(picture).read_bytes() for picture in pictures]

    def fail(*_: Any) -> Any:
        raise AssertionError("computed although cached")

    fail.__module__ = densities.__name__
    monkeypatch.setattr(densities, "compute", fail)
    code, out, _ = _run(capsys, "figure", "densities", "--out", "pictures")
    assert code == 0 and "was there" in out
    assert [Path(picture).read_bytes() for picture in pictures] == first
    for file in tmp_path.rglob("*.*"):
        assert str(tmp_path).encode() not in file.read_bytes(), file


def test_a_key_knows_what_it_depends_on() -> None:
    first = key("a", {"seed": 0}, [b"x"])
    assert first == key("a", {"seed": 0}, [b"x"])
    others = {
        key("b", {"seed": 0}, [b"x"]),
        key("a", {"seed": 1}, [b"x"]),
        key("a", {"seed": 0}, [b"y"]),
    }
    assert len(others | {first}) == 4


def test_a_damaged_cache_is_computed_anew(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "a.npz"
    arrays, kept = cached(file, lambda: {"a": [1.0, 2.0]})
    assert not kept and arrays["a"].sum() == 3
    assert cached(file, lambda: {})[1]
    whole = file.read_bytes()
    for text in (b"", b"nonsense", whole[: len(whole) // 2]):
        file.write_bytes(text)
        arrays, kept = cached(file, lambda: {"a": [1.0, 2.0]})
        assert not kept and arrays["a"].sum() == 3
    assert [f.name for f in file.parent.iterdir()] == ["a.npz"]


def test_requests_are_plain_data() -> None:
    for module in (*MODULES.values(), turnpikes):
        assert json.loads(json.dumps(module.REQUEST)) == module.REQUEST


# What the numbers say -------------------------------------------------------------------------


@pytest.mark.slow  # quick: test_the_network_starts_at_V0
def test_networks_start_at_the_given_covariance_and_only_the_shaped_one_stays() -> None:
    request = correlation.REQUEST | {"width": 100, "depth": 100, "paths": 64}
    arrays = correlation.compute(request, lambda share: None)
    for name in correlation.NETWORKS:
        assert np.allclose(arrays[name][:, 0], 0.2)
    assert arrays["unshaped"][0, -1] > 0.98  # even the 5 % percentile
    assert arrays["Pre-LN"][2, -1] > 0.95
    assert arrays["shaped"][2, -1] < 0.5
    # 64 networks of 15 dependent pairs: the median of the shaped one is known to about 0.05.
    assert abs(arrays["shaped"][2, -1] - arrays["sde"][2, -1]) < 0.15


def test_the_reference_attention_has_the_law_of_dense_weights() -> None:
    """One unshaped attention against Q, K, V drawn as n x n matrices: means of A X W_V squared.

    4000 draws each; the false-alarm rate of 5 standard errors on 6 means is below 1e-5.
    """
    rng = np.random.default_rng(5)
    m, n, count = 3, 8, 4000
    X = rng.standard_normal((m, n))
    many = np.broadcast_to(X, (count, m, n))
    short = correlation._attention(many, rng)
    W = rng.standard_normal((3, count, n, n)) / np.sqrt(n)
    logits = (X @ W[0]) @ np.swapaxes(X @ W[1], -1, -2) / np.sqrt(n)
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    dense = weights @ (X @ W[2])
    grams = [np.einsum("pai,pbi->pab", Y, Y) / n for Y in (short, dense)]
    gap = grams[0].mean(0) - grams[1].mean(0)
    error = np.sqrt((grams[0].var(0) + grams[1].var(0)) / count)
    assert np.all(np.abs(gap) < 5 * error)
    assert np.all(error < 0.05 * np.abs(np.diagonal(grams[1].mean(0))).max())


def test_densities_integrate_to_one(small: Callable[[str], Any]) -> None:
    _, arrays = small("densities")
    for name in densities.QUANTITIES:
        for which in ("sde", "network"):
            mass = np.sum(arrays[f"{name}_{which}"] * np.diff(arrays[f"{name}_edges"]))
            assert mass == pytest.approx(1, abs=0.02)  # the outermost .6 % may lie beyond
        assert 0 <= arrays[f"{name}_distance"] < 0.2


def test_explosion_is_where_the_criterion_says(small: Callable[[str], Any]) -> None:
    request, arrays = small("explosion")
    below, above = arrays["last"]  # shares at the radii, for .25 and .9
    assert below[-1] > 0.1 and above[-1] < 0.01
    assert np.all(np.diff(arrays["shares"], axis=1) >= 0)
    low, high = explosion._wilson(np.array([0.0, 0.5, 1.0]), 100)
    assert np.allclose(low, [0, 0.4038, 0.9630], atol=1e-4)
    assert np.allclose(high, [0.0370, 0.5962, 1], atol=1e-4)
    del request


@pytest.mark.slow  # quick: published/test_finite_width has the correction
def test_the_correction_is_nearer_to_the_network(small: Callable[[str], Any]) -> None:
    """512 paths: the errors are known to .005, the plain one is .06 to .09 at these widths."""
    _, arrays = small("finite_width")
    network, corrected = arrays["network"], arrays["corrected"]
    assert np.all(network[:, 1] < 0.005)  # the control variates
    plain = network[:, 0] - arrays["limit"][0]
    assert np.all(plain > 0.04)
    assert np.all(np.abs(network[:, 0] - corrected[:, 0]) < 0.5 * plain)


def test_a_weight_drawn_by_its_product_is_used_once() -> None:
    weight = finite_width.Drawn(jax.random.key(0), (4, 3))
    rows = jax.random.normal(jax.random.key(1), (2, 3, 4))
    assert (rows @ weight).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="used twice"):
        rows @ weight


@pytest.mark.slow  # quick: runtime/closures/test_solver, ranks and the limit of the long run
def test_the_adaptive_solver_finds_the_rank(small: Callable[[str], Any]) -> None:
    _, arrays = small("limiting_rank")
    assert np.all(arrays["solve_3"] == 2)  # dim ker Q
    assert np.mean(arrays["euler_3"] == 2) < 0.9


def test_covariances_settle_on_the_ray_or_blow_up_when_the_closed_form_says(
    small: Callable[[str], Any],
) -> None:
    request, arrays = small("cone")
    S0 = cone.starts(request["rings"])
    Q = np.array(request["clustering"]["Q"])
    limits = cone.coordinates(np.stack([closures.limit(S, -Q.T @ Q) for S in S0]))
    for name in request["models"]:  # with V = I softmax and L2 have one limit
        path = arrays[f"{name}_clustering"]
        assert np.allclose(path[:, 0], cone.coordinates(S0), atol=1e-12)
        assert np.allclose(path[:, -1], limits, atol=5e-3)  # falls like 1 / t, t = 1000
        # in the cone at all times
        kept = path[np.isfinite(path).all(axis=-1)]
        assert np.all(np.hypot(kept[:, 0], kept[:, 1]) <= kept[:, 2] + 1e-12)
    given = request["blow_up"]
    A = np.array(given["K"]).T @ np.array(given["Q"])
    wanted = np.stack([closures.blow_up_time(S, A) for S in S0])
    wanted = np.where(wanted < given["times"][-1], wanted, np.inf)
    assert np.isfinite(wanted).any()
    assert np.allclose(arrays["softmax_closure_blow_up_times"], wanted, rtol=1e-4)
    assert np.all(np.isinf(arrays["l2_closure_blow_up_times"]))


def test_paths_are_cut_at_the_top_of_the_cone() -> None:
    path = np.array([[0, 0, 1.0], [0, 0, 2.0], [0, 0, 4.0], [np.nan] * 3])
    assert np.allclose(cone._inside(path, 3.0)[:, 2], [1, 2, 3])
    assert len(cone._inside(path, 9.0)) == 3 and len(cone._inside(path[:2], 9.0)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sparse_neural_ode", "large_time_resnet"])
def test_what_stands_in_place_of_the_distance(name: str, tmp_path: Path) -> None:
    """The gain of the control falls to its price at T*; a terminal cost alone: |u| constant."""
    request = {"model": name, **turnpikes.REQUEST}
    arrays = {k: np.asarray(v) for k, v in turnpikes.compute(request, lambda share: None).items()}
    if name == "sparse_neural_ode":
        stop, times = float(arrays["stop"]), arrays["times"]
        assert 0.5 < stop < 1
        assert np.all(arrays["u"][times > stop] == 0)
        assert np.all(arrays["pull"][times < 0.9 * stop] > arrays["price"])
        assert np.all(arrays["pull"][times > stop] < 1.01 * arrays["price"])
    else:
        assert np.ptp(np.linalg.norm(arrays["u"], axis=1)) < 1e-7
    figure = turnpikes.draw(request, arrays)
    figure.savefig(tmp_path / "a.png")
    assert len(figure.axes) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mean_tracking", "gaussian_tracking"])
def test_the_distance_falls_with_the_predicted_slope(name: str, tmp_path: Path) -> None:
    request = {"model": name, **turnpikes.REQUEST}
    arrays = {k: np.asarray(v) for k, v in turnpikes.compute(request, lambda share: None).items()}
    T, gap = arrays["times"][-1], turnpikes.distance(arrays)
    early = (arrays["times"] > 0.1 * T) & (arrays["times"] < 0.4 * T)
    slope = np.polyfit(arrays["times"][early], np.log(gap[early]), 1)[0]
    assert slope == pytest.approx(-arrays["rate"], rel=0.05)  # complex modes wiggle
    assert np.max(arrays["defect"]) < 1e-8
    figure = turnpikes.draw(request, arrays)
    figure.savefig(tmp_path / "a.png")
    assert len(figure.axes) == 4

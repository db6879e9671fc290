"""Requests that no memory holds are refused before anything is drawn; means that paths near the
exit radius make are told.  Seeds are fixed; nothing here is a statistical test."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from derive.cli import main
from derive.generated import shaped_attention
from derive.runtime.common import memory

PARAMS = shaped_attention.Params(gamma=0.6, tau_0=0.8)
V0 = np.eye(3)


@pytest.mark.parametrize("paths", [10**9, 4 * 10**9])
def test_an_ensemble_larger_than_memory_points_to_stream(paths: int) -> None:
    with pytest.raises(ValueError, match=r"GB of memory .* are free.*stream"):
        shaped_attention.simulate(V0, PARAMS, t1=0.1, paths=paths, seed=0)


def test_saved_times_count_as_memory() -> None:
    shaped_attention.simulate(V0, PARAMS, t1=0.1, paths=4, seed=0, saves=[0.1])
    saves = np.linspace(0, 0.1, 200_000)
    with pytest.raises(ValueError, match="of memory"):
        shaped_attention.simulate(V0, PARAMS, t1=0.1, paths=10**6, seed=0, saves=saves)


def test_a_network_wider_than_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="of memory"):
        shaped_attention.network(V0, PARAMS, width=10**7, depth=2, paths=64, seed=0)


def test_what_is_free_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free", lambda: 1e4)
    with pytest.raises(ValueError, match="10 kB are free"):
        shaped_attention.simulate(V0, PARAMS, t1=0.1, paths=4096, seed=0)
    monkeypatch.setattr(memory, "free", lambda: None)  # a system that does not say
    found = shaped_attention.simulate(V0, PARAMS, t1=0.1, paths=64, seed=0)
    assert np.isfinite(found.V).all()


def test_a_mean_that_frozen_paths_make_is_told() -> None:
    """One path in 64 is stopped at radius 50 of tr V, where the others stay below 9."""
    found = shaped_attention.simulate(V0, PARAMS, t1=0.1, paths=64, seed=0)
    assert found.exited == 0 and found.caution() == ""
    V, gone = np.array(found.V), np.array(found.exit_time)
    V[7, -1], gone[7] = 50 * np.eye(3), 0.05
    held = found._replace(V=V, exit_time=gone)
    share = 150 / np.trace(V[:, -1], axis1=1, axis2=2).sum()
    assert held.frozen == pytest.approx(share, rel=1e-6) and held.frozen > 0.1
    said = held.caution()
    assert f"{share:.0%} of the mean" in said and "median" in said


def test_an_ensemble_that_explodes_warns_of_its_mean() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = shaped_attention.simulate(
            30 * V0, PARAMS, t1=0.5, paths=256, seed=0, exit_radius=200.0
        )
    assert found.exited > 0
    assert any("such a mean follows the" in str(w.message) for w in caught) == bool(found.caution())
    assert found.caution()


def test_a_square_file_says_what_it_holds_or_is_asked_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tokens as many as their width, read as tokens and as a covariance."""
    tokens = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    file = tmp_path / "tokens.npy"
    np.save(file, tokens)
    ask = ["simulate", "shaped_attention", "--tokens", str(file), "--paths", "8", "--width", "0",
           "--t1", "0.05", "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(ask) == 2
    assert "--as tokens" in capsys.readouterr().err
    assert main([*ask, "--as", "tokens"]) == 0
    with np.load(tmp_path / "out" / "shaped_attention.npz") as held:
        found = held["sde_V"][0, 0] if "sde_V" in held else held["V"][0, 0]
    right = tokens @ tokens.T
    np.testing.assert_allclose(found, 4 * right / np.trace(right), rtol=1e-5, atol=1e-6)
    np.save(file, tokens @ tokens.T)
    assert main([*ask, "--as", "covariance"]) == 0
    with np.load(tmp_path / "out" / "shaped_attention.npz") as held:
        found = held["sde_V"][0, 0] if "sde_V" in held else held["V"][0, 0]
    np.testing.assert_allclose(found / found[0, 0], right / right[0, 0], rtol=1e-5, atol=1e-5)

"""`derive match`: laws in files to a plan in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import run

from derive.generated import measure_to_measure as kernel

FEW = 12


def _files(folder: Path) -> tuple[str, str]:
    rng = np.random.default_rng(4)
    clouds = rng.standard_normal((2, FEW, 3)) + np.eye(3)[:2, None]
    clouds /= np.linalg.norm(clouds, axis=-1, keepdims=True)
    np.savez(folder / "inputs.npz", first=clouds[0], second=clouds[1])
    np.savez(folder / "targets.npz", first=np.array([0.0, 0, 1]), second=np.array([0.0, 0.6, -0.8]))
    return str(folder / "inputs.npz"), str(folder / "targets.npz")


def test_a_plan_is_written_with_its_table_latex_and_picture(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    code, out, err = run(capsys, "match", *_files(tmp_path), "--out", str(tmp_path / "plan.npz"))
    assert code == 0, err
    plan = kernel.load_plan(tmp_path / "plan.npz")
    reached = plan.run(plan.inputs)
    assert np.abs(reached.x[0] - [0, 0, 1]).max() < 1e-6
    assert np.abs(reached.x[1] - [0, 0.6, -0.8]).max() < 1e-6
    assert "W_2 to each target" in out
    table = (tmp_path / "plan.txt").read_text().splitlines()
    assert len(table) == 1 + len(plan.pieces)
    assert (tmp_path / "plan.tex").read_text().count("pmatrix") >= 2 * len(plan.pieces)
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_what_no_flow_can_do_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    inputs, targets = _files(tmp_path)
    np.savez(inputs, first=np.eye(3), second=np.eye(3))
    code, _, err = run(capsys, "match", inputs, targets)
    assert code == 2 and "are one law, their targets differ" in err


def test_a_model_that_cannot_be_steered_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = run(capsys, "match", *_files(tmp_path), "--model", "sphere_attention")
    assert code == 2 and "measure_to_measure can" in err
    code, _, err = run(capsys, "match", *_files(tmp_path), "--model", "shaped_attention")
    assert code == 2 and "match steers token_flow models" in err


@pytest.mark.slow
def test_descent_through_the_replay_saves_time_or_pieces(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 10, 3)) + 0.5 * np.eye(3)[:2, None]
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    plan = kernel.match(x, [np.array([0.0, 0, 1]), np.array([0.0, 0.6, -0.8])])
    less = plan.shortened()
    assert less.energy < plan.energy and less.times[-1] <= plan.times[-1]
    assert np.max(less.findings["W_2 to each target"]) <= plan.tolerance
    assert np.isfinite(plan.restored) and np.isnan(less.restored)
    assert "restored" in repr(plan) and "restored" not in repr(less)

"""`derive sweep` of token flows and of control problems: their modules' own numbers, at every
point of a grid, and bytes that depend on neither chunks nor kills nor devices."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run

import derive

FLOW = ("sphere_attention", "--grid", "beta=.5:2:3", "--size", "n=6", "--t1", "6", "--saves", "2")
CONTROL = ("large_time_resnet", "--grid", "lam=1,2", "--t1", "3", "--saves", "3")


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_flow_moves_at_every_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The columns are those of the module's own solver, and the time of consensus the one at which
    the farthest pair of a much finer record is near."""
    x0 = np.random.default_rng(3).normal(size=(5, 3))
    x0 /= np.linalg.norm(x0, axis=1, keepdims=True)
    np.save(tmp_path / "x.npy", x0)
    words = (*FLOW[:3], "--tokens", tmp_path / "x.npy", "--t1", "12", "--saves", "3")
    code, out, err = run(capsys, "sweep", *words, "--out", tmp_path)
    assert code == 0, err
    assert (tmp_path / "sphere_attention-sweep.png").read_bytes()[:4] == b"\x89PNG"
    found = rows(tmp_path / "sphere_attention-sweep.csv")
    assert [(float(r["beta"]), float(r["t"])) for r in found[:4]] == [
        (0.5, 4.0),
        (0.5, 8.0),
        (0.5, 12.0),
        (1.25, 4.0),
    ]
    module = derive.load("sphere_attention")
    for first in range(0, 9, 3):
        beta = float(found[first]["beta"])
        saves = np.linspace(0, 12, 2401)
        flow = module.solve(x0, module.Params(beta=beta), t1=12.0, saves=saves, merged=1e-3)
        pairs = flow.x[:, :, None] - flow.x[:, None]
        apart = np.sqrt((pairs**2).sum(-1)).max((1, 2))
        cosines = np.einsum("sai,sbi->sab", flow.x, flow.x)
        k = int(np.argmax(apart <= 0.01 * apart[0]))
        share = np.log(apart[k - 1] / apart[0] / 0.01) / np.log(apart[k - 1] / apart[k])
        when = saves[k - 1] + share * (saves[k] - saves[k - 1]) if k else np.inf
        for row, at in zip(found[first : first + 3], (800, 1600, 2400), strict=True):
            assert float(row["consensus_time"]) == pytest.approx(when, rel=1e-6)
            assert float(row["diameter"]) == pytest.approx(apart[at], rel=1e-5)
            assert float(row["energy"]) == pytest.approx(flow.energy[at], rel=1e-7)
            assert float(row["clusters"]) == flow.counts[at]
            mean = (cosines[at].sum() - 5) / 20
            assert float(row["cosine"]) == pytest.approx(mean, abs=1e-7)
    times = [float(r["consensus_time"]) for r in found]
    assert np.isfinite(times).all() and len(set(times)) == 3


@pytest.mark.slow  # quick: the times of the flow above, each against a finer record
def test_tokens_that_never_agree_have_no_time_of_consensus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("sphere_attention", "--grid", "beta=9,12", "--t1", "2")
    code, _, err = run(capsys, "sweep", *words, "--out", tmp_path)
    assert code == 0, err
    assert [r["consensus_time"] for r in rows(tmp_path / "sphere_attention-sweep.csv")] == [
        "inf"
    ] * 2


def test_an_extremal_is_found_at_every_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From one start, with one draw of what is not given: the module's own solver."""
    code, out, err = run(capsys, "sweep", *CONTROL, "--out", tmp_path)
    assert code == 0, err
    found = rows(tmp_path / "large_time_resnet-sweep.csv")
    assert len(found) == 6
    (settings,) = tmp_path.glob("*/settings.json")
    numbers = {n: np.array(v) for n, v in json.loads(settings.read_text())["numbers"].items()}
    module = derive.load("large_time_resnet")
    solved: dict[str, Any] = {}
    for row in found:
        if row["lam"] not in solved:
            own = {**numbers, "lam": float(row["lam"])}
            params = module.Params(**{n: own[n] for n in module.Params._fields})
            start = module.State(**{n: own[n] for n in module.State._fields})
            static = module.turnpike(params, starts=16, seed=0, x_guess=start)
            path = module.solve(start, params, T=3.0, near=static, saves=[1.0, 2.0, 3.0])
            solved[row["lam"]] = static, path
        static, path = solved[row["lam"]]
        at = round(float(row["t"])) - 1
        assert float(row["cost"]) == pytest.approx(float(path.cost), rel=1e-9)
        assert float(row["static_cost"]) == pytest.approx(static.cost, rel=1e-9, abs=1e-12)
        assert row["verdict"] == static.verdict
        size = np.sqrt(sum(np.sum(np.asarray(a)[at] ** 2) for a in path.u))
        assert float(row["control"]) == pytest.approx(size, rel=1e-7)


def test_a_point_without_an_extremal_is_told_and_the_others_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from derive.runtime.control import entry

    solve = entry.solve

    def failing(spec: Any, x0: Any, params: Any, **more: Any) -> Any:
        if params.lam == 2:
            raise ValueError("Newton's method failed")
        return solve(spec, x0, params, **more)

    monkeypatch.setattr(entry, "solve", failing)
    code, out, err = run(capsys, "sweep", *CONTROL, "--out", tmp_path)
    assert code == 0 and "a point has no extremal: Newton's method failed" in err
    assert "1 points have no extremal" in out
    found = rows(tmp_path / "large_time_resnet-sweep.csv")
    assert [r["verdict"] == "no extremal" for r in found] == [False] * 3 + [True] * 3
    assert [r["cost"] == "nan" for r in found] == [False] * 3 + [True] * 3


# more than one tile each: pieces for several devices
MANY = {
    "flow": ("sphere_attention", "--grid", "beta=.1:2:40", "--size", "n=4", "--t1", "1"),
    "control": CONTROL,
    "sde": ("shaped_attention", "--grid", "gamma=.1:.9:5", "--paths", "32", "--lanes", "64",
            "--steps", "64", "--t1", ".25"),
    "closure": ("softmax_closure", "--grid", "V=.1:.9:40"),
}  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["flow", *(pytest.param(k, marks=pytest.mark.slow) for k in MANY if k != "flow")]
)
def test_eight_devices_go_on_with_the_bytes_of_one(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight take up a sweep of which a chunk is there; the table is that of one device."""
    words, table = ("sweep", *MANY[kind], "--chunk", "1", "--out"), f"{MANY[kind][0]}-sweep.csv"
    one, eight = tmp_path / "1", tmp_path / "8"
    code, _, err = run(capsys, *words, one)
    assert code == 0, err
    first = min(one.glob("*/points-*.npz"))
    (eight / first.parent.name).mkdir(parents=True)
    shutil.copy(first, eight / first.parent.name)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    argv = [sys.executable, "-m", "derive", *words, str(eight)]
    done = subprocess.run(
        argv, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"[0-9] chunks, 1 of them were there", done.stdout), done.stdout
    assert (one / table).read_bytes() == (eight / table).read_bytes()

"""`derive sweep`: its numbers are those of the module's own functions, and its bytes those of the
request alone: whatever the chunks, the kills, the jobs and the devices."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import run

from derive.commands import sweep_grid
from derive.errors import RequestError
from derive.kernels import kernel_of
from derive.kinds.covariance_sde.points import Points
from derive.registry import find

# 5 points of 32 paths, two points in a tile: three tiles, the last one filled up
GRID = ("shaped_attention", "--grid", "gamma=.1:.9:5")
SMALL = (*GRID, "--paths", "32", "--lanes", "64", "--steps", "64", "--t1", ".25")
TABLE = "shaped_attention-sweep.csv"


def rows(file: Path) -> list[dict[str, float]]:
    with file.open(encoding="utf-8") as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The table of the small request, in chunks of one tile."""
    from derive.cli import main

    out = tmp_path_factory.mktemp("whole")
    assert main(["sweep", *SMALL, "--chunk", "1", "--out", str(out)]) == 0
    assert len(list(out.glob("*/points-*.npz"))) == 3
    assert (out / TABLE.replace("csv", "png")).read_bytes()[:4] == b"\x89PNG"
    return (out / TABLE).read_bytes()


def test_ranges_lists_and_ratios() -> None:
    names = ("a", "b", "c")
    found = sweep_grid.axes(["a=.1:.9:5", "b=1,inf", "c=1e-2:1:3:log"], names, "model")
    assert found == {"a": [0.1, 0.3, 0.5, 0.7, 0.9], "b": [1, np.inf], "c": [0.01, 0.1, 1.0]}
    points = sweep_grid.points(found)
    assert len(points) == 30 and points[1] == {"a": 0.1, "b": 1.0, "c": 0.1}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "the grid is empty"),
        (["gamma"], "write NAME="),
        (["gamma="], "there is no value"),
        (["gama=1"], "did you mean gamma?"),
        (["gamma=1:2"], "FIRST:LAST:COUNT"),
        (["gamma=1:2:3:lin"], "FIRST:LAST:COUNT:log"),
        (["gamma=1:2:x"], "'x' is not a whole number"),
        (["gamma=1:2:0"], "empty grid"),
        (["gamma=0:2:3:log"], "ends above 0"),
        (["gamma=1:inf:3"], "finite"),
        (["gamma=1,x"], "'x' is not a number"),
        (["gamma=nan"], "nan is not a value"),
        (["gamma=1,1"], "twice"),
        (["gamma=1", "gamma=2"], "has values already"),
        (["gamma=1:2:9999999"], "more than"),
    ],
)
def test_what_is_no_grid_is_told_with_its_right_form(given: list[str], said: str) -> None:
    with pytest.raises(RequestError, match=re.escape(said)):
        sweep_grid.axes(given, ("gamma", "tau_0"), "shaped_attention")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("shaped_attention", "--grid", "gamma=.5,1.5"), "outside its range: in (0, 1)"),
        ((*GRID, "--param", "gamma=.5"), "in --param and in --grid"),
        ((*GRID, "--show", "nothing"), "there are correlation, gap"),
        ((*GRID, "--shard", "3/2"), "write K/N"),
        ((*GRID, "--table", "here.txt"), "name a .csv or a .parquet"),
        ((*GRID, "--steps", "3", "--saves", "2"), "a multiple of --saves 2"),
        ((*GRID, "--param", "tau_0=.001"), "--scheme adaptive"),
        ((*GRID, "--lanes", "100000000000"), "take fewer --lanes"),
        ((*GRID, "--searches", "3"), "--searches is of optimal_control models"),
        (("gaussian_tracking", "--grid", "alpha=1,-2"), "alpha = -2 is outside its range"),
        (("gaussian_tracking", "--grid", "alpha=1", "--tokens", "x.npy"), "--start NAME=FILE.npy"),
        (("sphere_attention", "--grid", "beta=1,-2"), "beta = -2 is outside its range"),
        (("sphere_attention", "--grid", "beta=1", "--size", "n=1"), "take two or more"),
        (("noisy_sphere_attention", "--grid", "beta=1"), "no solver to sweep"),
        (("softmax_closure", "--grid", "V=1,inf"), "not a finite number"),
        (("softmax_closure", "--grid", "V=1,2", "--param", "Q=none.npy"), "cannot be read as .npy"),
    ],
)
def test_refusals_say_what_to_do(words, said, tmp_path, capsys) -> None:
    code, _, err = run(capsys, "sweep", *words, "--out", tmp_path / "out")
    assert code == 2 and said in err, err
    assert not (tmp_path / "out").exists()


def test_fixed_steps_are_the_modules_own_path(whole: bytes, tmp_path: Path) -> None:
    """Every statistic, computed anew from single paths."""
    import jax

    from derive.runtime.common.precision import precision

    file = tmp_path / "table.csv"
    file.write_bytes(whole)
    found = rows(file)
    assert [r["gamma"] for r in found] == [0.1, 0.3, 0.5, 0.7, 0.9]
    module = kernel_of(find("shaped_attention"))
    V0 = 0.2 + 0.8 * np.eye(3)
    point = found[3]
    with precision("float64"):
        params = module.Params(0.7, 1.0)
        key = jax.random.key(0)
        one = jax.jit(lambda key: module.path(key, V0, params, t1=0.25, steps=64)[-1])
        V = np.stack([one(jax.random.fold_in(key, i)) for i in range(32)])
    rho = np.array([v[a, b] / (v[a, a] * v[b, b]) ** 0.5 for v in V for a, b in PAIRS])
    assert point["correlation_mean"] == pytest.approx(rho.mean(), rel=1e-9)
    assert point["correlation_q75"] == pytest.approx(np.percentile(rho, 75), rel=1e-9)
    gap = V[:, 0, 0] + V[:, 1, 1] - 2 * V[:, 0, 1]
    assert point["gap_q05"] == pytest.approx(np.percentile(gap, 5), rel=1e-9)
    shares = [np.linalg.svd(v, compute_uv=False) / np.trace(v) for v in V]
    ranks = [np.exp(-sum(p * np.log(p) for p in s)) for s in shares]
    assert point["effective_rank_mean"] == pytest.approx(np.mean(ranks), rel=1e-9)
    assert point["exploded"] == 0


PAIRS = ((1, 0), (2, 0), (2, 1))


@pytest.mark.slow  # quick: exits in runtime/paths/test_simulate, explosions below
def test_an_exploded_path_stands_still_inside_the_radius(tmp_path, capsys) -> None:
    """Saved at every step, so that the step of an exit is seen, beside the paths themselves."""
    import jax

    from derive.runtime.common.precision import precision

    words = ("--paths", "64", "--radius", "1.2", "--t1", ".25", "--steps", "32", "--saves", "32")
    code, out, err = run(capsys, "sweep", *GRID, *words, "--out", tmp_path)
    assert code == 0 and "--scheme adaptive" in out, err
    found = rows(tmp_path / TABLE)
    assert len(found) == 5 * 32 and max(r["variance_q95"] for r in found) <= 1.2
    last = [r for r in found if r["gamma"] == 0.9]
    assert [r["t"] for r in last] == [0.25 * k / 32 for k in range(1, 33)]
    module = kernel_of(find("shaped_attention"))
    with precision("float64"):
        keys = [jax.random.fold_in(jax.random.key(0), i) for i in range(64)]
        start, params = 0.2 + 0.8 * np.eye(3), module.Params(0.9, 1.0)
        one = jax.jit(lambda key: module.path(key, start, params, t1=0.25, steps=32))
        size = np.abs(np.stack([one(key) for key in keys])).max((-1, -2))
    left = np.logical_or.accumulate(size > 1.2, axis=1)[:, 1:]
    assert [r["exploded"] for r in last] == left.mean(0).tolist()
    assert 0 < left.mean() < 1


def test_points_with_explosions_are_computed_with_adaptive_steps(tmp_path, capsys) -> None:
    """At fixed steps .61 of the paths explode here, with adaptive ones .55."""
    grid = ("shaped_attention", "--grid", "gamma=.2,.9", "--param", "tau_0=.3")
    words = (*grid, "--paths", "64", "--t1", ".5", "--radius", "4")
    tables = {}
    for scheme in ("auto", "fixed", "adaptive"):
        code, out, err = run(
            capsys, "sweep", *words, "--scheme", scheme, "--out", tmp_path / scheme
        )
        assert code == 0, err
        assert ("rough near an explosion" in out) == (scheme == "fixed")
        tables[scheme] = rows(tmp_path / scheme / TABLE)
    calm, wild = tables["auto"]
    assert calm["exploded"] == 0 < wild["exploded"] < 1
    assert calm == tables["fixed"][0] != tables["adaptive"][0]
    assert wild == tables["adaptive"][1] != tables["fixed"][1]


def test_progress_rises_through_points_that_are_computed_twice() -> None:
    """Two of five explode: the first round ends at 5 of 7 points."""
    one = {"exploded": np.zeros(1)}
    exploded = {"exploded": np.ones(1)}

    class Two(Points):
        def __init__(self) -> None:
            self.steps, self.scheme = 8, "auto"

        def _fixed(self, points, report):
            for k in range(len(points)):
                yield exploded if k in (1, 3) else one
                report((k + 1) / len(points))

        def _adaptive(self, points, report):
            for k in range(len(points)):
                yield exploded
                report((k + 1) / len(points))

    shares: list[float] = []
    Two().compute([{"a": float(k)} for k in range(5)], shares.append)
    assert shares == sorted(shares) and len(shares) == 7
    assert shares[4] == pytest.approx(5 / 7) and shares[6] == 1


def test_adaptive_steps_are_simulate_point_by_point(tmp_path, capsys) -> None:
    words = ("--scheme", "adaptive", "--paths", "16", "--t1", ".1", "--seed", "3")
    grid = ("shaped_attention", "--grid", "gamma=.3,.6", "tau_0=inf,.5")
    code, _, err = run(capsys, "sweep", *grid, *words, "--out", tmp_path)
    assert code == 0, err
    found = rows(tmp_path / TABLE)
    assert [(r["gamma"], r["tau_0"]) for r in found[:2]] == [(0.3, np.inf), (0.3, 0.5)]
    module = kernel_of(find("shaped_attention"))
    start = 0.2 + 0.8 * np.eye(3)
    V = module.simulate(
        start, (0.6, 0.5), t1=0.1, paths=16, seed=3, saves=[0.1]
    ).V  # params by place
    variance = np.diagonal(V[:, -1], axis1=-2, axis2=-1)
    assert found[3]["variance_q50"] == pytest.approx(np.median(variance), rel=1e-12)


def test_chunks_do_not_change_a_byte(whole: bytes, tmp_path, capsys) -> None:
    code, _, err = run(capsys, "sweep", *SMALL, "--chunk", "4", "--out", tmp_path)
    assert code == 0 and len(list(tmp_path.glob("*/points-*.npz"))) == 2, err
    assert (tmp_path / TABLE).read_bytes() == whole
    other = tmp_path / "other"
    assert run(capsys, "sweep", *SMALL, "--seed", "1", "--out", other)[0] == 0
    assert (other / TABLE).read_bytes() != whole


def test_what_is_there_is_not_computed_again_and_what_is_damaged_is(
    whole: bytes, tmp_path, capsys
) -> None:
    words = ("sweep", *SMALL, "--chunk", "1", "--out", tmp_path)
    assert run(capsys, *words)[0] == 0
    chunks = sorted(tmp_path.glob("*/points-*.npz"))
    chunks[1].write_bytes(chunks[1].read_bytes()[:100])
    code, out, _ = run(capsys, *words)
    assert code == 0 and "3 chunks, 2 of them were there" in out
    assert (tmp_path / TABLE).read_bytes() == whole


def started(*argv: str | Path, **environment: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "derive", "sweep", *map(str, argv)]
    devnull = subprocess.DEVNULL
    return subprocess.Popen(words, stdout=devnull, stderr=devnull, env=os.environ | environment)


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, capsys) -> None:
    """Killed by SIGKILL once a chunk lies there, and the next are under way."""
    slow = ("--scheme", "adaptive", "--paths", "128", "--chunk", "1", "--t1", ".3")
    words = ("shaped_attention", "--grid", "gamma=.3:.6:8", *slow)
    going = started(*words, "--out", tmp_path / "killed")
    end = time.monotonic() + 90
    while not (kept := list(tmp_path.glob("killed/*/points-*.npz"))) and time.monotonic() < end:
        time.sleep(0.01)
    going.send_signal(signal.SIGKILL)
    assert going.wait() == -signal.SIGKILL and kept
    kept = list(tmp_path.glob("killed/*/points-*.npz"))
    assert len(kept) < 8 and not (tmp_path / "killed" / TABLE).exists()
    code, out, err = run(capsys, "sweep", *words, "--out", tmp_path / "killed")
    assert code == 0 and f"8 chunks, {len(kept)} of them were there" in out, err
    assert run(capsys, "sweep", *words, "--out", tmp_path / "fresh")[0] == 0
    tables = [(tmp_path / name / TABLE).read_bytes() for name in ("killed", "fresh")]
    assert tables[0] == tables[1]


def test_shards_and_a_gathering_give_the_table_of_one_run(whole, tmp_path, capsys) -> None:
    words = ("sweep", *SMALL, "--chunk", "1", "--out", tmp_path)
    for shard in ("1/2", "2/2"):
        assert run(capsys, *words, "--shard", shard)[0] == 0
        assert not (tmp_path / TABLE).exists()
    code, out, _ = run(capsys, *words)
    assert code == 0 and "3 chunks, 3 of them were there" in out
    assert (tmp_path / TABLE).read_bytes() == whole


@pytest.mark.slow  # quick: the shards above
def test_two_jobs_and_a_gathering_give_the_table_of_one_run(whole, tmp_path, capsys) -> None:
    """Two processes at once; one of them has two devices, which take turns."""
    words = (*SMALL, "--chunk", "1", "--out", tmp_path)
    flags = os.environ.get("XLA_FLAGS", "")
    two = {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=2"}
    jobs = [started(*words, "--shard", "1/2", **two), started(*words, "--shard", "2/2")]
    assert [job.wait(120) for job in jobs] == [0, 0]
    assert not (tmp_path / TABLE).exists()
    code, out, _ = run(capsys, "sweep", *words)
    assert code == 0 and "3 chunks, 3 of them were there" in out
    assert (tmp_path / TABLE).read_bytes() == whole


def test_a_closure_is_solved_at_every_point(tmp_path, capsys) -> None:
    """Multiples of a given matrix; one law blows up, and its rows say when."""
    matrix = np.array([[0.6, 0.2], [-0.1, 0.4]])
    np.save(tmp_path / "V.npy", matrix)
    tokens = np.random.default_rng(5).normal(size=(20, 2))
    np.save(tmp_path / "tokens.npy", tokens)
    words = ("--param", f"V={tmp_path / 'V.npy'}", "--tokens", tmp_path / "tokens.npy")
    grid = ("softmax_closure", "--grid", "V=-1,3", "Q=.5,1")
    code, _, err = run(capsys, "sweep", *grid, *words, "--saves", "2", "--out", tmp_path)
    assert code == 0, err
    found = rows(tmp_path / "softmax_closure-sweep.csv")
    module = kernel_of(find("softmax_closure"))
    mean, cov = tokens.mean(0), np.cov(tokens.T, bias=True)
    for (scale, q), part in zip(
        [(-1, 0.5), (-1, 1), (3, 0.5), (3, 1)],
        zip(found[::2], found[1::2], strict=True),
        strict=True,
    ):
        params = module.Params(q * np.eye(2), np.eye(2), scale * matrix)
        alone = module.solve(mean, cov, params, t1=0.5, saves=[0.25, 0.5])
        assert part[0]["blow_up_time"] == pytest.approx(float(alone.blow_up_time), rel=1e-6)
        for row, law in zip(part, alone.cov, strict=True):
            largest = np.max(np.linalg.eigvalsh(law)) if np.isfinite(law).all() else np.nan
            assert row["eigenvalue_1"] == pytest.approx(largest, rel=1e-6, nan_ok=True)
    assert any(np.isfinite(r["blow_up_time"]) for r in found)
    assert any(np.isinf(r["blow_up_time"]) for r in found)

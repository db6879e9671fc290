"""Ctrl-C, closed streams, full disks and kills: an exit code of 0, 1 or 2, one message, no half
file.  Nothing here is random."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from derive.runtime.common.whole_files import MARK, left_over, write_whole

LOOP = '''"""A layer."""
from derive.notation import covariance_sde, dims, gaussian, params
m, n = dims("m: tokens", "n: width")
gamma = params("gamma: in (0, 1)")
@covariance_sde(state="X[m, n]", width=n)
def mine(X):
    BODY
'''
SWALLOW = (
    "while True:\n        try:\n            while True: pass\n        except BaseException: pass"
)


def _start(*argv: str | Path, **options: object) -> subprocess.Popen[str]:
    """The command with Ctrl-C as a terminal has it: a shell's background jobs ignore it."""
    command = [sys.executable, "-m", "derive", *map(str, argv)]
    pipe = subprocess.PIPE
    options.setdefault("preexec_fn", _heeding)
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **options)  # type: ignore[call-overload,no-any-return]


def _await(begun: Path) -> None:
    """Until the definition runs."""
    end = time.monotonic() + 60
    while not begun.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    begun.unlink()
    time.sleep(0.2)


def _heeding() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


SLEEP = pytest.param("import time; time.sleep(99)", marks=pytest.mark.slow)


@pytest.mark.parametrize("body", ["while True: pass", SLEEP, SWALLOW])
def test_an_interrupted_derivation_ends_within_seconds(tmp_path: Path, body: str) -> None:
    begun = tmp_path / "begun"
    told = LOOP.replace("BODY", f"open({str(begun)!r}, 'w').close()\n    {body}")
    (tmp_path / "mine.py").write_text(told, encoding="utf-8")
    for command in (["show"], ["build", "--out", tmp_path / "out"]):
        run = _start(command[0], tmp_path / "mine.py", *command[1:])
        _await(begun)
        run.send_signal(signal.SIGINT)
        start = time.monotonic()
        time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=20)
        assert time.monotonic() - start < 4
        assert run.returncode == 2 and "interrupted; nothing" in err and "Traceback" not in err, err


def test_an_interrupted_simulation_writes_nothing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    long = ("--paths", "200000", "--width", "4096", "--t1", "3")
    run = _start("simulate", "shaped_attention", *long, "--out", tmp_path / "out")
    end = time.monotonic() + 60
    while not (tmp_path / "out").exists():  # made once the request is read
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(1)
    assert run.poll() is None
    run.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, err = run.communicate(timeout=30)
    assert time.monotonic() - start < 5 and run.returncode == 2, err
    assert "interrupted; nothing" in err and "Traceback" not in err
    assert list((tmp_path / "out").iterdir()) == []


MUTATE = pytest.param(["mutate", "--rules"], marks=pytest.mark.slow)  # quick: verify


@pytest.mark.parametrize("argv", [["verify"], MUTATE], ids=lambda argv: argv[0])
def test_an_interrupted_verification_keeps_what_was_there(tmp_path: Path, argv: list[str]) -> None:
    kernel = Path(__file__).parents[2] / "generated" / "shaped_attention.py"
    (tmp_path / kernel.name).write_bytes(kernel.read_bytes())
    out = ["--out", tmp_path if argv[0] == "verify" else tmp_path / "rules.md"]
    run = _start(*argv, "shaped_attention", *out)
    time.sleep(8)
    assert run.poll() is None
    run.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, err = run.communicate(timeout=60)
    assert time.monotonic() - start < 10 and run.returncode == 2, err
    assert "interrupted; nothing" in err and "Traceback" not in err
    assert [p.name for p in tmp_path.iterdir()] == [kernel.name]


@pytest.mark.parametrize("body", ["while True: pass", "return gamma**(10**6) * X", SWALLOW])
def test_a_derivation_that_does_not_end_is_stopped_with_a_remedy(tmp_path: Path, body: str) -> None:
    (tmp_path / "mine.py").write_text(LOOP.replace("BODY", body), encoding="utf-8")
    run = _start("show", tmp_path / "mine.py", "--limit", "2")
    _, err = run.communicate(timeout=60)
    assert run.returncode == 2 and "Traceback" not in err
    if "return" not in body:
        assert "stopped after 2 s" in err and "--limit" in err and "mine.py:" in err


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-", "> /dev/full"])
def test_closed_and_full_streams_end_in_order(closed: str) -> None:
    command = f"{sys.executable} -m derive list {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.returncode == (2 if "full" in closed else 0), done
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_a_reader_that_stops_is_no_error() -> None:
    command = f"set -o pipefail; {sys.executable} -m derive list | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.count("\n") == 1


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    for argv in (
        ["export", "linear_closure", "--to", tmp_path / "package"],
        ["build", "linear_closure", "--out", tmp_path / "kernels"],
    ):
        run = _start(*argv, preexec_fn=small)
        _, err = run.communicate(timeout=120)
        assert run.returncode == 2 and "cannot write" in err and "Traceback" not in err, err
    for file in tmp_path.rglob("*"):
        assert MARK not in file.name
        if file.suffix == ".py":
            compile(file.read_bytes(), str(file), "exec")


KILLED = """
import os, signal, sys
from derive.runtime.common.whole_files import write_whole
def half(stream):
    stream.write(b"half")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
write_whole(sys.argv[1], half)
"""


def test_what_a_killed_run_leaves_is_found_and_removed_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "file.npz"
    write_whole(target, b"old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], timeout=60)
    assert done.returncode == -signal.SIGKILL and target.read_bytes() == b"old"
    (left,) = left_over(tmp_path)
    assert MARK in left.name
    write_whole(tmp_path / "another", b"new")
    assert sorted(os.listdir(tmp_path)) == ["another", "file.npz"]


def test_what_another_run_is_writing_is_not_taken_for_left_over(tmp_path: Path) -> None:
    def during(stream: object) -> None:
        assert list(left_over(tmp_path)) == []
        write_whole(tmp_path / "inner", b"1")

    write_whole(tmp_path / "outer", during)
    assert sorted(os.listdir(tmp_path)) == ["inner", "outer"]

"""`watch` builds what is saved and says what changed; `doctor` says what is here and missing."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from derive.commands import doctor_command
from tests.support.command_line import run

TEXT = '''"""A file of a user."""
from derive.notation import covariance_sde, dims, gaussian, params, sqrt

m, n = dims("m: tokens", "n: width")
gamma = params("gamma: in (0, 1)")


@covariance_sde(state="X[m, n]", width=n)
def mine(X):
    """A random residual branch."""
    return sqrt(1 - gamma**2) * X + gamma * X @ gaussian(n, n) / sqrt(n)
'''


def test_a_saved_file_is_built_and_its_changed_terms_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(TEXT)

    def ignored_no_more() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    watcher = subprocess.Popen(
        [sys.executable, "-u", "-m", "derive", "watch", "mine.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        preexec_fn=ignored_no_more,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert watcher.stdout is not None
    try:
        said = _until(watcher, "watching")
        kernel = tmp_path / "kernels" / "mine.py"
        first = kernel.read_text()
        file.write_text(TEXT.replace("gamma", "gamma_2"))
        said = _until(watcher, "+   gamma_2")
        assert "-   gamma" in said
        assert kernel.read_text() != first
        second = kernel.read_text()
        file.write_text(TEXT.replace("gaussian(n, n)", "gaussian(n, n"))
        said = _until(watcher, "mine.py:11")
        assert "SyntaxError" in said or "never closed" in said
        assert kernel.read_text() == second
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(timeout=20) == 0
    finally:
        watcher.kill()


def _until(process: subprocess.Popen[bytes], words: str, seconds: float = 90) -> str:
    """What is printed until these words are there; read from the pipe itself, which select sees."""
    end, out = time.monotonic() + seconds, ""
    assert process.stdout is not None
    while words not in out:
        ready, _, _ = select.select([process.stdout], [], [], max(0, end - time.monotonic()))
        assert ready, out
        new = os.read(process.stdout.fileno(), 65536).decode()
        assert new, out
        out += new
    return out


def test_watch_refuses_what_is_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "watch", "nowhere.py")
    assert code == 2 and "nowhere.py" in err


def test_doctor_names_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor")
    assert code == 0, out
    for words in ("python", "jax", "sympy", "devices", "generated", "cache", "nothing is missing"):
        assert words in out


def test_doctor_says_what_is_missing_and_what_to_avoid(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name == "jinja2":
            raise doctor_command.PackageNotFoundError(name)
        return "0.10.2" if name == "jax" else "1"

    monkeypatch.setattr(doctor_command, "version", version)
    code, out, _ = run(capsys, "doctor")
    assert code == 1
    assert "pip install jinja2" in out and "jax 0.10.2" in out

"""Kernels through Python's face: gated, loaded, kept by content; certificates that show a failure.

The toy method of `tests/support` stands for any, since its kernels are made in no time; a script is
a process of its own, as a user's is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faces import text_of, typed
from toys import installed, python

import derive
from derive.errors import RequestError
from derive.face.certified import Certificate
from derive.verify.common.rung import Rung

COMPILE = "import derive; k = derive.compile('mine.py'); print(k.__file__); print(k.mean(2.0))"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return installed(tmp_path)


def script(place: Path, text: str) -> subprocess.CompletedProcess[str]:
    return python(place, "-c", text, XDG_CACHE_HOME=str(place / "cache"))


def kept(place: Path) -> list[Path]:
    return sorted((place / "cache" / "derive").iterdir())


def test_a_kernel_is_kept_by_content(place: Path) -> None:
    first = script(place, COMPILE)
    assert first.returncode == 0, first.stderr
    (file,) = kept(place)
    before = file.stat().st_mtime_ns
    second = script(place, COMPILE)
    assert first.stdout == second.stdout and first.stdout.endswith("7.0\n")
    assert file.stat().st_mtime_ns == before
    mine = place / "mine.py"
    mine.write_text(mine.read_text().replace("3 * x", "4 * x"))
    assert script(place, COMPILE).stdout.endswith("9.0\n") and len(kept(place)) == 2


def test_a_warm_kernel_is_not_derived_again(place: Path) -> None:
    """With a method that cannot derive any more: the content alone decides."""
    warm = COMPILE.replace("k = ", "import toy_means; toy_means.Means.derive = None; k = ")
    assert script(place, warm).returncode != 0
    script(place, COMPILE)
    done = script(place, warm)
    assert done.stdout.endswith("7.0\n"), done.stderr


@pytest.mark.slow  # quick: a changed definition above
def test_a_changed_method_of_another_package_makes_another_kernel(place: Path) -> None:
    script(place, COMPILE)
    toy = place / "installed" / "toy_means.py"
    toy.write_text(toy.read_text().replace("E f(x), x with", "The mean of f(x), x with"))
    assert script(place, COMPILE).stdout.endswith("7.0\n") and len(kept(place)) == 2


def test_what_is_cut_short_or_changed_is_made_anew(place: Path) -> None:
    script(place, COMPILE)
    (file,) = kept(place)
    whole = file.read_bytes()
    for damaged in (whole[:40], whole.replace(b"3*m", b"5*m")):
        assert damaged != whole
        file.write_bytes(damaged)
        assert script(place, COMPILE).stdout.endswith("7.0\n")
        assert file.read_bytes() == whole


@pytest.mark.slow  # quick: one process above; the writer is that of every file
def test_processes_at_once_make_one_file(place: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: script(place, COMPILE), range(2)))
    assert {d.stdout for d in done} == {done[0].stdout} and done[0].stdout.endswith("7.0\n")
    (file,) = kept(place)
    assert re.fullmatch(r"tripled-\w{20}-\w{20}\.py", file.name)


def test_a_killed_run_leaves_nothing_that_counts(place: Path) -> None:
    kill = "import os; os.replace = lambda *a: os._exit(9); "
    assert script(place, kill + COMPILE).returncode == 9
    assert not [f for f in kept(place) if f.suffix == ".py" and not f.name.startswith(".")]
    assert script(place, COMPILE).stdout.endswith("7.0\n")
    assert len(kept(place)) == 1  # what was left over is gone


def test_a_wrong_kernel_is_refused_and_not_kept(place: Path) -> None:
    toy = place / "installed" / "toy_means.py"
    toy.write_text(toy.read_text().replace("sp.pycode(mean)", "sp.pycode(mean + M / 1000)"))
    done = script(place, COMPILE)
    assert "CheckFailed" in done.stderr and "mean: off by" in done.stderr
    assert not (place / "cache" / "derive").exists()


def test_a_cache_that_cannot_be_written_is_named(place: Path) -> None:
    (place / "cache").write_text("a file")
    done = script(place, COMPILE)
    assert "RequestError" in done.stderr and "XDG_CACHE_HOME" in done.stderr


def test_a_certificate_shows_itself_and_its_failures(place: Path) -> None:
    verify = "import derive; c = derive.verify('mine.py'); print(c.passed, bool(c)); print(c)"
    done = script(place, verify)
    assert done.stdout.startswith("True True\ntripled, level quick: passed"), done.stderr
    toy = place / "installed" / "toy_means.py"
    toy.write_text(toy.read_text().replace("found < 1e-12", "found < -1"))
    done = script(place, verify)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("False False\ntripled, level quick: FAILED: L2")
    assert "{'error':" in done.stdout


def test_a_certificate_is_a_table_with_its_words_escaped() -> None:
    rungs = (
        Rung("L1", "a < b", True, {}, "1e-6"),
        Rung("L5", "c", False, {"z": 9.0}),
        Rung("L4", "d", True, {}, "", "nothing to compare"),
    )
    html = Certificate("mine", "quick", rungs)._repr_html_()
    assert html.count("<tr>") == 4 and "a &lt; b" in html and "nothing to compare" in html
    nothing = Certificate("mine", "quick", rungs[2:])
    assert not nothing.passed and "nothing reached" in repr(nothing)
    with pytest.raises(RequestError, match="no level 'deep'; take quick or full"):
        derive.verify("shaped_attention", level="deep")


def test_a_model_of_a_session_has_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = typed(text_of("linear_closure"), "linear_closure")
    kernel = derive.compile(model)
    assert derive.compile(model) is kernel
    assert Path(kernel.__file__ or "").is_relative_to(tmp_path)
    own = derive.load("linear_closure")
    assert kernel.EQUATIONS == own.EQUATIONS and kernel.SIGNATURE == own.SIGNATURE
    assert "from a session or notebook" in Path(kernel.__file__ or "").read_text()


def test_load_takes_names_of_what_is_built() -> None:
    assert derive.load("shaped_attention").MODEL == "shaped_attention"
    with pytest.raises(RequestError, match="did you mean shaped_attention"):
        derive.load("shaped_atention")
    with pytest.raises(RequestError, match="no kernel '../x'"):
        derive.load("../x")


IMPORT = """
import sys, derive
assert {"derive", "compile", "load", "verify", "equicorrelated", "plot"} <= set(dir(derive))
heavy = {"jax", "numpy", "sympy", "jinja2", "matplotlib", "derive.face"} & set(sys.modules)
assert not heavy, heavy
kernel = derive.load("linear_closure")
assert "sympy" not in sys.modules and kernel.MODEL
import derive.verify.common.rung, derive.derivation
from derive import verify
assert callable(derive.verify) and derive.verify is verify and verify.__path__
assert callable(derive.derive) and callable(derive.compile)
try:
    derive.integrate
except AttributeError as problem:
    assert "integrate" in str(problem)
else:
    raise AssertionError
"""


def test_importing_is_instant_and_names_do_not_clash() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr

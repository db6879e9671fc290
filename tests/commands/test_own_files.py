"""A file of one's own is built, listed, checked, compared, exported and simulated where it lies."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from derive.entry import generated_folder
from tests.support.command_line import run

TEXT = '''"""A file of a user."""
from mine_parts import scaled

from derive.notation import covariance_sde, dims, gaussian, params, sqrt

m, n = dims("m: tokens", "n: width")
gamma = params("gamma: in (0, 1)")


@covariance_sde(state="X[m, n]", width=n)
def mine(X):
    """A random residual branch."""
    return sqrt(1 - scaled(gamma) ** 2) * X + scaled(gamma) * X @ gaussian(n, n) / sqrt(n)
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(TEXT)
    (tmp_path / "mine_parts.py").write_text("def scaled(gamma):\n    return gamma\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_the_kernel_lies_beside_the_definition_and_every_command_finds_it(own, capsys):
    shipped = {f.name for f in generated_folder().iterdir()}
    assert run(capsys, "build", "mine.py")[0] == 0
    assert (own / "kernels" / "mine.py").is_file()
    assert {f.name for f in generated_folder().iterdir()} == shipped
    assert "[built, not verified]" in run(capsys, "list", "mine.py")[1]
    assert run(capsys, "diff", "mine.py")[0] == 0
    code, out, _ = run(capsys, "check", "mine.py")
    assert code == 1 and "derive verify mine.py" in out and "missing" in out
    (own / "kernels" / "mine.py").write_text("# gone\n")
    code, out, _ = run(capsys, "check", "mine.py")
    assert code == 1 and "hand-edited" in out and "derive build mine.py" in out


def test_a_folder_of_ones_own_choice_is_taken_by_every_command(own, capsys):
    assert run(capsys, "build", "mine.py", "--out", "there")[0] == 0
    assert not (own / "kernels").exists()
    assert "[built" in run(capsys, "list", "mine.py", "--kernels", "there")[1]
    assert run(capsys, "diff", "mine.py", "--kernels", "there")[0] == 0
    assert run(capsys, "export", "mine.py", "--to", "package", "--kernels", "there")[0] == 0
    assert (own / "package" / "mine.py").is_file()
    few = ("--t1", "0.1", "--paths", "8", "--width", "0", "--saves", "2")
    assert run(capsys, "simulate", *few, "mine.py", "--kernels", "there")[0] == 0
    sweep = ("sweep", "mine.py", "--grid", "gamma=.1,.5", "--t1", ".1", "--paths", "8")
    assert run(capsys, *sweep, "--kernels", "there")[0] == 0
    assert (own / "results" / "mine-sweep.csv").is_file()


def test_a_kernel_of_a_definition_that_has_changed_is_not_simulated(own, capsys):
    assert run(capsys, "build", "mine.py", "--out", "there")[0] == 0
    (own / "mine_parts.py").write_text("def scaled(gamma):\n    return gamma / 2\n")
    code, _, err = run(capsys, "simulate", "mine.py", "--kernels", "there")
    assert code == 2 and "derive build mine.py --out there" in err
    assert "is not what mine.py gives as it stands" in err
    assert not (own / "results").exists()


def test_a_definition_of_ones_own_is_simulated_without_a_build(own, capsys):
    words = ("--paths", "32", "--width", "0", "--t1", "0.1", "--saves", "3")
    code, out, err = run(capsys, "simulate", "mine.py", *words)
    assert code == 0, err
    assert (own / "results" / "mine.npz").is_file() and (own / "results" / "mine.png").is_file()


def test_two_files_with_one_name_are_told_apart(own, capsys):
    (own / "sub").mkdir()
    for name in ("mine.py", "mine_parts.py"):
        (own / "sub" / name).write_text((own / name).read_text())
    code, _, err = run(capsys, "build", "mine.py", "sub/mine.py", "--out", "both")
    assert code == 2 and "mine.py" in err and "sub/mine.py" in err and not (own / "both").exists()
    assert run(capsys, "build", "mine.py", "sub/mine.py")[0] == 0
    assert (own / "sub" / "kernels" / "mine.py").is_file()


def test_a_revision_of_ones_own_repository_is_compared(own, capsys):
    def git(*words):
        mail = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *mail, *words], cwd=own, check=True, capture_output=True)

    git("init", "-q")
    git("add", "mine.py", "mine_parts.py")
    git("commit", "-qm", "one")
    assert run(capsys, "diff", "mine.py", "--against", "HEAD")[0] == 0
    (own / "mine_parts.py").write_text("def scaled(gamma):\n    return gamma**2\n")
    code, out, _ = run(capsys, "diff", "mine.py", "--against", "HEAD")
    assert code == 1 and "mine.py at HEAD" in out
    assert "-   gamma**2*(2 - gamma**2) * [ V[a,c] V[b,d] + (c <-> d) ]" in out
    assert "+   gamma**4*(2 - gamma**4) * [ V[a,c] V[b,d] + (c <-> d) ]" in out


def test_a_file_beside_the_definition_is_read_anew_and_is_not_that_of_another_folder(own, capsys):
    (own / "sub").mkdir()
    (own / "sub" / "mine.py").write_text(TEXT)
    (own / "sub" / "mine_parts.py").write_text("def scaled(gamma):\n    return gamma**2\n")
    first = run(capsys, "show", "mine.py")[1]
    other = run(capsys, "show", "sub/mine.py")[1]
    assert "gamma**2" in first and "gamma**4" in other and "gamma**4" not in first
    (own / "mine_parts.py").write_text("def scaled(gamma):\n    return gamma**2\n")
    assert run(capsys, "show", "mine.py")[1] == other


def test_a_mistake_in_a_file_beside_the_definition_is_shown_there(own, capsys):
    (own / "mine_parts.py").write_text("scaled = 1\nscaled.none\n")
    code, _, err = run(capsys, "show", "mine.py")
    assert code == 2 and "mine_parts.py:2" in err


def test_a_file_named_like_a_library_does_not_hide_it(own, capsys):
    (own / "numpy.py").write_text("raise SystemExit(3)\n")
    (own / "json.py").write_text("raise SystemExit(3)\n")
    assert run(capsys, "show", "mine.py")[0] == 0


SEVERAL = '''"""Two models of one file."""
from derive.notation import *

d = dims("d: dimension")
beta = params("beta: positive")
V = matrices(V=(d, d))


@token_flow(state="x[d]", on=sphere)
def first(x, y):
    return average(y, exp(beta * (x @ y)))


@gaussian_closure(state="x[d]")
def second(x, y):
    return integral(V @ y, x @ y)
'''


def test_a_file_stands_for_all_that_it_defines_and_remedies_work_from_here(own, capsys):
    """From another folder, with kernels in a third."""
    folder = own / "models"
    folder.mkdir()
    (folder / "two.py").write_text(SEVERAL)
    assert run(capsys, "build", "models/two.py", "--out", "there")[0] == 0
    assert sorted(f.name for f in (own / "there").iterdir()) == ["first.py", "second.py"]
    code, out, _ = run(capsys, "check", "models/two.py", "--kernels", "there")
    said = [line.partition("mend it: derive ")[2] for line in out.splitlines()]
    assert code == 1 and said == [
        f"verify models/two.py:{name} --level full --out there" for name in ("first", "second")
    ]
    kernel = own / "there" / "second.py"
    kernel.write_text(kernel.read_text() + "# more\n")
    code, out, _ = run(capsys, "check", "models/two.py:second", "--kernels", "there")
    assert code == 1
    mend = out.splitlines()[0].partition("mend it: derive ")[2]
    assert mend == "build models/two.py:second --out there"
    assert run(capsys, *mend.split())[0] == 0
    assert "hand-edited" not in run(capsys, "check", "models/two.py", "--kernels", "there")[1]
    code, _, err = run(capsys, "show", "models/two.py")
    assert code == 2 and "name one: models/two.py:NAME" in err

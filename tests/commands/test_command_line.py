"""The command line keeps its contract: outputs, exit codes, one clear message, nothing
half-written.  Nothing here is random but the simulation, whose law is tested elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from command_line import run as _run

from derive.commands import build_command, show_command
from derive.derivation import derived
from derive.entry import generated_folder

MODEL = "shaped_attention"


@pytest.fixture
def derived_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`show` finds the derivation of a test before, whose form alone is another."""
    monkeypatch.setattr(show_command, "derived", _derived_once)


_derived_once = cache(derived)


def test_list_names_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "list")
    assert code == 0
    assert MODEL in out and "built" in out and "covariance_sde" in out


def test_list_imports_neither_jax_nor_sympy() -> None:
    program = (
        "import sys; from derive.cli import main; code = main(['list']);"
        "heavy = {'jax', 'sympy', 'matplotlib', 'scipy', 'numpy'} & set(sys.modules);"
        "sys.exit(code or (f'imported: {heavy}' if heavy else 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert MODEL in done.stdout


def test_the_installed_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "derive.cli", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and done.stdout.startswith("derive ")


def test_the_package_runs_as_a_program_with_its_exit_code() -> None:
    command = [sys.executable, "-m", "derive", "show", "no_such_model"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "no_such_model" in done.stderr


@pytest.mark.usefixtures("derived_once")
@pytest.mark.parametrize("steps", [[], ["--steps"]])
def test_show_json_parses(capsys: pytest.CaptureFixture[str], steps: list[str]) -> None:
    code, out, _ = _run(capsys, "show", MODEL, "--format", "json", *steps)
    assert code == 0
    assert "drift" in json.dumps(json.loads(out))


@pytest.mark.usefixtures("derived_once")
def test_show_text_and_html(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "show", MODEL)
    assert code == 0 and out.startswith(MODEL) and "tau_0" in out
    code, out, _ = _run(capsys, "show", MODEL, "--format", "html")
    assert code == 0 and "<html" in out.lower() and "</html>" in out.lower()


@pytest.mark.usefixtures("derived_once")
@pytest.mark.parametrize("steps", [[], ["--steps"]])
def test_show_latex_is_a_document_that_compiles(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, steps: list[str]
) -> None:
    code, out, _ = _run(capsys, "show", MODEL, "--format", "latex", *steps)
    assert code == 0
    assert "documentclass" in out and "\\end{document}" in out
    if shutil.which("pdflatex") is None:
        return
    (tmp_path / "model.tex").write_text(out, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "model.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "model.pdf").stat().st_size > 1000


def test_build_writes_the_committed_module_and_then_leaves_it_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out, model = tmp_path / "new" / "folder", "linear_closure"
    code, _, err = _run(capsys, "build", model, "--out", out)
    assert code == 0 and "written" in err
    file = out / f"{model}.py"
    assert file.read_bytes() == (generated_folder() / f"{model}.py").read_bytes()
    before = file.stat().st_mtime_ns
    code, _, err = _run(capsys, "build", model, "--out", out)
    assert code == 0 and "unchanged" in err
    assert file.stat().st_mtime_ns == before
    assert [f.name for f in out.iterdir()] == [file.name]


@pytest.mark.parametrize("command", ["show", "build", "verify", "simulate"])
def test_unknown_model_is_answered_with_a_near_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    rest = [] if command == "show" else ["--out", tmp_path / "out"]
    code, out, err = _run(capsys, command, "shaped_atention", *rest)
    assert code == 2
    assert "unknown model 'shaped_atention'; did you mean shaped_attention?" in err
    assert out == "" and list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_and_an_unknown_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = _run(capsys, "show", "nowhere/file.py")
    assert code == 2 and "no file nowhere/file.py" in err
    assert _run(capsys, "bild")[0] == 2


HEAD = '''"""A theory file."""

from derive.notation import covariance_sde, dims, eye, gaussian, params, softmax, sqrt

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")


@covariance_sde(state="X[m, n]", width=n)
def mine(X):
    W = gaussian(n, n)
'''
FIRST = HEAD.count("\n") + 1  # number of the line that follows HEAD
SKIP = "sqrt(1 - gamma**2) * X + gamma * "

# text after HEAD, the line of the fault (None: any line from the decorator on), a word
WRONG = {
    "syntax error": (f"    return {SKIP}X @ W / sqrt(n\n", None, "syntax error"),
    "exception": ("    return 1 // 0\n", FIRST, "ZeroDivisionError"),
    "unknown name": (f"    return {SKIP}Y @ W / sqrt(n)\n", FIRST, "Y"),
    "mismatched indices": (f"    return {SKIP}X @ W.T @ X / sqrt(n)\n", FIRST, "n"),
    "undeclared symbol": (
        f"    import sympy\n    return {SKIP}sympy.Symbol('gama') * X @ W / sqrt(n)\n",
        None,
        "gama",
    ),
    "float": (f"    return {SKIP}0.5 * X @ W / sqrt(n)\n", FIRST, "0.5"),
    "wrong shape": ("    return X @ W @ X.T / n\n", None, "shape"),
    "heads that are no parts": (
        "    from derive.notation import concatenate\n"
        "    return concatenate(X @ gaussian(n_k, n, n))\n",
        FIRST + 1,
        "gaussian(n_k, n, n / n_k)",
    ),
    "no array": ("    return None\n", None, "NoneType"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_definition_is_refused_with_its_line_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    body, line, word = WRONG[kind]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(HEAD + body, encoding="utf-8")
    out = tmp_path / "out"
    code, printed, err = _run(capsys, "build", "mine.py", "--out", out)
    assert code == 2, err
    assert "internal error" not in err
    places = [w.rstrip(":") for w in err.split() if w.startswith("mine.py:")]
    assert places, err
    found = int(places[0].split(":")[1])
    first = HEAD[: HEAD.index("@covariance_sde")].count("\n") + 1
    assert found == line if line is not None else found >= first, err
    assert word in err
    assert printed == ""
    assert not out.exists() or list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "average(V @ y, ",
            "V @ (x - y) + average(V @ y, ",
            "mine.py:12: the key y stands outside",
        ),
        (
            "average(V @ y, exp((Q @ x) @ (K @ y)))",
            "bistochastic(exp(x @ y)) * x",
            "mine.py:12: bistochastic(...) stands outside",
        ),
        ('state="x[d]"', 'state="x[d]", state="y[d]"', "mine.py:9: syntax error: keyword argument"),
        ("@gaussian_closure(", "# @(", "or @optimal_control(...)"),
    ],
)
def test_mistakes_in_a_closure_are_named_with_their_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    new: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    _run(capsys, "new", "mine", "--kind", "gaussian_closure")
    text = Path("mine.py").read_text(encoding="utf-8")
    text = text.replace("import average, ", "import average, bistochastic, ")
    assert old in text
    Path("mine.py").write_text(text.replace(old, new), encoding="utf-8")
    code, _, err = _run(capsys, "show", "mine.py")
    assert code == 2 and said in err and "internal error" not in err, err


def test_a_folder_that_cannot_be_written_is_refused_before_deriving(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def derived(*_: object) -> str:
        raise AssertionError("derived before looking")

    monkeypatch.setattr(build_command, "checked_text_of", derived)
    file = tmp_path / "a_file"
    file.write_text("mine", encoding="utf-8")
    for out in (file, file / "below"):
        code, _, err = _run(capsys, "build", MODEL, "--out", out)
        assert code == 2
        # the folder is named as it is seen from here
        named = str(out.relative_to(tmp_path))
        assert "cannot write to " in err and f"{named}: " in err and "--out" in err
    assert file.read_text(encoding="utf-8") == "mine"


def test_an_interrupted_build_leaves_the_old_file_whole(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    file, old = tmp_path / f"{MODEL}.py", "old\nGenerated by derive 0"
    file.write_text(old, encoding="utf-8")
    monkeypatch.setattr(build_command, "checked_text_of", lambda *_: "new")
    monkeypatch.setattr(os, "replace", interrupted)
    code, _, err = _run(capsys, "build", MODEL, "--out", tmp_path)
    assert code == 2 and "interrupted" in err
    assert file.read_text(encoding="utf-8") == old
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


def test_a_build_overwrites_neither_the_definition_nor_a_file_of_the_users(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = _run(capsys, "new", "mine", "--kind", "gaussian_closure")
    assert code == 0, err
    text = Path("mine.py").read_text(encoding="utf-8")
    code, _, err = _run(capsys, "build", "mine.py", "--out", ".")
    assert code == 2 and "mine.py is the definition itself" in err and "--out" in err
    assert Path("mine.py").read_text(encoding="utf-8") == text
    for _ in range(2):  # what a build has written may be written anew
        code, _, err = _run(capsys, "build", "mine.py", "--out", "kernels")
        assert code == 0, err
    Path("kernels/mine.py").write_text("notes = 1\n", encoding="utf-8")
    code, _, err = _run(capsys, "build", "mine.py", "--out", "kernels")
    assert code == 2 and "not a generated module" in err
    assert Path("kernels/mine.py").read_text(encoding="utf-8") == "notes = 1\n"


SMALL = ("--paths", "16", "--width", "8", "--t1", "0.25", "--saves", "3", "--param", "gamma=0.5")


def test_simulate_takes_tokens_or_their_covariance(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    X = np.random.default_rng(1).standard_normal((2, 6))
    V = X @ X.T / 6
    V /= np.trace(V) / 2
    np.save(tmp_path / "tokens.npy", X)
    np.save(tmp_path / "covariance.npy", V)
    for name in ("tokens", "covariance"):
        out = tmp_path / name
        code, _, err = _run(
            capsys, "simulate", MODEL, "--tokens", tmp_path / f"{name}.npy", "--out", out, *SMALL
        )
        assert code == 0, err
        names = sorted(f.suffix for f in out.iterdir())
        assert names == [".npz", ".pdf", ".png", ".svg"]
        (file,) = out.glob("*.npz")
        with np.load(file) as data:
            np.testing.assert_allclose(data["V0"], V, rtol=1e-12)
            assert data["V"].shape == (16, 3, 2, 2)
            assert float(data["param_gamma"]) == 0.5
            np.testing.assert_allclose(data["network_V"][:, 0], np.stack([V] * 16), rtol=1e-12)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.ones(3), "shape (3,)"),
        (np.ones((2, 2), dtype=int), "int"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "not finite"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "positive semi-definite"),
        (np.ones((0, 3)), "shape (0, 3)"),
        (None, "cannot be read as .npy"),
    ],
)
def test_bad_tokens_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, array: np.ndarray | None, word: str
) -> None:
    pytest.importorskip("matplotlib")
    file, out = tmp_path / "bad.npy", tmp_path / "out"
    if array is None:
        file.write_bytes(b"not an array")
    else:
        np.save(file, array)
    code, _, err = _run(capsys, "simulate", MODEL, "--tokens", file, "--out", out, *SMALL)
    assert code == 2 and word in err, err
    assert "internal error" not in err
    assert not out.exists() or list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("tau=1", "tau_0"),
        ("gamma", "NAME=VALUE"),
        ("gamma=big", "'big' is not a number"),
        ("gamma=2", "outside its range"),
    ],
)
def test_bad_parameters_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, value: str, word: str
) -> None:
    pytest.importorskip("matplotlib")
    code, _, err = _run(capsys, "simulate", MODEL, "--param", value, "--out", tmp_path / "out")
    assert code == 2 and word in err, err
    assert not (tmp_path / "out").exists()


def test_a_cost_with_a_domain_is_shown_without_warnings(tmp_path: Path) -> None:
    """Checks look for where a logarithm has values; that is no news for the user."""
    file = tmp_path / "fishing.py"
    file.write_text(
        "from derive.notation import *\n\nd = dims('d: stocks')\n\n\n"
        "@optimal_control(state='s[d]', control='h[d]', data='want[d]')\n"
        "def fishing(s, h, want):\n"
        "    return problem(dynamics=s - h, running=squared_norm(s - want) - log(h).sum())\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "derive", "show", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "log(h)" in done.stdout
    assert "Warning" not in done.stderr, done.stderr

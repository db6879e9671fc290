"""`derive check` tells stale, missing, orphan and hand-edited files apart, and builds are
reproducible.  Nothing here is random."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from certificates import resealed

from derive.commands import check_command
from derive.emit.covariance_sde import module as emit
from derive.entry import generated_folder
from derive.face.kernel import text_of
from derive.registry import entries, find, load, registered

MODEL = "shaped_attention"


@pytest.fixture(scope="module")
def derived() -> str:
    """The module's text, derived once for all tests that only compare with it."""
    return text_of(find(MODEL))


@pytest.fixture
def folder(tmp_path: Path, derived: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of generated/, and `derive check` that does not derive again."""
    copy = tmp_path / "generated"
    shutil.copytree(generated_folder(), copy, ignore=shutil.ignore_patterns("__pycache__"))
    for entry in registered():
        resealed(copy, entry)
    texts = {f.stem: f.read_text(encoding="utf-8") for f in copy.glob("*.py")} | {MODEL: derived}
    monkeypatch.setattr(check_command, "text_of", lambda entry: texts[entry.name])
    return copy


def _check(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    from derive.cli import main

    code = main(["check", "--out", str(folder)])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out.splitlines()


def test_committed_module_is_what_the_definition_says(derived: str) -> None:
    committed = (generated_folder() / f"{MODEL}.py").read_text(encoding="utf-8")
    assert committed == derived, f"run: derive build {MODEL}"


def test_a_clean_copy_has_no_problems(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_command.problems(registered(), folder) == []
    code, lines = _check(folder, capsys)
    assert code == 0
    assert len(lines) == 1 and "everything is as the definitions say" in lines[0]


def _one(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str, file: str, command: str
) -> None:
    code, lines = _check(folder, capsys)
    assert code == 1
    assert len(lines) == 1, lines
    assert lines[0].split()[0] == kind, lines
    assert file in lines[0] and command in lines[0], lines


def test_a_missing_module_is_called_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / f"{MODEL}.py").unlink()
    _one(folder, capsys, "missing", f"{MODEL}.py", f"derive build {MODEL}")


def test_a_missing_certificate_is_called_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / f"{MODEL}.cert.json").unlink()
    _one(folder, capsys, "missing", f"{MODEL}.cert.json", f"derive verify {MODEL} --level full")


def test_a_module_of_no_definition_is_an_orphan(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "forgotten.py").write_text("MODEL = 'forgotten'\n", encoding="utf-8")
    _one(folder, capsys, "orphan", "forgotten.py", "rm ")


def test_a_certificate_of_no_definition_is_an_orphan(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "forgotten.cert.json").write_text("{}", encoding="utf-8")
    _one(folder, capsys, "orphan", "forgotten.cert.json", "rm ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    m = V.shape[-1]\n", "    m = V.shape[-1]  # hand\n"),
        ("gamma / (m * tau_0)", "2 * gamma / (m * tau_0)"),
        ("\n", "\n# appended\n"),
    ],
)
def test_a_changed_body_is_called_hand_edited(
    folder: Path, capsys: pytest.CaptureFixture[str], old: str, new: str
) -> None:
    file = folder / f"{MODEL}.py"
    text = file.read_text(encoding="utf-8")
    assert old in text
    head, tail = text.rsplit(old, 1)
    file.write_text(head + new + tail, encoding="utf-8")
    _one(folder, capsys, "hand-edited", f"{MODEL}.py", f"derive build {MODEL}")
    assert "theory/shaped_attention.py" in check_command.problems(registered(), folder)[0]


def test_a_module_of_an_older_definition_is_called_stale(
    folder: Path,
    derived: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the file is whole, what is derived today differs from it
    today = check_command.text_of
    monkeypatch.setattr(
        check_command,
        "text_of",
        lambda entry: derived + "# newer\n" if entry.name == MODEL else today(entry),
    )
    _one(folder, capsys, "stale", f"{MODEL}.py", f"derive build {MODEL}")


@pytest.mark.parametrize("text", ["not json", "{}", "[]", "3"])
def test_a_broken_certificate_is_a_finding_not_a_crash(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (folder / f"{MODEL}.cert.json").write_text(text, encoding="utf-8")
    _one(folder, capsys, "damaged", f"{MODEL}.cert.json", f"derive verify {MODEL} --level full")


def test_problems_of_several_files_are_all_listed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / f"{MODEL}.cert.json").unlink()
    (folder / "forgotten.py").write_text("", encoding="utf-8")
    code, lines = _check(folder, capsys)
    assert code == 1
    assert sorted(line.split()[0] for line in lines) == ["missing", "orphan"]


SAID = """import sys
from derive.face.kernel import text_of
from derive.registry import find
sys.stdout.buffer.write(text_of(find(sys.argv[1])).encode())
"""


def test_two_hash_seeds_write_byte_identical_modules(derived: str) -> None:
    """This process's own seed, by which `derived` was made, and another."""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "20261"
    done = subprocess.run(
        [sys.executable, "-c", SAID, MODEL],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == derived.encode()


REORDERED = '''"""The same layer, its terms in another order."""

from derive.notation import covariance_sde, dims, eye, gaussian, params, softmax, sqrt

m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")


@covariance_sde(state="X[m, n]", width=n)
def shaped_attention(X):
    W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
    logits = (X @ W_Q) @ (X @ W_K).T / n
    A = FIRST
    return gamma * A @ X @ W_V / sqrt(n) + SKIP * sqrt(1 - gamma**2) * X
'''


def _equations(tmp_path: Path, first: str, skip: str) -> dict[str, str]:
    from derive.methods.covariance_sde.derivation import derive

    file = tmp_path / "reordered.py"
    text = REORDERED.replace("FIRST", first).replace("SKIP * ", skip)
    file.write_text(text, encoding="utf-8")
    entry = entries(file)[0]
    space: dict[str, object] = {"__name__": "generated_under_test"}
    rendered = emit.render(derive(load(entry)), entry.source, entry.argument)
    exec(compile(rendered, str(file), "exec"), space)
    equations = space["EQUATIONS"]
    assert isinstance(equations, dict)
    return equations


def test_reordered_equivalent_terms_give_the_same_equations(tmp_path: Path) -> None:
    from derive.generated import shaped_attention as committed

    softmax = "softmax(logits / (tau_0 * sqrt(n * n_k)))"
    assert _equations(tmp_path, f"-1 / m + {softmax} + eye(m)", "") == committed.EQUATIONS


@pytest.mark.slow  # quick: the changed terms of `face/test_compare`
def test_a_changed_term_gives_other_equations(tmp_path: Path) -> None:
    from derive.generated import shaped_attention as committed

    softmax = "softmax(logits / (tau_0 * sqrt(n * n_k)))"
    other = _equations(tmp_path, f"eye(m) + {softmax} / 2 - 1 / (2 * m)", "")
    assert other["drift"] != committed.EQUATIONS["drift"]

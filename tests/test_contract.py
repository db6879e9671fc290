"""A method is what the contract says: one made from it alone goes through every command."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from toys import TEXT, installed, python

from derive import dispatch
from derive.contract import Method
from derive.registry import find, load, registered


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the toy's package as an installer leaves it, and a definition."""
    return installed(tmp_path)


def derive(place: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return python(place, "-m", "derive", *argv)


def test_a_method_of_another_package_goes_through_every_command(place: Path) -> None:
    listed = derive(place, "list", "mine.py")
    assert listed.returncode == 0, listed.stderr
    assert "tripled" in listed.stdout and "layer_mean" in listed.stdout
    shown = derive(place, "show", "mine.py", "--steps", "--format", "json")
    assert json.loads(shown.stdout)["equations"] == {"mean": "3*m + 1"}, shown.stderr
    built = derive(place, "build", "mine.py", "--out", "out")
    assert built.returncode == 0, built.stderr
    verified = derive(place, "verify", "mine.py", "--out", "out")
    assert verified.returncode == 0, verified.stderr
    assert json.loads((place / "out/tripled.cert.json").read_text())["passed"]
    again = derive(place, "list", "mine.py", "--out", "out")
    assert "verified (quick)" in again.stdout, again.stdout + again.stderr


def test_its_refusals_and_what_it_lacks_are_told(place: Path) -> None:
    (place / "mine.py").write_text(TEXT.replace("BODY", "x**2"))
    refused = derive(place, "show", "mine.py")
    assert refused.returncode == 2 and "is not linear" in refused.stderr
    assert "mine.py:6" in refused.stderr
    (place / "mine.py").write_text(TEXT.replace("BODY", "3 * x"))
    for argv, said in (
        (("simulate", "mine.py"), "From Python"),
        (("show", "mine.py", "--finite-width"), "has none"),
        (("mutate", "mine.py"), "not broken one by one"),
    ):
        told = derive(place, *argv)
        assert told.returncode == 2 and said in told.stderr, told.stderr


def test_its_gate_writes_no_wrong_kernel(place: Path) -> None:
    """The emitter broken: nothing is written, exit code 1, what differs is named."""
    toy = place / "installed" / "toy_means.py"
    toy.write_text(toy.read_text().replace("sp.pycode(mean)", "sp.pycode(mean + M / 1000)"))
    built = derive(place, "build", "mine.py", "--out", "out")
    assert built.returncode == 1 and "mean" in built.stderr, built.stderr
    assert not (place / "out" / "tripled.py").exists()


@pytest.mark.parametrize("word", dispatch.own())
def test_every_method_keeps_the_contract(word: str) -> None:
    kind = dispatch.method(word)
    assert Method in type(kind).__mro__ and kind.word == word
    assert f"@{word}" in kind.starter and "NAME" in kind.starter
    entry = next(e for e in registered() if e.method == word)
    assert kind.trace(load(entry)) is not None
    assert all(found.title for found in kind.figures().values())


def test_commands_registry_and_reports_name_no_method() -> None:
    """Only descriptors and the folders of the methods themselves do."""
    home = Path(dispatch.__file__).parent
    files = [*home.glob("*.py"), *(home / "commands").glob("*.py")]
    files += [*home.glob("*/common/*.py"), home / "mutants" / "trial.py"]
    named = {
        f"{file.relative_to(home)}: {word}"
        for file in files
        for word in dispatch.own()
        if word in file.read_text(encoding="utf-8")
    }
    assert not named


def test_the_readme_has_every_method() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert not [word for word in dispatch.own() if f"`{word}`" not in text]


def test_a_shipped_model_is_found_with_its_method() -> None:
    assert find("shaped_attention").method in dispatch.own()

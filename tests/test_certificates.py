"""A certificate vouches for the kernel's bytes, the definition and the runtime that it was measured
on, and for nothing else.  Nothing here is random."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from certificates import resealed

from derive import certificate, sources
from derive import entry as entry_module
from derive.cli import main
from derive.commands import list_command
from derive.commands.verify_command import keep_stronger
from derive.entry import Entry, generated_folder
from derive.registry import entries, find, registered

MODEL = "linear_closure"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The model's kernel and its certificate, bound to it."""
    for suffix in (".py", ".cert.json"):
        shutil.copy(generated_folder() / f"{MODEL}{suffix}", tmp_path)
    resealed(tmp_path, find(MODEL), level="full")
    return tmp_path


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text, old
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_certificate_of_the_kernel_beside_it_holds(folder: Path) -> None:
    found = certificate.verdict(folder, find(MODEL))
    assert found.holds and found.level == "full" and not certificate.elsewhere(found)


def test_one_byte_of_the_kernel_makes_it_stale(folder: Path) -> None:
    with open(folder / f"{MODEL}.py", "a", encoding="utf-8") as stream:
        stream.write("\n")
    found = certificate.verdict(folder, find(MODEL))
    assert found.state == "stale" and "bytes" in found.why


@pytest.mark.parametrize("part", ["closures/results", "closures/entry", "common/precision"])
def test_a_changed_runtime_file_makes_it_stale_and_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    copy = tmp_path / "runtime"
    shutil.copytree(sources.RUNTIME, copy)
    monkeypatch.setattr(sources, "RUNTIME", copy)
    sources._imports_and_meaning.cache_clear()
    assert certificate.verdict(folder, find(MODEL)).holds
    with open(copy / f"{part}.py", "a", encoding="utf-8") as stream:
        stream.write("\nSPARE = 1\n")
    sources._imports_and_meaning.cache_clear()
    found = certificate.verdict(folder, find(MODEL))
    monkeypatch.undo()
    sources._imports_and_meaning.cache_clear()
    assert found.state == "stale" and f"{part}.py" in found.why


def test_a_runtime_file_that_the_kernel_does_not_need_changes_nothing() -> None:
    kernel = (generated_folder() / f"{MODEL}.py").read_text(encoding="utf-8")
    parts = sources.needed(kernel)
    assert "closures/entry" in parts and "closures/results" in parts
    assert not any(part.startswith(("control/", "paths/")) for part in parts)


def test_what_a_needed_file_imports_is_needed_too() -> None:
    kernel = (generated_folder() / "shaped_attention.py").read_text(encoding="utf-8")
    assert "paths/entry" in sources.reached(kernel)
    assert "paths/normals" not in sources.reached(kernel)
    assert "paths/normals" in sources.needed(kernel)


TEXT = '"""Title."""\nx = 1  # one\ndef f(a, b=2):\n    """Words."""\n    return a + b\n'


@pytest.mark.parametrize(
    "same",
    [
        TEXT.replace("  # one", ""),
        TEXT.replace("Words", "Other words"),
        TEXT.replace("Title", "Another"),
        TEXT.replace("(a, b=2)", "(\n    a,\n    b = 2,\n)"),
        TEXT.replace("x = 1", "x = (1)"),
    ],
)
def test_comments_docstrings_and_layout_are_no_change(same: str) -> None:
    assert same != TEXT and sources.meaning(same) == sources.meaning(TEXT)


@pytest.mark.parametrize(
    ("old", "new"),
    [("x = 1", "x = 2"), ("b=2", "b=3"), ("a + b", "a - b"), ("a + b", "b + a"), ("def f", "def g")]
    + [("x = 1", "x = 1.0"), ("x = 1", "x = None"), ("return a + b", "pass"), ("x = 1", "x = '1'")],
)
def test_a_changed_statement_is_a_change(old: str, new: str) -> None:
    assert sources.meaning(TEXT.replace(old, new)) != sources.meaning(TEXT)


def _own(tmp_path: Path) -> tuple[Path, Entry]:
    """A definition of the user's that imports another file of theirs."""
    assert main(["new", "mine", "--kind", "gaussian_closure", "--out", str(tmp_path)]) == 0
    (tmp_path / "helper.py").write_text("SCALE = 1\n", encoding="utf-8")
    file = tmp_path / "mine.py"
    _edit(file, "from derive", "import sys\nfrom pathlib import Path\n\nfrom derive")
    _edit(
        file, "d, d_k =", "sys.path.insert(0, str(Path(__file__).parent))\nimport helper\nd, d_k ="
    )
    return file, entries(file)[0]


def test_a_changed_definition_or_a_file_that_it_imports_makes_it_stale(tmp_path: Path) -> None:
    file, entry = _own(tmp_path)
    pinned = certificate.pins("x = 1\n", entry)
    assert set(pinned["definition"]) == {"mine", "helper"}
    _edit(file, "say here", "this is")
    assert certificate.changes(pinned, certificate.pins("x = 1\n", entry)) == []
    _edit(tmp_path / "helper.py", "1", "2")
    (said,) = certificate.changes(pinned, certificate.pins("x = 1\n", entry))
    assert "helper" in said and "mine" not in said
    _edit(file, "V @ y", "2 * V @ y")
    (said,) = certificate.changes(pinned, certificate.pins("x = 1\n", entry))
    assert "mine" in said


def test_a_certificate_holds_no_path_of_this_machine(folder: Path) -> None:
    text = (folder / f"{MODEL}.cert.json").read_text(encoding="utf-8")
    assert str(folder) not in text and str(generated_folder().parent) not in text


@pytest.mark.parametrize(
    ("old", "new"),
    [('"passed": false', '"passed": true'), ('"level": "quick"', '"level": "full"')]
    + [("0.125", "0.0625"), ('"status": "failed"', '"status": "passed"')],
)
def test_an_edited_figure_breaks_the_seal(folder: Path, old: str, new: str) -> None:
    rung = {"name": "L9", "claim": "", "status": "failed", "figures": {"residual": 0.125}}
    file = resealed(folder, find(MODEL), rungs=[rung], passed=False, level="quick")
    assert certificate.verdict(folder, find(MODEL)).state == "failed"
    _edit(file, old, new)
    assert certificate.verdict(folder, find(MODEL)).state == "hand-edited"


def test_a_reformatted_certificate_is_the_same(folder: Path) -> None:
    file = folder / f"{MODEL}.cert.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent=4, sort_keys=True))
    assert certificate.verdict(folder, find(MODEL)).holds


BROKEN = [b"", b"\0\0", b"\xff\xfe{}", b"not json", b"[]", b"3", b"{}", b'{"level": 3}', b"null"]
BROKEN += [b"[" * 100_000, b'{"model": "x", "signature": "y", "level": "full"}']


@pytest.mark.parametrize("content", BROKEN)
def test_a_damaged_certificate_is_called_damaged(folder: Path, content: bytes) -> None:
    (folder / f"{MODEL}.cert.json").write_bytes(content)
    found = certificate.verdict(folder, find(MODEL))
    assert found.state == "damaged" and found.why


def test_a_folder_or_a_broken_link_in_its_place_is_damaged(folder: Path) -> None:
    file = folder / f"{MODEL}.cert.json"
    file.unlink()
    file.mkdir()
    assert certificate.verdict(folder, find(MODEL)).state == "damaged"
    file.rmdir()
    file.symlink_to(file)
    assert certificate.verdict(folder, find(MODEL)).state == "damaged"
    file.unlink()
    assert certificate.verdict(folder, find(MODEL)).state == "missing"


@pytest.mark.parametrize("drop", ["kernel", "definition", "runtime"])
def test_a_certificate_that_pins_only_a_part_is_damaged(folder: Path, drop: str) -> None:
    file = folder / f"{MODEL}.cert.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    del content["pins"][drop]
    content["seal"] = certificate.seal(content)
    file.write_text(json.dumps(content), encoding="utf-8")
    assert certificate.verdict(folder, find(MODEL)).state == "damaged"


def test_one_that_pins_nothing_is_stale(folder: Path) -> None:
    file = folder / f"{MODEL}.cert.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    for name in ("pins", "seal", "measured_on"):
        del content[name]
    file.write_text(json.dumps(content), encoding="utf-8")
    assert certificate.verdict(folder, find(MODEL)).state == "stale"


@pytest.mark.parametrize(
    ("statuses", "state"),
    [
        (["passed", "not reached"], "holds"),
        (["passed", "failed"], "failed"),
        ([], "failed"),
    ],
)
def test_a_failed_rung_or_none_at_all_is_no_verification(
    folder: Path, statuses: list[str], state: str
) -> None:
    rungs = [{"name": f"L{k}", "status": s} for k, s in enumerate(statuses)]
    resealed(folder, find(MODEL), rungs=rungs, passed=True)
    assert certificate.verdict(folder, find(MODEL)).state == state


def test_another_toolchain_is_told_and_not_held_against_it(folder: Path) -> None:
    file = folder / f"{MODEL}.cert.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["measured_on"]["jax"] = "0.99.0"
    content["seal"] = certificate.seal(content)
    file.write_text(json.dumps(content), encoding="utf-8")
    found = certificate.verdict(folder, find(MODEL))
    assert found.holds and "jax 0.99.0" in certificate.elsewhere(found)


def test_a_quick_run_keeps_a_full_certificate_only_while_it_holds(folder: Path) -> None:
    assert keep_stronger(certificate.verdict(folder, find(MODEL)), "quick")
    assert not keep_stronger(certificate.verdict(folder, find(MODEL)), "full")
    _edit(folder / f"{MODEL}.py", "MODEL", "# MODEL")
    assert not keep_stronger(certificate.verdict(folder, find(MODEL)), "quick")
    resealed(folder, find(MODEL), level="quick")
    assert not keep_stronger(certificate.verdict(folder, find(MODEL)), "quick")
    resealed(folder, find(MODEL), level="full", passed=False)
    assert not keep_stronger(certificate.verdict(folder, find(MODEL)), "quick")


def test_list_says_verified_only_of_what_is_there(folder: Path) -> None:
    entry, kernel, file = find(MODEL), folder / f"{MODEL}.py", folder / f"{MODEL}.cert.json"

    def said() -> str:
        return list_command.standing(folder, entry)

    assert said() == "built, verified (full)"
    resealed(folder, entry, level="quick")
    assert said() == "built, verified (quick)"
    resealed(folder, entry, passed=False)
    assert said() == "built, certificate failed"
    _edit(kernel, "MODEL", "# MODEL")
    assert said() == "built, certificate stale"
    file.write_text("{}", encoding="utf-8")
    assert said() == "built, certificate damaged"
    file.unlink()
    assert said() == "built, not verified"
    kernel.write_bytes(b"\0")
    assert said() == "damaged"
    kernel.unlink()
    assert said() == "not built"


def test_list_is_instant() -> None:
    start = time.process_time()
    done = subprocess.run([sys.executable, "-m", "derive", "list"], capture_output=True, timeout=60)
    assert done.returncode == 0 and time.process_time() - start < 2
    assert b"certificate" in done.stdout or b"verified" in done.stdout


def test_export_carries_a_certificate_only_while_it_holds(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(entry_module, "generated_folder", lambda: folder)
    target = tmp_path / "package"
    assert main(["export", MODEL, "--to", str(target)]) == 0
    assert (target / f"{MODEL}.cert.json").exists()
    _edit(folder / f"{MODEL}.cert.json", '"passed": true', '"passed": false')
    capsys.readouterr()
    assert main(["export", MODEL, "--to", str(target)]) == 0
    said = capsys.readouterr().err
    assert "without a certificate (hand-edited" in said
    assert not (target / f"{MODEL}.cert.json").exists()  # the one of before goes


@pytest.mark.parametrize("entry", registered(), ids=lambda entry: entry.name)
def test_the_committed_certificate_of_every_model_holds(entry: Entry) -> None:
    found = certificate.verdict(generated_folder(), entry)
    assert found.holds, f"{found.state}: {found.why}; run: derive verify {entry.name}"

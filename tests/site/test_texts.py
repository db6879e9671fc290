"""What README, the site's texts and the notebooks show runs as it stands."""

from __future__ import annotations

import json
import re
import shlex
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import readme_tables
from command_line import run

from derive.dispatch import own
from derive.site import markdown
from derive.site.index_page import texts

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "README.md"
BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def readme() -> str:
    return README.read_text(encoding="utf-8")


def kinds() -> dict[str, str]:
    folder = resources.files("derive.kinds")
    return {w: (folder / w / "method.md").read_text(encoding="utf-8") for w in own()}


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_readme_is_short() -> None:
    lines = readme().split("\n")
    assert len(lines) < 200
    assert max(len(line) for line in lines if not line.startswith(("|", "!"))) <= 120


def test_its_table_is_of_the_models_that_there_are() -> None:
    text = readme()
    assert readme_tables.written(text) == text, f"run: python {readme_tables.__file__}"


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", readme())
    assert links and all((REPOSITORY / link).is_file() for link in links)


def test_its_definition_is_shown(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is quick of the next."""
    (_, _, definition), *_ = BLOCK.findall(readme())
    (at_home / "my_attention.py").write_text(definition, encoding="utf-8")
    code, out, err = run(capsys, "show", "my_attention.py")
    assert code == 0 and "R = E grad Gamma = beta * V S K^T Q" in out, err


@pytest.mark.slow
def test_its_blocks_run(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [(kind, body) for kind, _, body in BLOCK.findall(readme())]
    assert [kind for kind, _ in blocks] == ["python", "sh", "python"]
    (at_home / "my_attention.py").write_text(blocks[0][1], encoding="utf-8")
    for line in blocks[1][1].split("\n"):
        if line:
            code, out, err = run(capsys, *shlex.split(line)[1:])
            assert code == 0, err
            if " show " in line:
                assert "R = E grad Gamma = beta * V S K^T Q" in out
    names: dict[str, Any] = {}
    exec(compile(blocks[2][1], str(README), "exec"), names)
    del sys.modules["my_attention"]
    assert (at_home / "my_attention.png").is_file()
    first, last = names["found"].cov[0], names["found"].cov[-1]
    assert first[0, 0] / first[1, 1] == 4 and last[0, 0] / last[1, 1] < 2
    assert last.trace() < first.trace()
    said = re.findall(r"print\(eq\.\w+\)  # (.*?)(?: \.\.\.)?\n", blocks[2][1])
    shown = f"{names['eq'].cov_rate} {names['eq'].facts}"
    assert len(said) == 2 and all(words in shown for words in said)


def test_its_targets_are_those_of_the_makefile() -> None:
    made = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{t}:" in made for t in re.findall(r"^ +make (\w+)", readme(), re.M))


def pages() -> dict[str, str]:
    return texts() | kinds()


@pytest.mark.parametrize("name", pages())
def test_a_text_is_read_whole(name: str) -> None:
    page = markdown.as_html(pages()[name])
    assert markdown.title(pages()[name])
    without = re.sub(r"<pre>.*?</pre>|<code.*?</code>|<[^>]+>", "", page, flags=re.DOTALL)
    assert not re.search(r"```|\*\*|\]\(|^#|\| *---", without, re.MULTILINE)


@pytest.mark.parametrize("name", pages())
def test_its_python_is_python(name: str) -> None:
    for kind, how, body in BLOCK.findall(pages()[name]):
        assert kind == "python" and how in ("", "large", "cluster")
        compile(body, name, "exec")


def told(name: str) -> list[str]:
    return [body for kind, how, body in BLOCK.findall(pages()[name]) if not how]


@pytest.mark.parametrize("name", [w for w in kinds() if w != "token_flow"])
def test_definitions_of_a_kind_derive(name: str, at_home: Path) -> None:
    from derive.registry import entries

    for body in told(name):
        (at_home / "mine.py").write_text(f'"""A definition."""\n\n{body}', encoding="utf-8")
        (found,) = entries(at_home / "mine.py")
        assert found.method == name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kernels", "python", "token_flow"])
def test_longer_blocks_run(name: str, at_home: Path) -> None:
    for body in told(name):
        if "@token_flow" in body:
            continue  # a definition stands in a file
        names: dict[str, Any] = {}
        exec(compile(body, name, "exec"), names)
    if name == "python":
        assert str(names["rates"].v) == "gamma**2*v**3*(m - 1)*(r - 1)**2/(m**2*tau_0**2)"
        assert names["rates"].r == 0 and names["kernel"].MODEL == "linear_closure"


NOTEBOOKS = sorted(
    Path(str(resources.files("derive.site") / "notebooks")).glob("*.ipynb"),
    key=lambda file: file.name,
)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_one(file: Path) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4 and content["nbformat_minor"] == 5
    assert {"kernelspec", "language_info"} <= set(content["metadata"])
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in content["cells"]:
        wanted = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            wanted |= {"outputs", "execution_count"}
            compile("".join(cell["source"]), file.name, "exec")
        assert set(cell) == wanted


def test_there_are_three_notebooks() -> None:
    assert [f.stem for f in NOTEBOOKS] == [
        "anisotropy_through_depth",
        "softmax_to_sigmoid",
        "steering_clusters",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_from_its_first_cell_to_its_last(file: Path, at_home: Path) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(content["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{file.stem}[{number}]", "exec"), names)
    assert names["checked"] is True  # the last cell compares what it says with numbers

"""What the README shows of Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[2] / "README.md"


def section() -> str:
    return README.read_text(encoding="utf-8").split("## From Python\n")[1].split("\n## ")[0]


def test_the_section_is_short() -> None:
    assert len(section().strip().split("\n")) <= 25


def test_its_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (block,) = re.findall(r"```python\n(.*?)```", section(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, str(README), "exec"), names)
    assert str(names["rates"].v) == "gamma**2*v**3*(m - 1)*(r - 1)**2/(m**2*tau_0**2)"
    assert names["rates"].r == 0 and names["kernel"].MODEL == "linear_closure"

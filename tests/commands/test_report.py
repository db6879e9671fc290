"""`derive report`: pages of equations, of the record and of the names that Python sees."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import run

OWN = '''"""Tokens < one another."""
from derive.notation import *

d = dims("d: dimension")


@token_flow(state="x[d]", on=sphere)
def own(x, y):
    return average(y, exp(x @ y))
'''


def test_every_link_leads_to_a_page_that_stands_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN, encoding="utf-8")
    site = tmp_path / "site"
    code, out, err = run(capsys, "report", "linear_closure", str(file), "--to", site)
    assert code == 0 and out.strip().endswith("index.html"), err
    index = (site / "index.html").read_text(encoding="utf-8")
    assert "Tokens &lt; one another." in index and "not built" in index
    links = re.findall(r'href="([^"]+)"', index)
    assert sorted(links) == [
        "linear_closure-steps.html",
        "linear_closure.html",
        "own-steps.html",
        "own.html",
        "reference/derive.html",
        "reference/linear_closure.html",
    ]
    for link in links:
        page = (site / link).read_text(encoding="utf-8")
        assert page.startswith("<!doctype html>") and "http" not in page and "src=" not in page
    assert "R = E grad Gamma" in (site / "linear_closure.html").read_text(encoding="utf-8")
    steps = (site / "linear_closure-steps.html").read_text(encoding="utf-8")
    assert "check passed" in steps
    kernel = (site / "reference/linear_closure.html").read_text(encoding="utf-8")
    assert "<code>solve(mean0, cov0" in kernel


def test_two_models_of_one_name_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own.py").write_text(OWN, encoding="utf-8")
    words = [str(tmp_path / folder / "own.py") for folder in ("a", "b")]
    code, _, err = run(capsys, "report", *words, "--to", tmp_path / "site")
    assert code == 2 and "two models are called own" in err
    assert not (tmp_path / "site").exists()

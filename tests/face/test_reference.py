"""Every public name of `derive` and of a kernel has a docstring that says what it takes."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import derive
from derive.errors import RequestError
from derive.face import reference

KERNELS = ["shaped_attention", "linear_closure", "mean_tracking"]
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@pytest.mark.parametrize(("name", "value"), list(reference.public()))
def test_a_public_name_says_its_arguments_and_errors(name: str, value: Any) -> None:
    said = reference.said(value)
    assert said, name
    if inspect.isfunction(value):
        own = inspect.signature(value).parameters
        taken = [n for n, p in own.items() if n != "self" and p.kind in NAMED]
        assert [n for n in taken if n not in said] == [], name
        assert not taken or "aise" in said or "Error" in said, name


@pytest.mark.parametrize("model", KERNELS)
def test_every_function_of_a_kernel_has_a_docstring(model: str) -> None:
    found = dict(reference.functions(derive.load(model)))
    assert len(found) > 8 and "Params" in found
    assert [n for n, v in found.items() if not reference.said(v)] == []


def test_the_pages_are_written(tmp_path: Path) -> None:
    reference.write(tmp_path, KERNELS[2:])
    assert sorted(f.name for f in tmp_path.iterdir()) == ["derive.html", "mean_tracking.html"]
    text = (tmp_path / "derive.html").read_text(encoding="utf-8")
    for name in ("derive.derive(model, *, limit=0.0)", "Equation.matrix"):
        assert f"<code>{name}</code></h2>" in text
    kernel = (tmp_path / "mean_tracking.html").read_text(encoding="utf-8")
    assert "<code>extremal(x0, params" in kernel
    with pytest.raises(RequestError, match="no kernel"):
        reference.write(tmp_path, ["nothing"])

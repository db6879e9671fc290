"""Equations that are written in lines, as a report shows them: in text and in LaTeX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from derive.calculus.written.equation import Written
from derive.emit.common import latex
from derive.emit.common.document import Shown


def equation_shown(name: str, form: Written, tex: Written, headings: Mapping[str, str]) -> Shown:
    """`form` is the text's, `tex` that of LaTeX; an equation without a heading has its name."""
    rows = [f"  {row}" for row in form.rows]
    return Shown(name, rows, headings.get(name, name), tex.left, tex.display, form.text)


def result_shown(name: str, form: Written, tex: Written) -> Shown:
    """What a step has found, under its name."""
    shown = equation_shown(name, replace(form, left=name), tex, {})
    left = rf"\mathrm{{{latex.escape(name)}}}"
    return replace(shown, rows=[row[2:] for row in shown.rows], heading=name, left=left)

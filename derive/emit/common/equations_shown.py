"""Equations that are written in lines, as a report shows them: in text and in LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from derive.calculus.written.dialect import LATEX, TEXT, Dialect
from derive.calculus.written.equation import Written
from derive.emit.common import latex
from derive.emit.common.document import Document, Shown, StepShown


def equation_shown(name: str, form: Written, tex: Written, headings: Mapping[str, str]) -> Shown:
    """`form` is the text's, `tex` that of LaTeX; an equation without a heading has its name."""
    rows = [f"  {row}" for row in form.rows]
    return Shown(name, rows, headings.get(name, name), tex.left, tex.display, form.text)


def result_shown(name: str, form: Written, tex: Written) -> Shown:
    """What a step has found, under its name."""
    shown = equation_shown(name, replace(form, left=name), tex, {})
    left = rf"\mathrm{{{latex.escape(name)}}}"
    return replace(shown, rows=[row[2:] for row in shown.rows], heading=name, left=left)


def report(
    result: Any,
    written: Callable[[Any, Dialect], Mapping[str, Written]],
    of_equation: Callable[[Any, str, Any, Dialect], Written],
    headings: Mapping[str, str],
    intro: Sequence[str],
    data: dict[str, Any],
    steps: bool,
) -> Document:
    """The document of a derivation whose equations are `written`, and what a step has found by
    `of_equation`; with the record of the steps or with the equations alone."""
    text, tex = written(result, TEXT), written(result, LATEX)

    def found(name: str, value: Any) -> Shown:
        return result_shown(name, *(of_equation(result, name, value, d) for d in (TEXT, LATEX)))

    return Document(
        name=result.model.name,
        title=result.model.doc.strip().split("\n")[0],
        intro=intro,
        equations=[equation_shown(name, form, tex[name], headings) for name, form in text.items()],
        notes=result.facts,
        facts=result.facts,
        data=data,
        more={"latex": {name: form.latex for name, form in tex.items()}},
        steps=[StepShown(s, [found(n, e) for n, e in s.results.items()]) for s in result.steps]
        if steps
        else None,
    )

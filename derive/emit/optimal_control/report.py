"""An optimality system as a report: plain text, LaTeX, HTML or JSON, with or without its steps."""

from __future__ import annotations

import html
import json
from typing import Any

from derive.emit.common import array_latex, latex
from derive.emit.common.facts_report import fact_checks, fact_lines
from derive.emit.common.graph_code import statements
from derive.emit.optimal_control.module import (
    LEFT_SIDES,
    _leaf_names,
    equations_latex,
    equations_text,
    model_signature,
)
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.arrays import Array


def _text(result: OptimalControl, steps: bool) -> str:
    model = result.model
    lines = [f"{model.name}: {_title(result)}", ""]
    moving = tuple(s for s in model.states if s.kind != "constant")
    chosen = (*model.controls, *model.constants)
    for word, slots in (("state", moving), ("control", chosen), ("data", model.data)):
        shown = ", ".join(
            f"{s.name}[{', '.join(d.name for d in s.shape)}]" + (f" {s.kind}" if s.kind else "")
            for s in slots
        )
        if shown:
            lines.append(f"  {word} {shown}")
    lines += ["  minimise the integral of L + phi at the end; H = L + p.f", ""]
    if not steps:
        lines += [f"  {line}" for line in equations_text(result)]
        lines += ["", *(f"  {fact}" for fact in result.facts)]
        return "\n".join(lines) + "\n"
    for number, step in enumerate(result.steps, 1):
        lines.append(f"step {number}: {step.name} ({step.rule})")
        lines += [f"    {fact}" for fact in step.facts]
        if step.check:
            verdict = "passed" if step.check.passed else "FAILED"
            lines.append(
                f"    check {verdict}: {step.check.what}, residual "
                f"{step.check.residual:.1e} (tolerance {step.check.tolerance:.0e})"
            )
        for name, parts in step.results.items():
            for part in parts:  # type: ignore[attr-defined]
                rows = _code(result, part)
                lines.append(f"    {name} = {rows[-1]}")
                lines += [f"        {row}" for row in rows[:-1]]
        lines.append("")
    lines += fact_lines(result)
    return "\n".join(lines)


def _code(result: OptimalControl, part: Array) -> list[str]:
    lines, text = statements(
        part, result.algebra.names, _leaf_names(result), "x.dtype", signed=True
    )
    return [*(f"{n} = {words}" for n, words in lines), text]


def _title(result: OptimalControl) -> str:
    return result.model.doc.strip().split("\n")[0]


def _latex(result: OptimalControl, steps: bool) -> str:
    parts = []
    if steps:
        for number, step in enumerate(result.steps, 1):
            check = f", residual {step.check.residual:.1e}" if step.check else ""
            for name, arrays in step.results.items():
                for array in arrays:  # type: ignore[attr-defined]
                    left = rf"\text{{{latex.escape(name)}}}"
                    whole = array_latex.equation(left, array, result.algebra.names)
                    heading = f"Step {number}: {step.name} ({step.rule}){check}"
                    parts.append((heading, *_split(whole)))
    else:
        for key, text in equations_latex(result).items():
            parts.append((key.replace("_", " "), *_split(text)))
    return latex.document(_title(result) or result.model.name, parts, list(result.facts))


def _split(text: str) -> tuple[str, list[str]]:
    """The left side of the last equation, its right side, and the definitions of its parts."""
    *before, last = text.split(r",\quad ")
    left, _, right = last.partition(" = ")
    return left, [right, *(rf"\qquad {b}" for b in before)]


def _html(result: OptimalControl, steps: bool) -> str:
    body = html.escape(_text(result, steps))
    title = html.escape(result.model.name)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
        "<style>body{max-width:60rem;margin:2rem auto;font-family:serif}"
        "pre{white-space:pre-wrap;font-size:.9rem;line-height:1.45}</style>\n"
        f"<h1>{title}</h1>\n<pre>{body}</pre>\n</html>\n"
    )


def _json(result: OptimalControl, steps: bool) -> str:
    out: dict[str, Any] = {
        "model": result.model.name,
        "signature": model_signature(result),
        "facts": list(result.facts),
        "equations": {
            name: [_code(result, part) for part in parts]
            for name, parts in result.equations.items()
            if name in LEFT_SIDES
        },
        "sparse": result.law.sparse,
        "fixed_end": result.fixed_end,
    }
    if steps:
        out["fact_checks"] = fact_checks(result)
        out["steps"] = [
            {
                "name": s.name,
                "rule": s.rule,
                "facts": list(s.facts),
                "check": None
                if s.check is None
                else {
                    "what": s.check.what,
                    "residual": s.check.residual,
                    "tolerance": s.check.tolerance,
                    "passed": s.check.passed,
                },
                "results": {
                    name: [_code(result, part) for part in parts]  # type: ignore[attr-defined]
                    for name, parts in s.results.items()
                },
            }
            for s in result.steps
        ]
    return json.dumps(out, indent=1) + "\n"


FORMATS = {"text": _text, "latex": _latex, "html": _html, "json": _json}

"""A derivation as a document: what every method's report is made of, as plain text and JSON.

Input: a `Document`, which a method makes of its result.  Output: plain text or JSON; pages of HTML
and LaTeX are made in `derive.site`.  A method says what its equations look like; headings, the
record of the steps, facts with their checks and the formats themselves are the same for all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from derive.methods.common.record import Check, Fact, Step, all_facts


@dataclass(frozen=True)
class Shown:
    """One equation in every format.

    `rows`: lines of text, a heading first where there is one; `heading`, `left`, `right`: LaTeX,
    the right side in lines; `data`: for JSON.
    """

    name: str
    rows: Sequence[str]
    heading: str
    left: str
    right: Sequence[str]
    data: Any


@dataclass(frozen=True)
class StepShown:
    """A step of the record with its results."""

    step: Step
    results: Sequence[Shown]


@dataclass(frozen=True)
class Document:
    """What a report says.

    `name`, `title`: of the model; `intro`: lines of text that say what the symbols are;
    `equations`: shown where `steps` is None; `notes`, `latex_notes`: in words, behind the
    equations; `facts`: what the result says in words; `data`: more fields for JSON.
    """

    name: str
    title: str
    intro: Sequence[str]
    equations: Sequence[Shown]
    notes: Sequence[str]
    facts: Sequence[Fact]
    data: dict[str, Any]
    latex_notes: Sequence[str] | None = None
    steps: Sequence[StepShown] | None = None
    more: dict[str, Any] = field(default_factory=dict)  # JSON fields behind the equations


def text(document: Document, spelt: Callable[[str], str] = str) -> str:
    """`spelt`: how mathematics is spelt, as it is or with the signs of a terminal."""
    lines = [f"{document.name}: {document.title}", "", *document.intro, ""]
    if document.steps is not None:
        for number, shown in enumerate(document.steps, 1):
            lines += map(spelt, _step_lines(number, shown))
        return "\n".join([*lines, *map(spelt, _fact_lines(document))])
    for equation in document.equations:
        lines += [*map(spelt, equation.rows), ""]
    return "\n".join([*lines, *(f"  {spelt(note)}" for note in document.notes)]) + "\n"


def _step_lines(number: int, shown: StepShown) -> list[str]:
    step = shown.step
    lines = [f"step {number}: {step.name} ({step.rule})"]
    lines += [f"    {fact}" for fact in step.facts]
    if step.check:
        lines.append(f"    {_verdict(step.check)}")
    for result in shown.results:
        lines += [f"    {row}" for row in result.rows]
    return [*lines, ""]


def _verdict(check: Check) -> str:
    return (
        f"check {'passed' if check.passed else 'FAILED'}: {check.what}, residual "
        f"{check.residual:.1e} (tolerance {check.tolerance:.0e})"
    )


def _fact_lines(document: Document) -> list[str]:
    """Every fact of a derivation and how far its check was off, for the record of the steps."""
    lines = ["what is said in words, each compared by a route of its own"]
    for fact in _all_facts(document):
        verdict = f"not reached: {fact.unreached}" if fact.check is None else _verdict(fact.check)
        lines += [f"    {fact}", f"        {verdict}"]
    return [*lines, ""]


def _all_facts(document: Document) -> tuple[Fact, ...]:
    return all_facts((s.step for s in document.steps or ()), document.facts)


def json_text(document: Document) -> str:
    out: dict[str, Any] = {
        "model": document.name,
        **document.data,
        "facts": list(document.facts),
        "equations": {e.name: e.data for e in document.equations},
        **document.more,
    }
    if document.steps is not None:
        out["fact_checks"] = [_fact_data(f) for f in _all_facts(document)]
        out["steps"] = [_step_data(shown) for shown in document.steps]
    return json.dumps(out, indent=1) + "\n"


def _check_data(check: Check) -> dict[str, Any]:
    return {
        "what": check.what,
        "residual": float(check.residual),
        "tolerance": check.tolerance,
        "passed": check.passed,
    }


def _fact_data(fact: Fact) -> dict[str, Any]:
    found: dict[str, Any] = {"fact": str(fact), "kind": fact.kind}
    if fact.check is None:
        return found | {"not reached": fact.unreached}
    return found | _check_data(fact.check)


def _step_data(shown: StepShown) -> dict[str, Any]:
    step = shown.step
    return {
        "name": step.name,
        "rule": step.rule,
        "facts": list(step.facts),
        "check": None if step.check is None else _check_data(step.check),
        "results": {result.name: result.data for result in shown.results},
    }

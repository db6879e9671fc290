"""The report of an optimality system: its equations, what is said of them, its steps."""

from __future__ import annotations

from derive.emit.common import array_latex, latex
from derive.emit.common.document import Document, Shown, StepShown
from derive.emit.common.graph_code import statements
from derive.emit.optimal_control.module import (
    LEFT_SIDES,
    _plain,
    equations_latex,
    model_signature,
    spheres,
)
from derive.emit.optimal_control.names import leaf_names
from derive.emit.optimal_control.shortened import shortened
from derive.methods.common.record import Step
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.arrays import Array


def document(result: OptimalControl, steps: bool = False) -> Document:
    """The report, with the record of the steps or with the equations alone."""
    return Document(
        name=result.model.name,
        title=result.model.doc.strip().split("\n")[0],
        intro=[
            *_slots(result),
            *(f"  {words}" for words in spheres(result)),
            "  minimise the integral of the running cost L, plus the terminal cost phi at the end",
        ],
        equations=_equations(shortened(result)),
        notes=result.facts,
        facts=result.facts,
        data={"signature": model_signature(result)},
        more={"sparse": result.law.sparse, "fixed_end": result.fixed_end},
        steps=[StepShown(s, _results(result, s)) for s in result.steps] if steps else None,
    )


def _slots(result: OptimalControl) -> list[str]:
    """State, controls and data with their shapes and kinds."""
    model = result.model
    moving = tuple(s for s in model.states if s.kind != "constant")
    chosen = (*model.controls, *model.constants)
    lines = []
    for word, slots in (("state", moving), ("control", chosen), ("data", model.data)):
        shown = ", ".join(
            f"{s.name}[{', '.join(d.name for d in s.shape)}]" + (f" {s.kind}" if s.kind else "")
            for s in slots
        )
        if shown:
            lines.append(f"  {word} {shown}")
    return lines


def _equations(result: OptimalControl) -> list[Shown]:
    """Every equation but the second derivatives; one of several states or controls names it."""
    shown = []
    texts = equations_latex(result)
    for name, parts in result.equations.items():
        for position, part in enumerate(parts):
            if name not in LEFT_SIDES:
                continue
            of = (result.u if name in ("stationarity", "control_law") else result.x)[position:][:1]
            key = f"{name} of {of[0].data}" if len(parts) > 1 else name
            rows = _code(result, part)
            text = [f"  {_plain(result, name, position)} = {rows[-1]}"]
            text += [f"      {row}" for row in rows[:-1]]
            heading = key.replace("_", " ")
            shown.append(Shown(key, text, heading, *_split(texts[key]), data=rows))
    return shown


def _results(result: OptimalControl, step: Step) -> list[Shown]:
    """What a step has found."""
    shown = []
    for name, arrays in step.results.items():
        for array in arrays:  # type: ignore[attr-defined]
            rows = _code(result, array)
            left = rf"\text{{{latex.escape(name)}}}"
            whole = array_latex.equation(left, array, result.algebra.names)
            text = [f"{name} = {rows[-1]}", *(f"    {row}" for row in rows[:-1])]
            shown.append(Shown(name, text, name, *_split(whole), data=rows))
    return shown


def _code(result: OptimalControl, part: Array) -> list[str]:
    lines, text = statements(part, result.algebra.names, leaf_names(result), "x.dtype", signed=True)
    return [*(f"{n} = {words}" for n, words in lines), text]


def _split(text: str) -> tuple[str, list[str]]:
    """The left side of the last equation, its right side, and the definitions of its parts."""
    *before, last = text.split(r",\quad ")
    left, _, right = last.partition(" = ")
    return left, [right, *(rf"\qquad {b}" for b in before)]

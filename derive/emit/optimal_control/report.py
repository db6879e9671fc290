"""The report of an optimality system: its equations, what is said of them, its steps."""

from __future__ import annotations

from derive.calculus.written.dialect import LATEX
from derive.calculus.written.equation import Written
from derive.emit.common import latex
from derive.emit.common.document import Document, Shown, StepShown
from derive.emit.optimal_control.module import equations, model_signature, of_graph, spheres
from derive.emit.optimal_control.shortened import shortened
from derive.methods.common.record import Step
from derive.methods.optimal_control.result import OptimalControl


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
    tex = equations(result, LATEX)
    return [_shown(name, form, tex[name]) for name, form in equations(result).items()]


def _results(result: OptimalControl, step: Step) -> list[Shown]:
    """What a step has found."""
    shown = []
    for name, arrays in step.results.items():
        for array in arrays:  # type: ignore[attr-defined]
            tex = of_graph(result, rf"\text{{{latex.escape(name)}}}", array, LATEX)
            shown.append(_shown(name, of_graph(result, name, array), tex, indent=""))
    return shown


def _shown(name: str, form: Written, tex: Written, indent: str = "  ") -> Shown:
    rows = [indent + row for row in form.rows]
    return Shown(name, rows, name.replace("_", " "), tex.left, tex.display, form.text)

"""The report of a Gaussian closure: its equations, what is said of them, its steps."""

from __future__ import annotations

from typing import Any

from derive.calculus.written.dialect import LATEX, TEXT
from derive.calculus.written.equation import Written
from derive.emit.common.document import Document, Shown, StepShown
from derive.emit.common.equations_shown import equation_shown, result_shown
from derive.emit.gaussian_closure.equations import of_equation, written
from derive.emit.gaussian_closure.module import model_signature
from derive.methods.gaussian_closure.result import GaussianClosure

HEADINGS = {
    "velocity": "Velocity under a Gaussian law",
    "mean_rate": "Rate of the mean",
    "jacobian": "Mean gradient of the velocity",
    "cov_rate": "Rate of the covariance",
    "noise": "Covariance rate of the noise",
}


def document(result: GaussianClosure, steps: bool = False) -> Document:
    """The report, with the record of the steps or with the equations alone."""
    model = result.model
    verdict = "exact closure" if result.exact else f"projected closure ({result.route})"
    shown = written(result, LATEX)
    return Document(
        name=model.name,
        title=model.doc.strip().split("\n")[0],
        intro=[f"  tokens {model.state}[{model.state_dim}] with law {model.law_text}; {verdict}"],
        equations=[_equation(name, form, shown[name]) for name, form in written(result).items()],
        notes=result.facts,
        facts=result.facts,
        data={
            "signature": model_signature(result),
            "exact": result.exact,
            "route": result.route,
        },
        more={"latex": {name: tex.latex for name, tex in shown.items()}},
        steps=[
            StepShown(s, [_found(result, n, e) for n, e in s.results.items()]) for s in result.steps
        ]
        if steps
        else None,
    )


def _equation(name: str, form: Written, tex: Written) -> Shown:
    return equation_shown(name, form, tex, HEADINGS)


def _found(result: GaussianClosure, name: str, value: Any) -> Shown:
    """What a step has found."""
    return result_shown(name, *(of_equation(result, name, value, d) for d in (TEXT, LATEX)))

"""The report of a Gaussian closure: its equations, what is said of them, its steps."""

from __future__ import annotations

from derive.calculus.index import chains
from derive.calculus.index.expressions import Expression
from derive.emit.common import latex
from derive.emit.common.document import Document, Shown, StepShown
from derive.emit.gaussian_closure.module import equations_latex, equations_text, model_signature
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
    shown = equations_latex(result)
    return Document(
        name=model.name,
        title=model.doc.strip().split("\n")[0],
        intro=[f"  tokens {model.state}[{model.state_dim}] with law N(m, S); {verdict}"],
        equations=[
            _equation(name, text, shown[name]) for name, text in equations_text(result).items()
        ],
        notes=result.facts,
        facts=result.facts,
        data={
            "signature": model_signature(result),
            "exact": result.exact,
            "route": result.route,
        },
        more={"latex": shown},
        steps=[StepShown(s, [_result(n, e) for n, e in s.results.items()]) for s in result.steps]
        if steps
        else None,
    )


def _equation(name: str, text: str, tex: str) -> Shown:
    left, _, right = tex.partition(" = ")
    if name == "jacobian":  # a name, then what it is called, then what it equals
        left, _, right = "R", "", tex.removeprefix("R = ")
    return Shown(name, [f"  {text}"], HEADINGS.get(name, name), left, [right], text)


def _result(name: str, expression: Expression) -> Shown:
    """What a step has found."""
    text = chains.text(expression)
    left = rf"\mathrm{{{latex.escape(name)}}}"
    return Shown(name, [f"{name} = {text}"], name, left, [chains.latex(expression)], text)

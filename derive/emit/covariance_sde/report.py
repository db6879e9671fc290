"""The report of a covariance SDE: its equations, its noise, what is said of them, its steps."""

from __future__ import annotations

from typing import Any

import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.index.text import index_names, show
from derive.emit.common import latex
from derive.emit.common.contraction import responses
from derive.emit.common.document import Document, Shown, StepShown
from derive.emit.covariance_sde.module import LEFT_SIDES, model_signature
from derive.methods.covariance_sde.fields import Field
from derive.methods.covariance_sde.result import CovarianceSDE

HEADINGS = {
    "drift": "Drift, dV_ab = b_ab dt + noise",
    "diffusion": "Diffusion, d<V_ab, V_cd> / dt",
    "noise": "Noise map, N_ab per square root of time",
    "mixing_rate": "Variance of the mixing coefficients per unit time",
}


def document(result: CovarianceSDE, steps: bool = False) -> Document:
    """The report, with the record of the steps or with the equations alone."""
    model, fields = result.model, result.noise.fields
    state = (
        f"  state {model.state_name}[{', '.join(d.name for d in model.state_dims)}], "
        f"V = {model.state_name} {model.state_name}^T"
        + (f" / {model.width}" if model.clock == model.width else "")
        + f", clock t = layer / {model.clock_text}"
    )
    drawn = [f"{f.tensor.name} = {_field(f)}, L L^T = V: the limit of {f.core}" for f in fields]
    return Document(
        name=model.name,
        title=title(result),
        intro=[state],
        equations=[
            shown(name, HEADINGS[name], LEFT_SIDES[name], expression)
            for name, expression in result.equations.items()
        ],
        notes=[*drawn, *responses(result.equations.values()), *result.facts],
        latex_notes=[
            *result.facts,
            *(
                f"{f.tensor.name} = {_field(f)} with L L^T = V, the limit of {f.core}"
                for f in fields
            ),
        ],
        facts=result.facts,
        data={"signature": model_signature(result)},
        more={
            "fields": [
                {"name": f.tensor.name, "symmetric": f.tensor.symmetric, "replaces": f.core}
                for f in fields
            ]
        },
        steps=[StepShown(s, [_result(n, e) for n, e in s.results.items()]) for s in result.steps]
        if steps
        else None,
    )


def shown(name: str, heading: str, left: str, expression: Expression) -> Shown:
    count = len(expression.terms)
    rows = [f"{heading} ({count} terms):", *(f"    {row}" for row in show(expression).split("\n"))]
    return Shown(name, rows, heading, left, latex.lines(expression), terms(expression))


def _result(name: str, expression: Expression) -> Shown:
    """What a step has found."""
    rows = [f"{name}: {len(expression.terms)} terms"]
    rows += [f"    {row}" for row in show(expression).split("\n")]
    left = rf"\text{{{latex.escape(name)}}}"
    return Shown(name, rows, name, left, latex.lines(expression), terms(expression))


def _field(field: Field) -> str:
    """A field in its normals: L G L^T, without the L where a leg is not paired through V."""
    (_, factors), *_ = field.built.terms
    through = {f.indices[0] for f in factors if f.tensor.kind == "factor"}
    left, right = (leg in through for leg in field.built.free)
    return f"{'L ' if left else ''}{field.drawn.name}{' L^T' if right else ''}"


def title(result: CovarianceSDE) -> str:
    return result.model.doc.strip().split("\n")[0]


def terms(expression: Expression) -> list[dict[str, Any]]:
    out = []
    for coefficient, factors in expression.terms:
        names = index_names(expression.free, factors)
        out.append(
            {
                "coefficient": sp.sstr(coefficient),
                "factors": [[f.tensor.name, *(names[i] for i in f.indices)] for f in factors],
            }
        )
    return out

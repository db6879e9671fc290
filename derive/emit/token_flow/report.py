"""The report of a token flow: its equations, what is said of them, its steps."""

from __future__ import annotations

from typing import Any

from derive.calculus.written.dialect import LATEX, TEXT
from derive.calculus.written.equation import Written
from derive.emit.common.document import Document, Shown, StepShown
from derive.emit.common.equations_shown import equation_shown, result_shown
from derive.emit.token_flow.equations import of_equation, written
from derive.emit.token_flow.module import model_signature
from derive.methods.token_flow.result import TokenFlow

HEADINGS = {
    "velocity": "Velocity of a token",
    "noise": "Covariance rate of the noise",
    "gram_rate": "Rate of the inner products",
    "frame": "Frame z = exp(-t M) x in which tokens at one point rest",
    "score": "Scores x[a]^T S x[b] of the average",
    "contraction": "Rate at which a token closes in on its cluster",
    "equal_angle_rate": "Equal angles: rate of the cosine",
    "radius_rate": "Equal angles: rate of the norm",
    "two_cluster_rate": "Two clusters of masses mu and 1 - mu: rate of the cosine",
    "energy": "Energy",
    "uniform_velocity": "Velocity at scores that vanish, before it is projected",
    "split_rate": "Split: rate of z = <x, alpha>, m = <mean, alpha>",
    "split_time": "Split: time from z0 to z1 of a law at one point",
    "pull_rate": "Pull: rate of s = <x, omega>",
    "pull_height_rate": "Pull: rate of g = <x, z>, k = <omega, z>",
    "pull_kept": "Pull: what is kept",
    "pull_time": "Pull: time from u0 to u1, s = tanh u",
}


def document(result: TokenFlow, steps: bool = False) -> Document:
    """The report, with the record of the steps or with the equations alone."""
    model = result.model
    where = f"on the sphere of R^{model.state_dim}" if model.sphere else f"in R^{model.state_dim}"
    shown = written(result, LATEX)
    return Document(
        name=model.name,
        title=model.doc.strip().split("\n")[0],
        intro=[
            f"  tokens {model.state}[a], a = 1 ... n, {where}; R[a,b] = <x[a], x[b]>; "
            "mass[a] of sum one"
        ],
        equations=[_equation(name, form, shown[name]) for name, form in written(result).items()],
        notes=result.facts,
        facts=result.facts,
        data={"signature": model_signature(result)},
        more={"latex": {name: tex.latex for name, tex in shown.items()}},
        steps=[
            StepShown(s, [_found(result, n, e) for n, e in s.results.items()]) for s in result.steps
        ]
        if steps
        else None,
    )


def _equation(name: str, form: Written, tex: Written) -> Shown:
    return equation_shown(name, form, tex, HEADINGS)


def _found(result: TokenFlow, name: str, value: Any) -> Shown:
    """What a step has found."""
    return result_shown(name, *(of_equation(result, name, value, d) for d in (TEXT, LATEX)))

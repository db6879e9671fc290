"""A derivation as a report: plain text, LaTeX, HTML or JSON, with or without its steps."""

from __future__ import annotations

import html
import json
from typing import Any

import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.index.text import index_names, show
from derive.emit.common import latex
from derive.emit.common.contraction import responses
from derive.emit.common.facts_report import fact_checks, fact_lines
from derive.emit.covariance_sde.module import LEFT_SIDES, model_signature
from derive.methods.covariance_sde.fields import Field
from derive.methods.covariance_sde.result import CovarianceSDE

HEADINGS = {
    "drift": "Drift, dV_ab = b_ab dt + noise",
    "diffusion": "Diffusion, d<V_ab, V_cd> / dt",
    "noise": "Noise map, N_ab per square root of time",
    "mixing_rate": "Variance of the mixing coefficients per unit time",
}


def _text(result: CovarianceSDE, steps: bool) -> str:
    model = result.model
    lines = [f"{model.name}: {_title(result)}", ""]
    lines += [
        f"  state {model.state_name}[{', '.join(d.name for d in model.state_dims)}], "
        f"V = {model.state_name} {model.state_name}^T"
        + (f" / {model.width}" if model.clock == model.width else "")
        + f", clock t = layer / {model.clock_text}",
        "",
    ]
    if steps:
        for number, step in enumerate(result.steps, 1):
            lines.append(f"step {number}: {step.name} ({step.rule})")
            lines += [f"    {fact}" for fact in step.facts]
            if step.check:
                verdict = "passed" if step.check.passed else "FAILED"
                lines.append(
                    f"    check {verdict}: {step.check.what}, residual "
                    f"{step.check.residual:.1e} (tolerance {step.check.tolerance:.0e})"
                )
            for name, expression in step.results.items():
                lines.append(f"    {name}: {len(expression.terms)} terms")
                lines += [f"        {row}" for row in show(expression).split("\n")]
            lines.append("")
        lines += fact_lines(result)
        return "\n".join(lines)
    for name, expression in result.equations.items():
        lines.append(f"{HEADINGS[name]} ({len(expression.terms)} terms):")
        lines += [f"    {row}" for row in show(expression).split("\n")]
        lines.append("")
    for field in result.noise.fields:
        lines.append(
            f"  {field.tensor.name} = {_field(field)}, L L^T = V: the limit of {field.core}"
        )
    lines += [f"  {fact}" for fact in (*responses(result.equations.values()), *result.facts)]
    return "\n".join(lines) + "\n"


def _field(field: Field) -> str:
    """A field in its normals: L G L^T, without the L where a leg is not paired through V."""
    (_, factors), *_ = field.built.terms
    through = {f.indices[0] for f in factors if f.tensor.kind == "factor"}
    left, right = (leg in through for leg in field.built.free)
    return f"{'L ' if left else ''}{field.drawn.name}{' L^T' if right else ''}"


def _title(result: CovarianceSDE) -> str:
    return result.model.doc.strip().split("\n")[0]


def _latex(result: CovarianceSDE, steps: bool) -> str:
    parts = []
    if steps:
        for number, step in enumerate(result.steps, 1):
            for name, expression in step.results.items():
                left = rf"\text{{{latex.escape(name)}}}"
                check = f", residual {step.check.residual:.1e}" if step.check else ""
                parts.append(
                    (
                        f"Step {number}: {step.name} ({step.rule}){check}",
                        left,
                        latex.lines(expression),
                    )
                )
    else:
        for name, expression in result.equations.items():
            parts.append((HEADINGS[name], LEFT_SIDES[name], latex.lines(expression)))
    notes = list(result.facts) + [
        f"{f.tensor.name} = {_field(f)} with L L^T = V, the limit of {f.core}"
        for f in result.noise.fields
    ]
    return latex.document(_title(result) or result.model.name, parts, notes)


def _html(result: CovarianceSDE, steps: bool) -> str:
    body = html.escape(_text(result, steps))
    title = html.escape(result.model.name)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
        "<style>body{max-width:60rem;margin:2rem auto;font-family:serif}"
        "pre{white-space:pre-wrap;font-size:.9rem;line-height:1.45}</style>\n"
        f"<h1>{title}</h1>\n<pre>{body}</pre>\n</html>\n"
    )


def _json(result: CovarianceSDE, steps: bool) -> str:
    out: dict[str, Any] = {
        "model": result.model.name,
        "signature": model_signature(result),
        "facts": list(result.facts),
        "equations": {n: _terms(e) for n, e in result.equations.items()},
        "fields": [
            {"name": f.tensor.name, "symmetric": f.tensor.symmetric, "replaces": f.core}
            for f in result.noise.fields
        ],
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
                "results": {n: _terms(e) for n, e in s.results.items()},
            }
            for s in result.steps
        ]
    return json.dumps(out, indent=1) + "\n"


def _terms(expression: Expression) -> list[dict[str, Any]]:
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


FORMATS = {"text": _text, "latex": _latex, "html": _html, "json": _json}

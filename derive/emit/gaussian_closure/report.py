"""A closure's derivation as a report: text, LaTeX, HTML or JSON, with or without its steps."""

from __future__ import annotations

import html
import json
from typing import Any

from derive.calculus.index import chains
from derive.emit.common import latex
from derive.emit.common.facts_report import fact_checks, fact_lines
from derive.emit.gaussian_closure.module import equations_latex, equations_text, model_signature
from derive.methods.gaussian_closure.result import GaussianClosure

HEADINGS = {
    "velocity": "Velocity under a Gaussian law",
    "mean_rate": "Rate of the mean",
    "jacobian": "Mean gradient of the velocity",
    "cov_rate": "Rate of the covariance",
    "noise": "Covariance rate of the noise",
}


def _title(result: GaussianClosure) -> str:
    return result.model.doc.strip().split("\n")[0]


def _text(result: GaussianClosure, steps: bool) -> str:
    model = result.model
    verdict = "exact closure" if result.exact else f"projected closure ({result.route})"
    lines = [
        f"{model.name}: {_title(result)}",
        "",
        f"  tokens {model.state}[{model.state_dim}] with law N(m, S); {verdict}",
        "",
    ]
    if steps:
        for number, step in enumerate(result.steps, 1):
            lines.append(f"step {number}: {step.name} ({step.rule})")
            lines += [f"    {fact}" for fact in step.facts]
            if step.check:
                passed = "passed" if step.check.passed else "FAILED"
                lines.append(
                    f"    check {passed}: {step.check.what}, residual {step.check.residual:.1e} "
                    f"(tolerance {step.check.tolerance:.0e})"
                )
            for name, expression in step.results.items():
                lines.append(f"    {name} = {chains.text(expression)}")
            lines.append("")
        lines += fact_lines(result)
        return "\n".join(lines)
    for equation in equations_text(result).values():
        lines += [f"  {equation}", ""]
    lines += [f"  {fact}" for fact in result.facts]
    return "\n".join(lines) + "\n"


def _latex(result: GaussianClosure, steps: bool) -> str:
    parts: list[tuple[str, str, list[str]]] = []
    if steps:
        for number, step in enumerate(result.steps, 1):
            check = ""
            if step.check:
                passed = "passed" if step.check.passed else "FAILED"
                check = f"; check {passed}, residual {step.check.residual:.1e}"
            heading = f"Step {number}: {step.name} ({step.rule}){check}"
            for name, expression in step.results.items():
                left = rf"\mathrm{{{latex.escape(name)}}}"
                parts.append((heading, left, [chains.latex(expression)]))
    else:
        for name, equation in equations_latex(result).items():
            left, _, right = equation.partition(" = ")
            if name == "jacobian":
                left, _, right = r"R", "", equation.removeprefix("R = ")
            parts.append((HEADINGS.get(name, name), left, [right]))
    return latex.document(_title(result) or result.model.name, parts, list(result.facts))


def _html(result: GaussianClosure, steps: bool) -> str:
    body = html.escape(_text(result, steps))
    title = html.escape(result.model.name)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
        "<style>body{max-width:60rem;margin:2rem auto;font-family:serif}"
        "pre{white-space:pre-wrap;font-size:.9rem;line-height:1.45}</style>\n"
        f"<h1>{title}</h1>\n<pre>{body}</pre>\n</html>\n"
    )


def _json(result: GaussianClosure, steps: bool) -> str:
    out: dict[str, Any] = {
        "model": result.model.name,
        "signature": model_signature(result),
        "exact": result.exact,
        "route": result.route,
        "facts": list(result.facts),
        "equations": equations_text(result),
        "latex": equations_latex(result),
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
                "results": {n: chains.text(e) for n, e in s.results.items()},
            }
            for s in result.steps
        ]
    return json.dumps(out, indent=1) + "\n"


FORMATS = {"text": _text, "latex": _latex, "html": _html, "json": _json}

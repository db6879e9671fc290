"""The expansion in the width as a report: plain text, LaTeX, HTML or JSON.

Input: a derived covariance SDE.  Output: which parts of L_1 vanish and why, the others term by
term, the corrected SDE or why there is none, and what is derived of L_2.
"""

from __future__ import annotations

import html
import json

from derive.calculus.index.expressions import Expression
from derive.calculus.index.text import show, show_term
from derive.emit.common import latex
from derive.emit.covariance_sde.report import _terms, _title
from derive.errors import Refusal
from derive.methods.common.record import require_sound
from derive.methods.covariance_sde.corrected import Corrected, corrected
from derive.methods.covariance_sde.finite_width import FiniteWidth, finite_width
from derive.methods.covariance_sde.result import CovarianceSDE

SHOWN = 20  # terms of one equation in text
LEFT_SIDES = {
    "L_1 drift": "b^{(1)}_{a b}",
    "L_1 diffusion": r"\Sigma^{(1)}_{a b, c d}",
    "L_1 third cumulant": r"\kappa^{(1)}_{a b, c d, e f}",
    "L_2 drift": "b^{(2)}_{a b}",
    "L_2 covariance": r"\Sigma^{(2)}_{a b, c d}",
}


def report(result: CovarianceSDE, form: str) -> str:
    """The report in one of `FORMATS`; raises `Refusal` where there is no expansion."""
    found = finite_width(result)
    require_sound((), result.model.name, found.facts)
    sde: Corrected | None = None
    try:
        sde = corrected(result, found)
        verdict = _verdict(sde)
    except Refusal as reason:
        verdict = f"no corrected SDE: {reason.message}"
    return FORMATS[form](result, found, sde, verdict)


def _verdict(sde: Corrected) -> str:
    kept = " and ".join(sde.corrections).replace("_", " ")
    out = (
        f"corrected SDE, weak error O(1/{sde.found.width}): the limit + {kept} / "
        f"sqrt({sde.found.width}); in the generated module, simulate(..., width=...)"
    )
    if sde.conditions:
        out += f"; the diffusion is positive semi-definite where {' and '.join(sde.conditions)}"
    return out


def _headings(width: str) -> dict[str, str]:
    return {
        "L_1 drift": f"L_1: coefficient of {width}^(-1/2) in {width} E[V' - V]",
        "L_1 diffusion": f"L_1: coefficient of {width}^(-1/2) in {width} Cov[V']",
        "L_1 third cumulant": f"L_1: coefficient of {width}^(-1/2) in {width} times the third "
        "cumulant of V'",
        "L_2 drift": f"L_2, information: coefficient of 1/{width} in {width} E[V' - V]",
        "L_2 covariance": f"L_2, information: coefficient of 1/{width} in {width} Cov[V']",
    }


def _shown(found: FiniteWidth) -> dict[str, Expression]:
    """Equations that are not zero, and every part of an L_1 that does not vanish whole."""
    whole = found.vanishes
    return {n: e for n, e in found.equations.items() if not (whole and n.startswith("L_1"))}


def _text(result: CovarianceSDE, found: FiniteWidth, sde: Corrected | None, verdict: str) -> str:
    n = found.width.name
    lines = [f"{result.model.name}: {_title(result)}", ""]
    lines += [
        f"  {n} E[f(V') - f(V)] = L_0 f + {n}^(-1/2) L_1 f + {n}^(-1) L_2 f + ..., one layer, "
        "f smooth",
        "  L_0, derived again from all moments, is the generator of the SDE: 0 terms left",
        "",
    ]
    lines += [f"  {fact}" for fact in found.facts] + [f"  {verdict}", ""]
    headings = _headings(n)
    for name, expression in _shown(found).items():
        count = len(expression.terms)
        lines.append(f"{headings[name]} ({count} term{'' if count == 1 else 's'}):")
        if count <= SHOWN:
            lines += [f"    {row}" for row in show(expression).split("\n")]
        else:
            lines += [f"    {show_term(expression, k)}" for k in range(SHOWN)]
            lines.append(f"    ... and {count - SHOWN} more: --format json gives them all")
        lines.append("")
    return "\n".join(lines)


def _latex(result: CovarianceSDE, found: FiniteWidth, sde: Corrected | None, verdict: str) -> str:
    headings = _headings(found.width.name)
    parts = [(headings[n], LEFT_SIDES[n], latex.lines(e)) for n, e in _shown(found).items()]
    title = f"{_title(result) or result.model.name} Finite width."
    return latex.document(title, parts, [*found.facts, verdict])


def _html(result: CovarianceSDE, found: FiniteWidth, sde: Corrected | None, verdict: str) -> str:
    body = html.escape(_text(result, found, sde, verdict))
    title = html.escape(f"{result.model.name}, finite width")
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
        "<style>body{max-width:60rem;margin:2rem auto;font-family:serif}"
        "pre{white-space:pre-wrap;font-size:.9rem;line-height:1.45}</style>\n"
        f"<h1>{title}</h1>\n<pre>{body}</pre>\n</html>\n"
    )


def _json(result: CovarianceSDE, found: FiniteWidth, sde: Corrected | None, verdict: str) -> str:
    out = {
        "model": result.model.name,
        "width": found.width.name,
        "facts": list(found.facts),
        "L_1 vanishes": found.vanishes,
        "corrected SDE": verdict,
        "rates": None if sde is None else {n: str(r) for n, r in sde.rates.items()},
        "equations": {n: _terms(e) for n, e in found.equations.items()},
    }
    return json.dumps(out, indent=1) + "\n"


FORMATS = {"text": _text, "latex": _latex, "html": _html, "json": _json}

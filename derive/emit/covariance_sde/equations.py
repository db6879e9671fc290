"""Equations of a covariance SDE as reports and modules show them: in their shortest form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.index.text import index_names
from derive.calculus.written.dialect import LATEX, TEXT
from derive.calculus.written.short_form import WIDE, short_form
from derive.emit.common.document import Shown

HEADINGS = {
    "drift": "Drift, dV_ab = b_ab dt + noise",
    "diffusion": "Diffusion, d<V_ab, V_cd> / dt",
    "noise": "Noise map, N_ab per square root of time",
    "mixing_rate": "Variance of the mixing coefficients per unit time",
    "drift_correction": "Correction of the drift, over the root of the width",
    "diffusion_correction": "Correction of the diffusion, over the root of the width",
}


LEFT_SIDES = {
    "drift": "b_{a b}",
    "diffusion": r"\Sigma_{a b, c d}",
    "noise": "N_{a b}",
    "mixing_rate": "r",
    "drift_correction": "b^{(1)}_{a b}",
    "diffusion_correction": r"\Sigma^{(1)}_{a b, c d}",
}


def all_shown(equations: Mapping[str, Expression]) -> list[Shown]:
    avoid = names_in(equations.values())
    return [shown(n, HEADINGS[n], LEFT_SIDES[n], e, avoid) for n, e in equations.items()]


def names_in(expressions: Iterable[Expression]) -> set[str]:
    """Names of parameters and sizes, which no symbol of a short form may take."""
    return {s.name for e in expressions for c, _ in e.terms for s in c.free_symbols}


def shown(
    name: str, heading: str, left: str, expression: Expression, avoid: Iterable[str] = ()
) -> Shown:
    """An equation in its shortest form, with what its symbols stand for."""
    form, tex = short_form(expression, TEXT, avoid), short_form(expression, LATEX, avoid)
    if form.is_matrix and form.count:
        heading, left = heading.replace("_ab", ""), left.replace("_{a b}", "")
    count = f"{form.count} {'term' if form.count == 1 else 'terms'}"
    if form.count != len(expression.terms):
        count += f", {len(expression.terms)} as sums over tokens"
    where = [f"    where {'; '.join(form.where)}"] if form.where else []
    if where and len(where[0]) > WIDE:  # one line each
        where = [f"    {'where' if k == 0 else '     '} {row}" for k, row in enumerate(form.where)]
    rows = [f"{heading} ({count}):", *(f"    {row}" for row in form.lines), *where]
    right = list(tex.lines)
    if tex.where:
        right.append(r"\quad \text{where } " + r",\quad ".join(tex.where))
    return Shown(name, rows, heading, left, right, terms(expression))


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

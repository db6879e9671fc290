"""Equations as LaTeX: one line a term."""

from __future__ import annotations

import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factors
from derive.calculus.index.readable import readable
from derive.calculus.index.text import index_names
from derive.calculus.written.symbols import number as number
from derive.calculus.written.symbols import tensor_name as tensor_name


def lines(expression: Expression) -> list[str]:
    """Signed terms in order."""
    out = []
    for position, (coefficient, factors) in enumerate(expression.terms):
        coefficient = readable(coefficient)
        sign = "-" if coefficient.as_coeff_Mul()[0] < 0 else "+" if position else ""
        size = -coefficient if sign == "-" else coefficient
        out.append(f"{sign} {_term(size, factors, expression)}".strip())
    return out


def _term(coefficient: sp.Expr, factors: Factors, expression: Expression) -> str:
    names = index_names(expression.free, factors)
    bound = [names[i] for i in names if i not in expression.free]
    total = rf"\sum_{{{' '.join(bound)}}} " if bound else ""
    product = " ".join(
        f"{tensor_name(f.tensor.name)}{_scripts([names[i] for i in f.indices], f.tensor.name)}"
        for f in factors
    )
    front = number(coefficient)
    if coefficient == 1 and product:
        front = ""
    elif coefficient.is_Add:
        front = rf"\left({front}\right)"
    return f"{front} {total}{product}".strip()


def _scripts(indices: list[str], name: str) -> str:
    if not indices:
        return ""
    return f"_{{{' '.join(indices)}}}"


_ESCAPES = {
    "\\": r"\textbackslash{}",
    "_": r"\_",
    "^": r"\^{}",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\~{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def escape(text: str) -> str:
    return "".join(_ESCAPES.get(c, c) for c in text)

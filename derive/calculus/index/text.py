"""Writes index expressions as readable plain text."""

from __future__ import annotations

import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factor, Factors, Index
from derive.calculus.index.readable import readable

_DUMMIES = "klpqrstuvwxyz"


def show(expression: Expression) -> str:
    """One line a term."""
    if expression.is_zero:
        return "0"
    return "\n".join(show_term(expression, p) for p in range(len(expression.terms)))


def show_term(expression: Expression, position: int) -> str:
    coefficient, factors = expression.terms[position]
    names = index_names(expression.free, factors)
    product = " ".join(_factor(f, [names[i] for i in f.indices]) for f in factors)
    bound = [names[i] for i in names if i not in expression.free]
    total = f"sum_{{{','.join(bound)}}} " if bound else ""
    coefficient = readable(coefficient)
    front = sp.sstr(coefficient)
    if coefficient.is_Add:
        front = f"({front})"
    if coefficient.is_Pow and coefficient.exp.is_negative:
        front = f"1/{sp.sstr(1 / coefficient)}"
    if not product or coefficient == 1:
        return f"{total}{product}" if product else front
    return f"-{total}{product}" if coefficient == -1 else f"{front} * {total}{product}"


def _factor(factor: Factor, names: list[str]) -> str:
    if factor.tensor.kind == "spread" and factor.tensor.meaning[0] == 1:
        return f"sqrt({factor.tensor.meaning[1].name}[{names[0]},{names[0]}])"
    return f"{factor.tensor.name}[{','.join(names)}]"


def index_names(free: tuple[Index, ...], factors: Factors) -> dict[Index, str]:
    """Letters for the indices of one product; axes of an array are named a, b, ..."""
    names: dict[Index, str] = {}
    for position, index in enumerate(free):
        names[index] = index.name if index.name.isalpha() else "abcdefgh"[position]
    letters = iter(c for c in _DUMMIES if c not in names.values())
    used: dict[Index, str] = {}
    for factor in factors:
        for index in factor.indices:
            if index in names:
                used[index] = names[index]
            elif index not in used:
                used[index] = next(letters, f"i{len(used)}")
    return used

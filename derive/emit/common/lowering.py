"""From an index expression to array statements: contraction order, shared parts, factoring.

Input: an expression with free indices.  Output: statements (name, text, meaning) that evaluate
it on arrays of shape (..., m, m), and the text of the result.

Every monomial splits into parts joined by dummies; a part is contracted pair by pair in the
cheapest order; equal parts are computed once, whatever monomial they come from.  The remaining
polynomial in the parts is factored greedily, and a symmetric result is built from its half.
Nothing larger than the result is ever formed when the parts are matrices.
"""

from __future__ import annotations

from collections.abc import Collection

import sympy as sp

from derive.calculus.index.canonical import components
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factors, Index
from derive.emit.common.contraction import component
from derive.emit.common.merging import Placed
from derive.emit.common.program import Program, Term, in_order
from derive.emit.common.sums import divided, sum_text


def lower(expression: Expression, program: Program) -> str:
    """Text of the expression's value, after the statements that `program` has gained."""
    terms: list[Term] = []
    for coefficient, factors in expression.terms:
        parts = components(factors, expression.free)
        placed = [component(part, expression.free, program) for part in parts]
        terms.append((coefficient, tuple(sorted(placed, key=in_order))))
    if len(expression.free) == 2:
        halved = _half(expression, terms, program)
        if halved:
            return halved
    _count(terms, program)
    return sum_text(terms, expression.free, program)


def _count(terms: list[Term], program: Program) -> None:
    program.uses.update(name for _, placed in terms for name, _ in placed)


def _half(expression: Expression, terms: list[Term], program: Program) -> str | None:
    """A symmetric result from its half: S + U + U^T."""
    a, b = expression.free
    partner: dict[int, int] = {}
    swapped = {
        collect((a, b), [(sp.Integer(1), _swap(f, a, b))]).terms[0][1]: p
        for p, (_, f) in enumerate(expression.terms)
    }
    for p, (c, f) in enumerate(expression.terms):
        q = swapped.get(f)
        if q is None or sp.expand(expression.terms[q][0] - c) != 0:
            return None
        partner[p] = q
    upper = [terms[p] for p, q in partner.items() if p < q]
    if not upper:
        return None
    same = [terms[p] for p, q in partner.items() if p == q]
    upper = _upright(upper, a, b, program)
    _count(upper + same, program)
    same, joining = divided(same, upper, program)
    text = sum_text(upper + joining, expression.free, program)
    half = program.assign(("half", text), "half", text, 2)
    whole = f"{half} + {half}.mT"
    return f"{sum_text(same, expression.free, program)} + {whole}" if same else whole


def _upright(upper: list[Term], a: Index, b: Index, program: Program) -> list[Term]:
    """Terms of which the transposes are added, each read with the fewest matrices transposed.

    Terms with vectors are turned together: they may have them in common.
    """

    def score(placed: tuple[Placed, ...]) -> int:
        return sum(
            (1 if ix == (b, a) else -1)
            for n, ix in placed
            if len(ix) == 2 and n not in program.symmetric
        )

    bound = {p for p, (_, t) in enumerate(upper) if any(len(ix) == 1 for _, ix in t)}
    together = sum(score(upper[p][1]) for p in bound) > 0
    return [
        (c, _flipped(t, a, b, program.symmetric))
        if (together if p in bound else score(t) > 0)
        else (c, t)
        for p, (c, t) in enumerate(upper)
    ]


def _flipped(
    placed: tuple[Placed, ...], a: Index, b: Index, symmetric: Collection[str]
) -> tuple[Placed, ...]:
    other = {a: b, b: a}
    flipped = (
        (n, ix if n in symmetric and len(ix) == 2 else tuple(other.get(i, i) for i in ix))
        for n, ix in placed
    )
    return tuple(sorted(flipped, key=in_order))


def _swap(factors: Factors, a: Index, b: Index) -> Factors:
    return tuple(f.rename({a: b, b: a}) for f in factors)

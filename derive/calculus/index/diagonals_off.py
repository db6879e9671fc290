"""Terms that take the diagonal of other terms off, as an operator on those others.

Input: an expression over one pair of free indices (a, b), or over two, (a, b) and (c, d).  Output:
an operator on every pair,

    P X [a,b] = X[a,b] + scale T[a,b] (X[a,a] + X[b,b]),

with an expression that it acts on and a rest, so that P inner + rest is the expression.  What keeps
a diagonal as it is, a normalisation say, makes such terms.  T and scale are read off the terms;
`split` holds by construction, and who uses it proves it by `Operator.on`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import sympy as sp

from derive.calculus.index.exchanges import MOST_FREE, orbits
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factors, Index, Tensor, Terms
from derive.calculus.index.means import normal

SCALES = 3  # scales that are tried, those first that most terms ask for


@dataclass(frozen=True)
class Operator:
    """P X [a,b] = X[a,b] + scale tensor[a,b] (X[a,a] + X[b,b])."""

    tensor: Tensor
    scale: sp.Expr

    def on(self, expression: Expression) -> Expression:
        """The operator on every pair of free indices."""
        for pair in _pairs(expression.free):
            expression = expression + self.beside(expression, pair).scaled(self.scale)
        return expression

    def beside(self, expression: Expression, pair: tuple[Index, Index]) -> Expression:
        """tensor[a,b] (X[a,a] + X[b,b])."""
        terms: Terms = []
        for kept, gone in (pair, pair[::-1]):
            diagonal = expression.renamed({gone: kept})
            terms += [(c, (*f, self.tensor[pair])) for c, f in diagonal.terms]
        return normal(collect(expression.free, terms))


def _pairs(free: tuple[Index, ...]) -> list[tuple[Index, Index]]:
    return list(zip(free[::2], free[1::2], strict=True))


def split(expression: Expression) -> tuple[Operator, Expression, Expression] | None:
    """The operator, what it acts on and the rest, with the fewest terms; None if there is none."""
    free = expression.free
    even = 0 < len(free) <= MOST_FREE and len(free) % 2 == 0
    if not even or any(i.dim != j.dim for i, j in _pairs(free)):
        return None
    groups = orbits(expression)
    tried = ((one, *_divided(expression, one, groups)) for one in _operators(expression, groups))
    found = [t for t in tried if t[1].terms]
    return min(found, key=lambda t: len(t[1].terms) + len(t[2].terms), default=None)


def _operators(expression: Expression, groups: list[Expression]) -> Iterator[Operator]:
    """Those that some two terms ask for."""
    pair = _pairs(expression.free)[0]
    terms = _by_product(expression)
    factors = [f for product in terms for f in product if set(f.indices) == {*pair}]
    for tensor in dict.fromkeys(f.tensor for f in factors if f.tensor.symmetric):
        asked: Counter[sp.Expr] = Counter()
        for group in groups:
            beside = Operator(tensor, sp.Integer(1)).beside(group, pair)
            shares = [sp.cancel(terms[f] / c) for c, f in beside.terms if f in terms]
            asked.update(s for s in shares if s.is_number)
        yield from (Operator(tensor, scale) for scale, _ in asked.most_common(SCALES))


def _divided(
    expression: Expression, operator: Operator, groups: list[Expression]
) -> tuple[Expression, Expression]:
    """Inner and rest: a group goes inside where more terms disappear than it has."""
    inner, rest = Expression(expression.free, ()), expression
    for group in groups:
        image, there = operator.on(group), _by_product(rest)
        shares = {sp.cancel(there[f] / c) for c, f in image.terms if f in there}
        tried = [(s, rest - image.scaled(s)) for s in sorted(shares, key=sp.default_sort_key)]
        share, left = min(tried, key=lambda t: len(t[1].terms), default=(sp.Integer(0), rest))
        if len(rest.terms) - len(left.terms) > len(group.terms):
            inner, rest = inner + group.scaled(share), left
    return inner, rest


def _by_product(expression: Expression) -> dict[Factors, sp.Expr]:
    return {factors: c for c, factors in expression.terms}

"""Expressions are put in the place of tensors, and functions that become constant are taken.

Input: an expression and, for some of its tensors, expressions over their slots.  Output: the
expression with these in their place, in definitions too.  exp(0) is 1, a function of a number is a
number, and a gate whose exponents vanish gives every key its share of the weights.  A tensor
`shares` sums to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy as sp

from derive.calculus.arrays.scalar_functions import derivative_of
from derive.calculus.index.defined import Book, spread, union
from derive.calculus.index.expressions import Expression, collect, scalar, single
from derive.calculus.index.factors import Factor, Index, Tensor, apart, indices_of

Values = Mapping[Tensor, Expression]


def substituted(
    expression: Expression, values: Values, book: Book, shares: Tensor | None = None
) -> Expression:
    """The expression over the same indices with values in the place of tensors."""
    parts: list[tuple[sp.Expr, tuple[Factor, ...]]] = []
    for coefficient, factors in expression.terms:
        product = scalar(coefficient)
        named = apart(factors, expression.free)
        for factor in named:
            product = product * _factor(factor, values, book, shares)
        # a sum over what no longer depends on its index counts it
        product = spread(product, union(product.free, sorted(indices_of(named))))
        bound = [i for i in product.free if i not in expression.free]
        parts += _summed(product, bound, shares).terms
    return collect(expression.free, parts)


def _summed(product: Expression, bound: list[Index], shares: Tensor | None) -> Expression:
    """Sum over indices; where shares alone have one of them, they add to one."""
    out = product.summed(*bound)
    return (
        out
        if shares is None
        else collect(out.free, [_of_shares(t, out, shares) for t in out.terms])
    )


def _of_shares(
    term: tuple[sp.Expr, tuple[Factor, ...]], whole: Expression, shares: Tensor
) -> tuple[sp.Expr, tuple[Factor, ...]]:
    coefficient, factors = term
    kept = [
        f
        for f in factors
        if f.tensor != shares
        or f.indices[0] in whole.free
        or sum(f.indices[0] in other.indices for other in factors) > 1
    ]
    return coefficient, tuple(kept)


def _factor(factor: Factor, values: Values, book: Book, shares: Tensor | None) -> Expression:
    """What stands for one factor, over its indices."""
    own = union(factor.indices)
    if factor.tensor in values:
        return collect(own, values[factor.tensor].placed(factor.indices))
    meaning = book.of.get(factor.tensor)
    if meaning is None:
        return single(factor, own)
    bodies = [substituted(b, values, book, shares) for b in meaning.bodies]
    made = _constant(meaning.kind, bodies, meaning.data, book, shares)
    if made is None:
        kept = _read(meaning.kind, meaning.indices, bodies)
        if len(kept) < len(meaning.indices):
            bodies = [spread(b, kept) for b in bodies]
        tensor = book.tensor(meaning.kind, kept, bodies, meaning.data)
        ends = dict(zip(meaning.indices, factor.indices, strict=True))
        return single(tensor[tuple(ends[i] for i in kept)], own)
    return collect(own, made.placed(factor.indices))


def _read(kind: str, indices: tuple[Index, ...], bodies: list[Expression]) -> tuple[Index, ...]:
    """The indices on which a defined tensor depends."""
    if kind not in ("exp", "ridge", "reciprocal"):
        return indices
    inside = {i for b in bodies for _, factors in b.terms for i in indices_of(factors)}
    return tuple(i for i in indices if i in inside)


def _constant(
    kind: str, bodies: list[Expression], data: Any, book: Book, shares: Tensor | None
) -> Expression | None:
    """The value of a defined tensor over its indices where it needs no definition any more."""
    body, number = bodies[0], number_of(bodies[0])
    if kind == "gate" and body.is_zero:
        weight, last = bodies[1], bodies[1].free[-1]
        total = _summed(weight, [last], shares)
        part = _constant("reciprocal", [total], None, book, shares)
        if part is None:
            part = single(book.tensor("reciprocal", total.free, [total])[total.free], total.free)
        return spread(weight * part, weight.free)
    if number is None:
        return None
    if kind == "exp":
        return scalar(sp.exp(number), body.free)
    if kind == "reciprocal" and number != 0:
        return scalar(1 / number, body.free)
    if kind == "ridge":
        rule, order = data
        return scalar(derivative_of(rule.body, order)(number), body.free)
    return None


def number_of(expression: Expression) -> sp.Expr | None:
    """The value of an expression that has no tensors, else None."""
    if expression.tensors():
        return None
    return sp.Add(*(c for c, _ in expression.terms))

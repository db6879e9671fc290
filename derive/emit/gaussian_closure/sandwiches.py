"""Where F g(F^T M F) F^T stands in a product, F a factor of a covariance, g on the spectrum.

The whole is a smooth function of the covariance F F^T and of M; F and g(F^T M F) are not where the
covariance is singular.  So kernels compute the whole at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factor, Factors, Index, Tensor


@dataclass(frozen=True)
class Sandwich:
    """The factors it replaces, `middle` = g(F^T body F), and its two outer indices."""

    parts: tuple[Factor, Factor, Factor]
    middle: Tensor
    factor: Tensor
    body: Expression  # M
    indices: tuple[Index, Index]


def sandwiches(factors: Factors, book: Book) -> list[Sandwich]:
    """All of a product."""
    found = []
    for one in factors:
        if one.tensor.kind == "spectral" and one.tensor in book.of and len(one.indices) == 2:
            ends = [_outside(factors, one, leg) for leg in one.indices]
            left, right = ends
            if left is None or right is None or left.tensor != right.tensor or left == right:
                continue
            body = _stripped(book, one.tensor, left.tensor)
            if body is not None and _algebraic(book.of[one.tensor].data.expr):
                indices = (left.indices[0], right.indices[0])
                parts = (left, one, right)
                found.append(Sandwich(parts, one.tensor, left.tensor, body, indices))
    return found


def _outside(factors: Factors, middle: Factor, leg: Index) -> Factor | None:
    """The factor of a covariance whose inner index is joined to a leg, and nothing else is."""
    joined = [f for f in factors if f != middle and leg in f.indices]
    if len(joined) != 1 or joined[0].tensor.kind != "factor" or joined[0].indices[1] != leg:
        return None
    return joined[0]


def _stripped(book: Book, tensor: Tensor, F: Tensor) -> Expression | None:
    """M with body = F^T M F, or None."""
    meaning = book.of[tensor]
    (body,) = meaning.bodies
    row, column = body.free
    terms, ends = [], (Index("outer", F.dims[0]), Index("inner", F.dims[0]))
    for coefficient, factors in body.terms:
        left = [f for f in factors if f.tensor == F and f.indices[1] == row]
        right = [f for f in factors if f.tensor == F and f.indices[1] == column]
        if len(left) != 1 or len(right) != 1:
            return None
        names = {left[0].indices[0]: ends[0], right[0].indices[0]: ends[1]}
        rest = tuple(
            Factor(f.tensor, tuple(names.get(i, i) for i in f.indices))
            for f in factors
            if f not in (left[0], right[0])
        )
        terms.append((coefficient, rest))
    return collect(ends, terms)


def _algebraic(expression: sp.Expr) -> bool:
    """Sums, products, quotients and square roots: what `derive.runtime.common.rings` can do."""
    return all(
        e.is_Symbol
        or e.is_Rational
        or e.is_Add
        or e.is_Mul
        or (e.is_Pow and (2 * e.exp).is_Integer)
        for e in sp.preorder_traversal(expression)
    )

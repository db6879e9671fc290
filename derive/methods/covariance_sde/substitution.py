"""Tensors of an index expression replaced: by another tensor, or by an expression in its slots."""

from __future__ import annotations

import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factor, Factors, Tensor, apart


def with_tensor(expression: Expression, old: Tensor, new: Tensor) -> Expression:
    return expression.map_terms(
        lambda c, f: [(c, tuple(Factor(new, x.indices) if x.tensor == old else x for x in f))]
    )


def substitute(expression: Expression, tensor: Tensor, value: Expression) -> Expression:
    """Replace every entry of `tensor` by `value`, whose free indices are its slots."""

    def rule(coefficient: sp.Expr, factors: Factors) -> list[tuple[sp.Expr, Factors]]:
        factors = apart(factors, expression.free)
        products = [(coefficient, tuple(f for f in factors if f.tensor != tensor))]
        for hit in (f for f in factors if f.tensor == tensor):
            products = times(products, value.placed(hit.indices))
        return products

    return expression.map_terms(rule)


Products = list[tuple[sp.Expr, Factors]]


def times(left: Products, right: Products) -> Products:
    return [(c * d, f + g) for c, f in left for d, g in right]

"""The remainder M - E M of a random monomial M is one tensor C, opened here into its parts."""

from __future__ import annotations

import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factors, Terms


def opened(expression: Expression) -> Expression:
    """Every C as M - E M."""

    def rule(coefficient: sp.Expr, factors: Factors) -> Terms:
        products: Terms = [(coefficient, tuple(f for f in factors if f.tensor.kind != "centred"))]
        for hit in (f for f in factors if f.tensor.kind == "centred"):
            value = hit.tensor.meaning.placed(hit.indices)
            products = [(c * d, f + g) for c, f in products for d, g in value]
        return products

    if not any(t.kind == "centred" for t in expression.tensors()):
        return expression
    return expression.map_terms(rule)

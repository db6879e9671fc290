"""The mean of the state over its units, as LayerNorm takes it out: one direction of the width.

Value weights are Gaussian, and their law is the same in every frame of the width.  So the part of
a token along the direction (1, ..., 1) / sqrt(n) is as large as along any other, one n-th of the
token: x_a less its mean has |x_a|^2 up to a relative 1/n.  Where that stands in a part of the layer
that is small itself, it does not count in the limit, and the mean is read as zero.  `means_left`
finds what would count.

Input: expressions in which the state is summed over its units.  Output: the same with the mean as
zero, or as a tensor of order one over tokens, sqrt(n) times the mean.
"""

from __future__ import annotations

import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factor, Factors, Tensor, Terms
from derive.calculus.limit.order import Law


def along_ones(law: Law) -> Tensor:
    """The part of every token along (1, ..., 1) / sqrt(n)."""
    return Tensor("U", law.state.dims[:1], "unit mean")


def unit_means(expression: Expression, law: Law, kept: bool) -> Expression:
    """Sums of the state over units, alone in their product, as `along_ones` or as zero."""
    width = law.state.dims[1]

    def rule(c: sp.Expr, factors: Factors) -> Terms:
        out: list[Factor] = []
        for f in factors:
            unit = f.indices[-1] if f.tensor == law.state else None
            alone = unit is not None and unit not in expression.free
            if not alone or sum(x.indices.count(unit) for x in factors) > 1:
                out.append(f)
                continue
            if not kept:
                return []
            c = c * sp.sqrt(width)
            out.append(along_ones(law)[f.indices[:1]])
        return [(c, tuple(out))]

    if not any(t == law.state for t in expression.tensors()):
        return expression
    return expression.map_terms(rule)


def rests_on_means(factors: Factors) -> bool:
    """Whether a product holds the mean, or a function that reads it as zero."""
    return any(
        f.tensor.kind == "unit mean" or (f.tensor.kind == "response" and f.tensor.meaning.mean_free)
        for f in factors
    )

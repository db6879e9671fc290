"""a x + b |x| of a pre-activation or of scores x, as terms in a magnitude or an envelope."""

from __future__ import annotations

import sympy as sp

from derive.calculus.gaussian.kinks import magnitude
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Tensor, Terms
from derive.calculus.limit.normal import envelope
from derive.calculus.limit.order import Law
from derive.errors import Refusal
from derive.notation.common.arrays import Array


def bent(array: Array, argument: Expression, slope: sp.Expr, kink: sp.Expr, law: Law) -> Terms:
    """The terms of slope x + kink |x|; `Refusal` where the average of |x| is not derived."""
    state, width = law.state, law.state.dims[1]
    products = [(slope * c, f) for c, f in argument.terms]
    if kink == 0:
        return products
    weight = pre_activation(argument, law)
    if weight is not None:
        ((c, _),) = argument.terms
        size = sp.sqrt(width) * (c if c.is_nonnegative else sp.Abs(c))
        bend = magnitude(state, weight, law.gram)
    else:
        normal = envelope(argument, law, array.place)
        if normal is None:
            raise Refusal(
                f"{array.data[0]} has a kink at zero, and its argument is neither a "
                f"pre-activation {state.name} @ W of one weight nor a product like logits: "
                "its average is not derived. Use a smooth function here",
                array.place,
            )
        size, bend = normal
    return [*products, (kink * size, (bend[argument.free],))]


def pre_activation(argument: Expression, law: Law) -> Tensor | None:
    """The weight W if the expression is c X W."""
    if len(argument.terms) != 1 or len(argument.free) != 2:
        return None
    ((_, factors),) = argument.terms
    drawn = [f for f in factors if f.tensor in law.gaussian]
    state = [f for f in factors if f.tensor == law.state]
    if len(factors) != 2 or len(drawn) != 1 or len(state) != 1:
        return None
    (token, row), (inner, unit) = state[0].indices, drawn[0].indices
    fits = row == inner and (token, unit) == argument.free
    return drawn[0].tensor if fits else None

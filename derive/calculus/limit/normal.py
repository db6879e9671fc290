"""Decides whether the argument of a kinked function, logits Y = Q K^T, is normal in the limit.

Given all weights but one such a Y is normal, and its covariance settles as the width grows.  That
is decided, not assumed: a polynomial of fixed degree in Gaussians is normal in the limit iff its
fourth moment tends to that of a normal (Nualart and Peccati, 2005, Ann. Probab. 33).
"""

from __future__ import annotations

import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Tensor
from derive.calculus.index.text import show
from derive.calculus.limit.order import Law
from derive.errors import Place, Refusal


def envelope(argument: Expression, law: Law, place: Place | None) -> tuple[sp.Expr, Tensor] | None:
    """(size, |Y| / size) with E Y^2 = size^2 V_aa V_bb ...; None where that is not its variance.

    Raises `Refusal` if Y is not normal in the limit.
    """
    weights = {f.tensor for _, fs in argument.terms for f in fs if f.tensor in law.gaussian}
    linear = all(sum(f.tensor == w for f in fs) == 1 for _, fs in argument.terms for w in weights)
    if not weights or not linear:
        return None
    square = argument * argument
    variance = law.mean(square)
    if len(variance.terms) != 1:
        return None
    ((coefficient, factors),) = variance.terms
    ends = [f.indices for f in factors]
    if any(f.tensor != law.gram or len(set(f.indices)) > 1 for f in factors):
        return None
    _require_normal(law.mean(square * square) - (variance * variance).scaled(sp.Integer(3)), law,
                    coefficient, place)  # fmt: skip
    size = sp.sqrt(coefficient)
    slots = tuple(argument.free.index(i) for i, _ in ends)
    meaning = (argument.scaled(1 / size), tuple(sorted(weights, key=str)), law.gram, slots)
    dims = tuple(i.dim for i in argument.free)
    name = f"|{show(argument).rpartition('} ')[2]}|"
    return size, Tensor(name, dims, "envelope", meaning=meaning)


def _require_normal(
    excess: Expression, law: Law, coefficient: sp.Expr, place: Place | None
) -> None:
    scale = law.scaling.degree(coefficient)
    assert scale is not None
    for c, _ in excess.terms:
        degree = law.scaling.degree(c)
        if degree is None or degree.bounded < 2 * scale.bounded:
            continue
        small = sorted(str(s) for s in c.free_symbols & law.scaling.free)
        hint = (
            f" while {small[0]} stays bounded; if it grows, say so: "
            f'dims("{small[0]}: ..., proportional to the width")'
            if small
            else ""
        )
        raise Refusal(
            "the argument of a function with a kink is not normal in the limit (its fourth moment "
            f"is not three times its squared variance{hint}): its average is not derived",
            place,
        )

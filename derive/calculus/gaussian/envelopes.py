"""Averages |Y| of logits Y that are normal in the limit (see `derive.calculus.limit.normal`).

Only the leading order of E |Y| is known this way, so a product of two of them is not averaged.
"""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp

from derive.calculus.index.factors import Factors, Tensor
from derive.errors import Refusal


def average_envelopes(coefficient: sp.Expr, factors: Factors) -> Iterable[tuple[sp.Expr, Factors]]:
    """E of a product with one |Y|, to leading order; other products with |Y| are left alone."""
    found = [f for f in factors if f.tensor.kind == "envelope"]
    if not found:
        yield coefficient, factors
        return
    (one, *others), rest = found, tuple(f for f in factors if f.tensor.kind != "envelope")
    _, weights, gram, slots = one.tensor.meaning
    # |Y| is even in every weight
    if any(sum(f.tensor == w for f in rest) % 2 for w in weights):
        return
    if others or any(f.tensor in weights for f in rest):
        raise Refusal(
            "the average of a product of kinked functions of logits is a function of four tokens "
            "with no finite sum of products behind it: no noise map of O(m^3) exists, and the SDE "
            "is not derived. Use a smooth function of the logits"
        )
    root = Tensor("sqrt(V)", gram.dims[:1], "spread", meaning=(sp.Integer(1), gram))
    roots = tuple(root[(one.indices[slot],)] for slot in slots)
    yield coefficient * sp.sqrt(2 / sp.pi), rest + roots

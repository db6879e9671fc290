"""Says where a function of an array is expanded, and gives its derivatives there.

About a number, a derivative is a number; about a mean that depends on V, it is a tensor over
tokens (see `derive.calculus.limit.centred`).
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factor, Index, Terms
from derive.calculus.limit.centred import at_mean
from derive.calculus.limit.order import Law
from derive.errors import Refusal
from derive.notation.common.arrays import Array
from derive.notation.common.words.elementwise import KINKED


@dataclass(frozen=True)
class AboutNumber:
    """A function about a number."""

    array: Array
    free: tuple[Index, ...]
    value: sp.Expr
    size: sp.Expr = sp.Integer(1)

    def derivative(self, times: int) -> Expression:
        value = derivative_at(self.array.data[1], self.value, times, self.array)
        return collect(self.free, [(self.size * value, ())])


@dataclass(frozen=True)
class AboutMean:
    """A function about a mean that depends on V: size * S_k, tensors over tokens."""

    array: Array
    mean: Terms
    free: tuple[Index, ...]
    law: Law
    size: sp.Expr

    def factor(self, times: int) -> Factor | None:
        return at_mean(self.array.data[1], times, self.mean, self.free, self.law)

    def derivative(self, times: int) -> Expression:
        found = self.factor(times)
        assert found is not None, "known to exist when its function itself does"
        return collect(self.free, [(self.size, (found,))])


Start = AboutNumber | AboutMean


def derivative_at(body: sp.Lambda, start: sp.Expr, times: int, array: Array) -> sp.Expr:
    """The derivative of that order at a number; `Refusal` where there is none."""
    (x,) = body.variables
    name = array.data[0]
    if body.expr.has(*KINKED):
        raise Refusal(
            f"{name} is not smooth: its power series about {start} does not exist; use a smooth "
            "function here",
            array.place,
        )
    value = sp.diff(body.expr, x, times).xreplace({x: start}) if times else body(start)
    if value.has(sp.zoo, sp.nan, sp.oo):
        raise Refusal(
            f"{name} has no power series about {start}: its derivative of order {times} is "
            "infinite there",
            array.place,
        )
    return value

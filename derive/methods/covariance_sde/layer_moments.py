"""Moments of the increment of one block, order by order in eps = width^(-1/2).

Input: the trace of a block.  Output: the coefficients of n^(-1/2) and 1/n in n E[V' - V], n Cov[V']
and n times the third cumulant of V', and the parity by which a part vanishes.

Isserlis' theorem is exact in the width, so the only truncation is that of the increment, by order
in eps.  A monomial of order p has a standard deviation of order eps^p at most, and the increment
one of order eps, so the coefficient of n^(-k/2) in n E needs monomials to order k + 2, in n Cov to
order k + 1, in n times the third cumulant to order k.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy as sp

from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factors, Index, Tensor
from derive.calculus.limit.opaque import reveal
from derive.calculus.limit.order import Law
from derive.calculus.limit.series import Expansion
from derive.errors import Refusal
from derive.methods.common.record import Fact
from derive.methods.covariance_sde import width_facts
from derive.methods.covariance_sde.block import _gain, increment_of, laws
from derive.notation.layers.model import Trace

ZERO, HALF, ONE = Fraction(0), Fraction(1, 2), Fraction(1)


@dataclass(frozen=True)
class _Piece:
    """A monomial of the increment; `order` bounds that of its standard deviation."""

    coefficient: sp.Expr
    factors: Factors
    order: Fraction
    flips: tuple[int, ...]  # parity in each weight
    odd: bool  # an odd power of n^(1/2)


@dataclass(frozen=True)
class First:
    drift: Expression
    diffusion: Expression
    third_cumulant: Expression
    facts: tuple[Fact, ...]

    @property
    def vanishes(self) -> bool:
        return self.drift.is_zero and self.diffusion.is_zero and self.third_cumulant.is_zero


class LayerMoments:
    """The increment of one block as monomials in eps, to order `top`."""

    def __init__(self, traced: Trace, top: int) -> None:
        self.law, self.weights = laws(traced)
        self.traced, self.top = traced, top
        increment = _settled(traced, self.law, self.weights, top)
        self.free = increment.free
        self.pieces = [
            piece
            for c, factors in increment.terms
            for term in sp.Add.make_args(sp.expand(reveal(c, self.law.scaling.width, top)))
            if (piece := self._piece(term, factors)).order <= top
        ]
        self._quiet()

    def first(self) -> First:
        """L_1: the coefficients of n^(-1/2)."""
        flips = self.sign_flips()
        if flips is not None:
            width = self.law.scaling.width
            signs = ", ".join(f"{t.name} -> -{t.name}" for t in flips)
            signs = f" with {signs}" if flips else ""
            zeros = (collect(self._ends(k), []) for k in (2, 4, 6))
            drift, diffusion, third = zeros
            why = (
                f"the increment is unchanged under sqrt({width}) -> -sqrt({width}){signs}, so its "
                f"moments hold whole powers of {width}: drift, diffusion and third cumulant of "
                "L_1 vanish"
            )
            fact = width_facts.parity(why, self.traced, self.law)
            return First(drift, diffusion, third, (fact,))
        moments = {
            "drift": self.mean(HALF),
            "diffusion": self.covariance(HALF),
            "third cumulant": self.third(HALF),
        }
        facts = tuple(
            width_facts.finding(f"L_1 {name}: {self._finding(*m)}") for name, m in moments.items()
        )
        drift, diffusion, third = (value for value, _ in moments.values())
        return First(drift, diffusion, third, facts)

    def second(self) -> tuple[Expression, Expression]:
        """The coefficients of 1/n in n E and n Cov."""
        return self.mean(ONE)[0], self.covariance(ONE)[0]

    def sign_flips(self) -> tuple[Tensor, ...] | None:
        """Weights whose signs undo sqrt(n) -> -sqrt(n) in every monomial; the fewest, or None."""
        weights = self.law.gaussian
        for count in range(len(weights) + 1):
            for chosen in itertools.combinations(range(len(weights)), count):
                if all(sum(p.flips[k] for k in chosen) % 2 == p.odd for p in self.pieces):
                    return tuple(weights[k] for k in chosen)
        return None

    def mean(self, power: Fraction) -> tuple[Expression, int]:
        """The coefficient of n^-power in n E[V' - V], and how many monomials were averaged."""
        chosen = [p for p in self.pieces if not any(p.flips) and p.odd == self._odd(power)]
        value = self.law.mean(self._joined(chosen))
        return self._coefficient(value, power), len(chosen)

    def covariance(self, power: Fraction) -> tuple[Expression, int]:
        """The coefficient of n^-power in n Cov[V'], and how many products were averaged."""
        groups = self._groups()
        total, count = collect(self._ends(4), []), 0
        for one, two in itertools.product(groups, repeat=2):
            if not self._counts((one, two), power, 2 + 2 * power):
                continue
            first, second = (self._joined(groups[g]) for g in (one, two))
            count += len(groups[one]) * len(groups[two])
            total = total + self.law.covariance(first, second.renamed(self._moved("cd")))
        return self._coefficient(total, power), count

    def third(self, power: Fraction) -> tuple[Expression, int]:
        """The coefficient of n^-power in n times the third cumulant of V'."""
        groups = self._groups()
        total, count = collect(self._ends(6), []), 0
        centred = {}
        for key, pieces in groups.items():
            whole = self._joined(pieces)
            centred[key] = whole - self.law.mean(whole)
        for keys in itertools.product(groups, repeat=3):
            if not self._counts(keys, power, 2 + 2 * power):
                continue
            count += sp.prod(len(groups[k]) for k in keys)
            first, second, last = (centred[k] for k in keys)
            product = first * second.renamed(self._moved("cd")) * last.renamed(self._moved("ef"))
            total = total + self.law.mean(product)
        return self._coefficient(total, power), int(count)

    def _piece(self, coefficient: sp.Expr, factors: Factors) -> _Piece:
        law = self.law
        degree = law.scaling.degree(coefficient)
        assert degree is not None
        twice = 2 * degree.bounded
        if twice.denominator != 1:
            raise Refusal(
                f"the increment holds {law.scaling.width}^({degree.bounded}): its expansion is in "
                "finer powers than the square root",
                self.traced.model.place,
            )
        flips = tuple(sum(f.tensor == t for f in factors) % 2 for t in law.gaussian)
        order = law.order(coefficient, factors, self.free)
        return _Piece(coefficient, factors, Fraction(order), flips, bool(twice % 2))

    def _quiet(self) -> None:
        """Monomials of order 0 must have means of order one alone, so that they count as eps."""
        loud = self._joined([p for p in self.pieces if p.order < 1 and self._random(p)])
        spread = self.law.covariance(loud, loud.renamed(self._moved("cd")))
        for c, _ in spread.terms:
            degree = self.law.scaling.degree(c)
            if degree is not None and degree.bounded > -1:
                raise Refusal(
                    "single terms of the layer fluctuate by order one and cancel in the sum; the "
                    "expansion in the width is not derived there",
                    self.traced.model.place,
                )

    def _random(self, piece: _Piece) -> bool:
        return any(self.law.is_random(f.tensor) for f in piece.factors)

    def _groups(self) -> dict[tuple[Any, ...], list[_Piece]]:
        """Random monomials by parity in the weights, parity in sqrt(n), and order (1 or more)."""
        out: dict[tuple[Any, ...], list[_Piece]] = defaultdict(list)
        for piece in self.pieces:
            if self._random(piece):
                out[piece.flips, piece.odd, max(piece.order, ONE)].append(piece)
        return out

    def _counts(self, keys: tuple[tuple[Any, ...], ...], power: Fraction, top: Fraction) -> bool:
        """Can the average of the product hold n^-power, beside the n in front?

        Averages are even in every weight and change powers of n by whole numbers.
        """
        even = not any(sum(bits) % 2 for bits in zip(*(k[0] for k in keys), strict=True))
        odd = sum(k[1] for k in keys) % 2 == self._odd(power)
        return even and odd and sum(k[2] for k in keys) <= top

    def _odd(self, power: Fraction) -> int:
        return int(2 * power) % 2

    def _joined(self, pieces: list[_Piece]) -> Expression:
        return collect(self.free, [(p.coefficient, p.factors) for p in pieces])

    def _ends(self, count: int) -> tuple[Index, ...]:
        return tuple(Index(n, self.law.state.dims[0]) for n in "abcdef"[:count])

    def _moved(self, letters: str) -> dict[Index, Index]:
        return {i: Index(n, i.dim) for i, n in zip(self.free, letters, strict=True)}

    def _coefficient(self, moment: Expression, power: Fraction) -> Expression:
        scaling = self.law.scaling
        value = moment.scaled(scaling.width).map_coefficients(lambda c: scaling.leading(c, -power))
        if any(f.tensor == self.law.state for _, fs in value.terms for f in fs):
            raise Refusal(
                f"the average at order {scaling.width}^(-{power}) depends on the state beyond V",
                self.traced.model.place,
            )
        return value

    def _finding(self, value: Expression, averaged: int) -> str:
        if not value.is_zero:
            count = len(value.terms)
            return f"{count} term{'s' if count > 1 else ''}"
        if not averaged:
            return (
                "vanishes by parity: no product of order "
                f"{self.law.scaling.width}^(-1/2) is even in every weight"
            )
        return f"vanishes: the averages of {averaged} products leave 0 terms"


def _settled(traced: Trace, law: Law, weights: dict[Any, Any], top: int) -> Expression:
    """V' - V to order eps^top, from the shortest expansion that a longer one confirms."""
    reach = top + _gain(law, traced.output)
    before = increment_of(Expansion(law, weights, reach).of(traced.output), law, top)
    while True:
        reach += 1
        after = increment_of(Expansion(law, weights, reach).of(traced.output), law, top)
        if after == before:
            return before
        if reach > top + 6:
            raise Refusal("the expansion in 1/sqrt(width) does not settle", traced.model.place)
        before = after

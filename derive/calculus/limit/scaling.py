"""Says how dimensions grow with the width, and which degree a coefficient has in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import sympy as sp

from derive.calculus.limit.opaque import leading
from derive.errors import Refusal
from derive.notation.common.scalars import GaussianMean, Opaque


class Degree(NamedTuple):
    """Exponent of the width if the free dimensions stay bounded, and if they grow with it."""

    bounded: Fraction
    growing: Fraction


@dataclass(frozen=True)
class Scaling:
    """Which dimensions grow: `width` does, `fixed` do not, `proportional` do, `free` may.

    A layer takes the time width**(-`pace`): there its mean is of order eps**(2 pace), its
    fluctuation of order eps**pace.
    """

    width: sp.Symbol
    fixed: frozenset[sp.Symbol]
    proportional: frozenset[sp.Symbol] = frozenset()
    free: frozenset[sp.Symbol] = frozenset()
    pace: Fraction = Fraction(1)
    _degrees: dict[sp.Expr, Degree | None] = field(
        default_factory=dict[sp.Expr, "Degree | None"], repr=False, compare=False
    )

    @property
    def clock(self) -> sp.Expr:
        """Layers in a unit of time."""
        return self.width ** sp.Rational(self.pace)

    def grows(self, dim: sp.Symbol) -> bool:
        return dim not in self.fixed

    def degree(self, coefficient: sp.Expr) -> Degree | None:
        """Largest exponents of the width in a coefficient; None for zero."""
        if coefficient not in self._degrees:
            found = [self._exponents(t) for t in _terms(coefficient)]
            self._degrees[coefficient] = (
                Degree(max(d.bounded for d in found), max(d.growing for d in found))
                if found
                else None
            )
        return self._degrees[coefficient]

    def _exponents(self, term: sp.Expr) -> Degree:
        bounded = growing = Fraction(0)
        for base, exponent in term.as_powers_dict().items():
            if exponent.has(self.width) or (base.has(self.width) and not exponent.is_Rational):
                # exp(1/n) is e to a power of 1/n, and (1 + 1/n)^tau has no number as its power
                base, exponent = base**exponent, sp.Integer(1)
            power = Fraction(int(exponent.p), int(exponent.q)) if exponent.is_Rational else None
            if isinstance(base, Opaque):
                base = leading(base.value, self.width)
            elif base.has(GaussianMean) or (base.has(self.width) and not base.is_algebraic_expr()):
                base = leading(base, self.width)
            if base == self.width or base in self.proportional:
                inner = Degree(Fraction(1), Fraction(1))
            elif base in self.free:
                inner = Degree(Fraction(0), Fraction(1))
            elif base.has(self.width, *self.proportional, *self.free):
                parts = sp.fraction(sp.together(base))
                splits = base.is_Add or base.is_Mul or (base.is_Pow and base.exp.is_Rational)
                if not splits and parts[0] == base:
                    raise Refusal(f"{base} grows like no fixed power of {self.width}")
                top, bottom = map(self.degree, parts)
                assert top is not None and bottom is not None
                inner = Degree(top.bounded - bottom.bounded, top.growing - bottom.growing)
            else:
                continue
            assert power is not None, f"{base}**{exponent} has no degree"
            bounded += power * inner.bounded
            growing += power * inner.growing
        return Degree(bounded, growing)

    def leading(self, coefficient: sp.Expr, degree: Fraction | int) -> sp.Expr:
        """Limit of coefficient / width**degree as the width grows, free dimensions held fixed.

        A proportional dimension becomes its ratio (a symbol) times the width.
        """
        coefficient = coefficient.xreplace({d: ratio(d) * self.width for d in self.proportional})
        kept = [
            self._freed(term / self.width ** sp.Rational(Fraction(degree)))
            for term in _terms(coefficient)
            if self._exponents(term).bounded == degree
        ]
        total = sp.expand(sp.Add(*kept))
        return sp.cancel(total) if _has_sums_below(total) else total

    def _freed(self, term: sp.Expr) -> sp.Expr:
        """A term of degree 0 without the width: n / (n gamma^2 + n) is 1 / (gamma^2 + 1)."""
        if any(b.is_Add and b.has(self.width) for b in term.as_powers_dict()):
            return leading(term, self.width)
        return term


def _terms(coefficient: sp.Expr) -> list[sp.Expr]:
    """Summands that do not cancel each other.  Over denominators that are sums they may, and each
    alone grows more than all: n/(1 + q^2) + n q^2/(1 + q^2) - n is zero."""
    total = sp.expand(coefficient)
    below = sp.Integer(1)
    if total.is_Add and _has_sums_below(total):
        above, below = sp.fraction(sp.together(total))
        total = sp.expand(above)
    return [term / below for term in sp.Add.make_args(total) if term != 0]


def _has_sums_below(total: sp.Expr) -> bool:
    return any(p.exp.is_negative and p.base.is_Add for p in total.atoms(sp.Pow))


def ratio(dim: sp.Symbol) -> sp.Symbol:
    """The parameter that stands for dim / width when the two grow together."""
    return sp.Symbol(f"{dim.name}_ratio", positive=True)

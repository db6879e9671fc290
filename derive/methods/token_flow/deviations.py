"""Linear stability of equal angles on the sphere, and where the reduced rates stand still.

Input: the Gram rate and the equal angles.  Output: `Deviations`: growth rates at the cosine rho of
three kinds of small changes of the cosines of n tokens, between which a rate that tells no tokens
apart does not mix: all alike, those of one token against another's, and those that change no
token's mean.  `equilibria`: the cosines at which a reduced rate vanishes by a factor that is a
polynomial.  Raises `Unlike` where the norm is free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.methods.token_flow.equal_angles import RHO, EqualAngles
from derive.methods.token_flow.names import COUNT, Names
from derive.methods.token_flow.patterns import Exchangeable, Unlike
from derive.methods.token_flow.tidy import tidy

SIZE = sp.Symbol("epsilon", real=True)
LARGEST = 1500  # operations up to which a rate is put in a short form
KINKED = (sp.Max, sp.Min, sp.Abs, sp.sign, sp.Heaviside, sp.Piecewise)
Shape = Callable[[int, int], int]


@dataclass(frozen=True)
class Deviations:
    """Growth rates in rho, n and the parameters: of `all` cosines alike, of those of single
    `tokens` (n >= 3), of `pairs` (n >= 4)."""

    all: sp.Expr
    tokens: sp.Expr
    pairs: sp.Expr

    @property
    def rates(self) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
        return self.all, self.tokens, self.pairs


@dataclass
class Changed(Exchangeable):
    """Equal angles with cosines rho + epsilon shape(a, b); shape tells the first `special` tokens
    apart, and no others."""

    special: int = 0
    shape: Shape = lambda first, second: 0

    def gram(self, first: int, second: int) -> sp.Expr:
        if first == second:
            return self.own
        return self.other + SIZE * self.shape(first, second)

    def tokens(self, named: Iterable[int]) -> list[tuple[int, sp.Expr]]:
        seen = sorted({*named, *range(self.special)})
        return [*((c, sp.Integer(1)) for c in seen), (len(seen), COUNT - len(seen))]

    def pattern(self, classes: tuple[int, ...]) -> tuple[int, ...]:
        order: dict[int, int] = {}
        return tuple(
            c if c < self.special else order.setdefault(c, self.special + len(order))
            for c in classes
        )


def of_one_token(first: int, second: int) -> int:
    """Token 0 comes nearer to all others as token 1 moves away."""
    nearer = {0: 1, 1: -1}
    return nearer.get(first, 0) + nearer.get(second, 0)


def of_pairs(first: int, second: int) -> int:
    """The pairs 02 and 13 come nearer as 03 and 12 move away: no token's mean changes."""
    signs = {(0, 2): 1, (1, 3): 1, (0, 3): -1, (1, 2): -1}
    return signs.get((min(first, second), max(first, second)), 0)


def deviations(rate: Expression, angles: EqualAngles, names: Names, book: Book) -> Deviations:
    """Raises Unlike."""
    if angles.radius is not None:
        raise Unlike("the norm is free")
    if angles.cosine.atoms(*KINKED):
        raise Unlike("the rate has a kink, at which small changes have no one growth rate")
    return Deviations(
        tidy(angles.cosine.diff(RHO)),
        _growth(rate, names, book, of_one_token, 2),
        _growth(rate, names, book, of_pairs, 4),
    )


def _growth(rate: Expression, names: Names, book: Book, shape: Shape, special: int) -> sp.Expr:
    """The rate of the pair (0, 2) over its own change, which is one."""
    changed = Changed(names, book, other=RHO, special=special, shape=shape)
    slope = changed.of(rate, (0, 2)).diff(SIZE).subs(SIZE, 0)
    return slope if slope.count_ops() > LARGEST else tidy(slope)


def equilibria(rate: sp.Expr, cosine: sp.Symbol) -> tuple[sp.Expr, ...]:
    """Cosines at which the rate vanishes by a polynomial factor, the largest first; 1 is first."""
    numerator = sp.fraction(sp.together(rate))[0]
    found: list[sp.Expr] = []
    for factor, _ in sp.factor_list(numerator)[1]:
        factor = sp.sympify(factor)
        if factor.is_polynomial(cosine) and 0 < sp.degree(factor, cosine) <= 2:
            found += list(sp.roots(factor, cosine))
    inside = [sp.factor(r) for r in found if r.is_real is not False and _within(r, cosine)]
    return tuple(sorted(dict.fromkeys(inside), key=_size, reverse=True))


def _within(root: sp.Expr, cosine: sp.Symbol) -> bool:
    """Is it a cosine, for equal angles one that n vectors can have, at few and at many tokens?"""
    return all(least_cosine(n, cosine) <= _size(root, n) <= 1 for n in (3, 50))


def least_cosine(n: int, cosine: sp.Symbol) -> float:
    """The least that two clusters have, and n tokens at equal angles; with rounding."""
    return -1.0 if cosine != RHO else -1 / (n - 1) - 1e-12


def _size(root: sp.Expr, n: int = 50) -> float:
    """Its value at one point of the parameters' ranges; not a number where it is not real."""
    values = {s: n if s == COUNT else sp.Rational(7, 10) for s in root.free_symbols}
    size = complex(root.xreplace(values))
    return size.real if abs(size.imag) < 1e-12 else float("nan")


def sign_for_many(rate: sp.Expr) -> int:
    """The sign at every number of tokens from two on, zero where it is not seen."""
    more = sp.Symbol("more", integer=True, nonnegative=True)
    value = tidy(rate.subs(COUNT, more + 2))
    return 1 if value.is_positive else -1 if value.is_negative else 0

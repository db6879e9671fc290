"""Beyond the limit: what one layer of finite width does to smooth functions of V.

Input: a derived covariance SDE.  Output: `FiniteWidth`, the next operator of

    n E[f(V') - f(V)] = L_0 f + n^(-1/2) L_1 f + n^(-1) L_2 f + ...

by its parts: a drift (of n E[V' - V]), a diffusion (of n Cov[V']) and a third cumulant (of n times
the third cumulant of V'), each the coefficient of n^(-1/2), and why a part vanishes.

Isserlis' theorem is exact in the width, so the only truncation is that of the increment, by order
in eps = n^(-1/2).  A monomial of order p has a standard deviation of order eps^p at most, and the
increment one of order eps, so the coefficient of n^(-k/2) in n E needs monomials to order k + 2,
in n Cov to order k + 1, in n times the third cumulant to order k.

Blocks act one after the other, (1 + L^a/n)(1 + L^b/n) = 1 + (L^a + L^b)/n + O(1/n^2), so their L_1
add; their L_2 do not.  Not supported: rows normalised after the step.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from operator import add

import sympy as sp

from derive.calculus.index import Expression, Factors, Index, Tensor, collect, fresh
from derive.calculus.opaque import reveal
from derive.calculus.order import Law
from derive.calculus.series import Expansion
from derive.errors import Refusal
from derive.methods.block import _gain, laws
from derive.methods.covariance_sde import CovarianceSDE
from derive.methods.noise import NoiseMap, substitute
from derive.methods.project import row_scaling
from derive.notation.model import Trace

ZERO, HALF, ONE = Fraction(0), Fraction(1, 2), Fraction(1)


@dataclass(frozen=True)
class FiniteWidth:
    """L_1 by its parts; free indices (a, b), (a, b, c, d) and (a, b, c, d, e, f).

    `limit_drift` and `limit_diffusion` are L_0, derived on the way.
    `second_drift` and `second_diffusion` are the coefficients of 1/n in n E[V' - V] and n Cov[V'],
    derived where L_1 = 0 and the layer is one block; information, no SDE is claimed of them.
    """

    width: sp.Symbol
    limit_drift: Expression
    limit_diffusion: Expression
    drift: Expression
    diffusion: Expression
    third_cumulant: Expression
    second_drift: Expression | None
    second_diffusion: Expression | None
    facts: tuple[str, ...]

    @property
    def vanishes(self) -> bool:
        return self.drift.is_zero and self.diffusion.is_zero and self.third_cumulant.is_zero

    @property
    def equations(self) -> dict[str, Expression]:
        named = {
            "L_1 drift": self.drift,
            "L_1 diffusion": self.diffusion,
            "L_1 third cumulant": self.third_cumulant,
            "L_2 drift": self.second_drift,
            "L_2 covariance": self.second_diffusion,
        }
        return {name: e for name, e in named.items() if e is not None}


@dataclass(frozen=True)
class Corrected:
    """dV = drift dt + noise with weak error O(1/n): the limit and its first correction.

    `noise` scales every field of the limit by `1 + rate n^(-1/2)` under a root, see `rates`.
    `conditions`: what the width must satisfy for the diffusion to be positive semidefinite.
    """

    drift: Expression
    diffusion: Expression
    rates: dict[str, sp.Expr]
    conditions: tuple[str, ...]


def finite_width(result: CovarianceSDE, second: bool = True) -> FiniteWidth:
    """Derive L_1 of a layer, and, where L_1 = 0 and `second` is set, what is asked of L_2.

    Raises `Refusal` for layers whose rows are normalised, and where an average is not derived.
    """
    place = result.model.place
    if row_scaling(result.trace, result.law) is not None:
        raise Refusal(
            "the expansion in the width is not derived for rows that are normalised after the step",
            place,
        )
    alone = len(result.blocks) == 1
    parts = [of_block(b.trace, second and alone) for b in result.blocks]
    found = parts[0] if alone else _added(parts)
    missed = (result.drift - found.limit_drift, result.diffusion - found.limit_diffusion)
    if not all(e.is_zero for e in missed):
        raise Refusal(
            "the expansion in the width does not begin with the limit: "
            f"{len(missed[0].terms)} terms of the drift and {len(missed[1].terms)} of the "
            "diffusion differ",
            place,
        )
    return found


def of_block(traced: Trace, second: bool = False) -> FiniteWidth:
    """The expansion of one block, from its trace alone."""
    layer = _Layer(traced, 3)
    width = layer.law.scaling.width
    first = layer.first()
    limits = layer.mean(ZERO)[0], layer.covariance(ZERO)[0]
    moments: tuple[Expression | None, Expression | None] = (None, None)
    facts = list(first.facts)
    if first.vanishes:
        facts.append(f"L_1 = 0: the weak error of the SDE is O(1/{width})")
    if first.vanishes and second:
        moments = _Layer(traced, 4).second()
        facts.append(
            f"the 1/{width} parts of one layer's mean and covariance are information: at that "
            "order third and fourth cumulants enter too, and no SDE matches them"
        )
        held = sorted({str(d) for e in moments for d in _free_dims(e, layer.law)})
        facts += [f"{d} enters at order 1/{width}, though not the limit" for d in held]
    return FiniteWidth(
        width,
        *limits,
        first.drift,
        first.diffusion,
        first.third_cumulant,
        *moments,
        tuple(facts),
    )


def _added(parts: list[FiniteWidth]) -> FiniteWidth:
    def summed(name: str) -> Expression:
        return reduce(add, (getattr(p, name) for p in parts))

    facts = [f"block {k}: {fact}" for k, p in enumerate(parts, 1) for fact in p.facts]
    return FiniteWidth(
        parts[0].width,
        summed("limit_drift"),
        summed("limit_diffusion"),
        summed("drift"),
        summed("diffusion"),
        summed("third_cumulant"),
        None,
        None,
        tuple(facts),
    )


def corrected(result: CovarianceSDE, found: FiniteWidth | None = None) -> Corrected:
    """The SDE with its n^(-1/2) correction.

    Raises `Refusal` where L_1 = 0 (nothing to correct at this order), where L_1 has a third
    cumulant (no SDE has one), and where the corrected diffusion is not shown to be positive.
    """
    found = finite_width(result, second=False) if found is None else found
    width, place = found.width, result.model.place
    if found.vanishes:
        raise Refusal(
            f"L_1 = 0: the SDE has weak error O(1/{width}) as it stands, and at order 1/{width} "
            "drift and diffusion are not enough; there is no corrected SDE",
            place,
        )
    if not found.third_cumulant.is_zero:
        raise Refusal(
            f"L_1 has a third cumulant ({len(found.third_cumulant.terms)} terms), so it is an "
            "operator of third order, and no SDE has it as its generator",
            place,
        )
    small = 1 / sp.sqrt(width)
    rates = field_rates(found.diffusion, result.noise)
    if rates is None:
        raise Refusal(
            "the first correction to the diffusion is no combination of the covariances of the "
            f"independent noise fields ({', '.join(f.core for f in result.noise.fields)}), so the "
            "corrected diffusion is not shown to be positive semidefinite",
            place,
        )
    conditions = tuple(f"1 + ({r})/sqrt({width}) >= 0" for r in rates.values() if r != 0)
    return Corrected(
        result.drift + found.drift.scaled(small),
        result.diffusion + found.diffusion.scaled(small),
        rates,
        conditions,
    )


def field_rates(correction: Expression, noise: NoiseMap) -> dict[str, sp.Expr] | None:
    """r with correction = sum_f r_f Cov_f over the independent fields f of a noise map, or None."""
    names = [f.tensor.name for f in noise.fields]
    unknown = sp.symbols(f"r0:{len(names)}")
    left = -correction
    for r, one in zip(unknown, noise.fields, strict=True):
        kept = [t for t in noise.compact.terms if any(f.tensor == one.tensor for f in t[1])]
        alone = collect(noise.compact.free, kept)
        expanded = substitute(alone, one.tensor, one.built)
        part = NoiseMap((one,), alone, expanded, noise.factor, noise.gram)
        left = left + part.covariance().scaled(r)
    equations = [c for c, _ in left.terms]
    solved = sp.linsolve(equations, *unknown) if equations else sp.FiniteSet(unknown)
    for solution in solved:
        # a field that the equations leave free keeps its size
        values = [sp.simplify(s.xreplace(dict.fromkeys(unknown, 0))) for s in solution]
        return dict(zip(names, values, strict=True))
    return None


@dataclass(frozen=True)
class _Piece:
    """A monomial of the increment; `order` bounds that of its standard deviation."""

    coefficient: sp.Expr
    factors: Factors
    order: Fraction
    flips: tuple[int, ...]  # parity in each weight
    odd: bool  # an odd power of n^(1/2)


@dataclass(frozen=True)
class _First:
    drift: Expression
    diffusion: Expression
    third_cumulant: Expression
    facts: tuple[str, ...]

    @property
    def vanishes(self) -> bool:
        return self.drift.is_zero and self.diffusion.is_zero and self.third_cumulant.is_zero


class _Layer:
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

    def first(self) -> _First:
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
            return _First(drift, diffusion, third, (why,))
        moments = {
            "drift": self.mean(HALF),
            "diffusion": self.covariance(HALF),
            "third cumulant": self.third(HALF),
        }
        facts = tuple(f"L_1 {name}: {self._finding(*m)}" for name, m in moments.items())
        drift, diffusion, third = (value for value, _ in moments.values())
        return _First(drift, diffusion, third, facts)

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
        drawn = self.law.gaussian
        return any(f.tensor in drawn or f.tensor.kind == "magnitude" for f in piece.factors)

    def _groups(self) -> dict[tuple, list[_Piece]]:
        """Random monomials by parity in the weights, parity in sqrt(n), and order (1 or more)."""
        out: dict[tuple, list[_Piece]] = defaultdict(list)
        for piece in self.pieces:
            if self._random(piece):
                out[piece.flips, piece.odd, max(piece.order, ONE)].append(piece)
        return out

    def _counts(self, keys: tuple[tuple, ...], power: Fraction, top: Fraction) -> bool:
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
            return f"{len(value.terms)} terms"
        if not averaged:
            return (
                "vanishes by parity: no product of order "
                f"{self.law.scaling.width}^(-1/2) is even in every weight"
            )
        return f"vanishes: the averages of {averaged} products leave 0 terms"


def _free_dims(expression: Expression | None, law: Law) -> set[sp.Symbol]:
    if expression is None:
        return set()
    used = {s for c, _ in expression.terms for s in c.free_symbols}
    return used & law.scaling.free


def _settled(traced: Trace, law: Law, weights: dict, top: int) -> Expression:
    """V' - V to order eps^top, from the shortest expansion that a longer one confirms."""
    reach = top + _gain(law, traced.output)
    before = _increment(Expansion(law, weights, reach).of(traced.output), law, top)
    while True:
        reach += 1
        after = _increment(Expansion(law, weights, reach).of(traced.output), law, top)
        if after == before:
            return before
        if reach > top + 6:
            raise Refusal("the expansion in 1/sqrt(width) does not settle", traced.model.place)
        before = after


def _increment(layer: Expression, law: Law, top: int) -> Expression:
    token, width = law.state.dims
    a, b, i = Index("a", token), Index("b", token), fresh(width)
    row, unit = layer.free
    product = layer.renamed({row: a, unit: i}) * layer.renamed({row: b, unit: i})
    new = law.gram_of(product.summed(i).scaled(1 / law.gram_weight))
    old = collect((a, b), [(sp.Integer(1), (law.gram[a, b],))])
    return law.up_to(new - old, top)

"""Fluctuation cores: the random factors of a monomial that growing indices join.

Input: monomials of an increment and the laws of its weights.  Output: each core's conditional mean
and covariance, the monomials linear in one core at a time, and the independent fields that stand
for the cores.  Cores that correlate share fields, by Gram and Schmidt.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction

import sympy as sp

from derive.calculus.index.canonical import components
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import (
    Factor,
    Factors,
    Index,
    Tensor,
    apart,
    delta_tensor,
    fresh,
    indices_of,
)
from derive.calculus.limit.order import Law
from derive.errors import Refusal
from derive.methods.covariance_sde.fields import Field, built_of, describe, drawn_dims
from derive.methods.covariance_sde.pairings import Pairing, image_pairing, less, quotient
from derive.methods.covariance_sde.substitution import Products, substitute, times


@dataclass(frozen=True)
class Core:
    """A random core in its own legs, with its first two conditional moments.

    `variance` is the leading part, freed of the powers of growing dimensions in `scale`.
    """

    expression: Expression
    mean: Expression
    variance: Expression
    degree: Fraction  # of its standard deviation in the width
    scale: sp.Expr  # its standard deviation is this, times the field's


@dataclass(frozen=True)
class Separated:
    """A core as `shares` of the fields of other cores, and one of its own with pairing `left`."""

    core: Core
    shares: dict[int, Pairing]
    left: Pairing


class Cores:
    """Cores met so far, each with its field."""

    def __init__(self, law: Law) -> None:
        self.law = law
        token = law.gram.dims[0]
        self.factor = Tensor("L", (token, token), "factor")
        self.known: dict[Expression, tuple[int, Core]] = {}
        self.used: set[int] = set()  # cores that a field replaces

    def linearise(
        self, coefficient: sp.Expr, factors: Factors, free: tuple[Index, ...]
    ) -> Products:
        """Replace one core by its field and the others by their means, in every way."""
        fixed: list[Factor] = []
        random: list[tuple[int, Core, tuple[Index, ...]]] = []
        factors = apart(factors, free)
        for joined in self._cores(factors, free):
            if any(f.tensor in self.law.gaussian for f in joined):
                random.append(self._identify(joined, factors, free))
            else:
                fixed.extend(joined)
        products: Products = []
        for chosen, (number, core, legs) in enumerate(random):
            others = [x for k, x in enumerate(random) if k != chosen]
            if any(partner.mean.is_zero for _, partner, _ in others):
                continue
            self.used.add(number)
            hit = self._field_tensor(number, core)[legs]
            product = [(coefficient * core.scale, (*fixed, hit))]
            for _, partner, ends in others:
                product = times(product, partner.mean.placed(ends))
            products.extend(product)
        return products

    def _cores(self, factors: Factors, free: tuple[Index, ...]) -> list[Factors]:
        """Cores, joined also by sums over fixed dimensions other than the tokens (heads).

        Only where all that such a sum joins is random: a deterministic factor stays outside.
        """
        token = self.law.gram.dims[0]
        legs = {
            i
            for i in indices_of(factors)
            if i in free or i.dim == token or not self._inside(i, factors)
        }
        return components(factors, legs)

    def _inside(self, index: Index, factors: Factors) -> bool:
        """Whether a sum belongs inside one core.

        Growing ones do, those within one core, and those that join cores none of which has a mean
        (q . k of a key width that stays): apart they would be products of fluctuations.
        """
        if self.law.joins(index.dim):
            return True
        holding = [core for core in self.law.cores(factors) if index in indices_of(core)]
        return len(holding) == 1 or all(self._odd(core) for core in holding)

    def _odd(self, core: Factors) -> bool:
        """Odd in some weight, so that the mean vanishes."""
        counts = [sum(f.tensor == t for f in core) for t in self.law.gaussian]
        return any(c % 2 for c in counts)

    def _identify(
        self, core: Factors, everything: Factors, free: tuple[Index, ...]
    ) -> tuple[int, Core, tuple[Index, ...]]:
        """The known core that this one is, up to the order of its legs."""
        counts: dict[Index, int] = {}
        for factor in everything:
            for index in factor.indices:
                counts[index] = counts.get(index, 0) + 1
        own: dict[Index, int] = {}
        for factor in core:
            for index in factor.indices:
                own[index] = own.get(index, 0) + 1
        token = self.law.gram.dims[0]
        ends = {
            i
            for i in indices_of(core)
            if not self.law.joins(i.dim) and (i.dim == token or i in free or counts[i] > own[i])
        }
        core, meant = _untied(core, ends, token)
        legs = sorted(meant)
        best = None
        for order in itertools.permutations(legs):
            names = {i: Index(f"~{p}", i.dim) for p, i in enumerate(order)}
            one = collect(names.values(), [(sp.Integer(1), tuple(f.rename(names) for f in core))])
            if best is None or str(one.terms) < str(best[0].terms):
                best = (one, order)
        assert best is not None
        expression, order = best
        if expression not in self.known:
            self.known[expression] = (len(self.known), self._moments(expression))
        number, known = self.known[expression]
        return number, known, tuple(meant[i] for i in order)

    def _moments(self, expression: Expression) -> Core:
        scaling = self.law.scaling
        mean = self.law.mean(expression)
        primed = {i: Index(f"{i.name}'", i.dim) for i in expression.free}
        variance = self.law.covariance(expression, expression.renamed(primed))
        degrees = [scaling.degree(c) for c, _ in variance.terms]
        degree = max(d.bounded for d in degrees if d is not None)
        leading = variance.map_coefficients(lambda c: scaling.leading(c, degree))
        scale = scaling.width ** (sp.Rational(degree) / 2)
        for dim in sorted(scaling.free | scaling.proportional, key=str):
            power = _common_power(leading, dim)
            scale = scale * dim ** (power / 2)
            leading = _without_power(leading, dim**power)
        return Core(expression, mean, leading, degree / 2, scale)

    def separated(self) -> dict[int, Separated]:
        """Each core as a combination of earlier independent fields and one of its own.

        Gram and Schmidt: cores that correlate must share the pairing of their legs.
        """
        out: dict[int, Separated] = {}
        for number, core in self.known.values():
            if number not in self.used:
                continue
            tokens = [i for i in core.expression.free if i.dim == self.law.gram.dims[0]]
            if not 1 <= len(tokens) <= 2:
                raise Refusal(
                    f"{describe(core.expression)} fluctuates as a field over {len(tokens)} "
                    "tokens; noise maps are made of fields over one or two"
                )
            own = self._pairings(core.variance, core, core)
            shares: dict[int, Pairing] = {}
            for other, before in out.items():
                joint = self._joint(core, before.core)
                if joint is None:
                    continue
                kinds = self._kinds(core.variance, core)
                if kinds != self._kinds(before.core.variance, before.core):
                    raise _correlated(core, before.core)
                overlap = self._pairings(joint, core, before.core)
                for third, part in shares.items():
                    overlap = less(
                        overlap, image_pairing(part, before.shares[third], out[third].left)
                    )
                share = quotient(overlap, before.left)
                if share is None:
                    raise _correlated(core, before.core)
                if share != (0, 0):
                    shares[other] = share
                    own = less(own, image_pairing(share, share, before.left))
            out[number] = Separated(core, shares, own)
        return out

    def _joint(self, first: Core, second: Core) -> Expression | None:
        """The leading part of Cov(first, second), legs of the second primed; None if it is less."""
        primed = {i: Index(f"{i.name}'", i.dim) for i in second.expression.free}
        joint = self.law.covariance(first.expression, second.expression.renamed(primed))
        bound = first.degree + second.degree
        degrees = [self.law.scaling.degree(c) for c, _ in joint.terms]
        if not any(d is not None and d.bounded >= bound for d in degrees):
            return None
        scaling = self.law.scaling
        scale = scaling.leading(first.scale * second.scale, bound)
        joint = joint.map_coefficients(lambda c: sp.cancel(scaling.leading(c, bound) / scale))
        return joint

    def fields(self, separated: dict[int, Separated]) -> list[Field]:
        return [self._field(number, one) for number, one in separated.items() if one.left != (0, 0)]

    def combined(self, compact: Expression, separated: dict[int, Separated]) -> Expression:
        """Every core's tensor in terms of the independent fields."""
        for number, one in separated.items():
            if not one.shares:
                continue
            tensor = self._field_tensor(number, one.core)
            legs = tuple(Index(f"~{p}", d) for p, d in enumerate(tensor.dims))
            terms: list[tuple[sp.Expr, Factors]] = []
            if one.left != (0, 0):
                terms.append((sp.Integer(1), (self._own_tensor(number, one)[legs],)))
            for other, (straight, swapped) in one.shares.items():
                field = self._own_tensor(other, separated[other])
                terms.append((straight, (field[legs],)))
                terms.append((swapped, (field[legs[::-1]],)))
            compact = substitute(compact, tensor, collect(legs, terms))
        return compact

    def _field_tensor(self, number: int, core: Core) -> Tensor:
        """Stands for the whole core."""
        legs = tuple(i.dim for i in core.expression.free)
        return Tensor(f"F_{number + 1}", legs, "field", self._symmetric(core))

    def _symmetric(self, core: Core) -> bool:
        straight, swapped = self._pairings(core.variance, core, core)
        return len(core.expression.free) == 2 and sp.expand(straight - swapped) == 0

    def _own_tensor(self, number: int, one: Separated) -> Tensor:
        """Stands for what a core adds to the fields before it."""
        if not one.shares:
            return self._field_tensor(number, one.core)
        legs = tuple(i.dim for i in one.core.expression.free)
        symmetric = len(legs) == 2 and sp.expand(one.left[0] - one.left[1]) == 0
        return Tensor(f"F_{number + 1}'", legs, "field", symmetric)

    def _field(self, number: int, one: Separated) -> Field:
        core, (straight, swapped) = one.core, one.left
        tensor = self._own_tensor(number, one)
        free = core.expression.free
        shape = drawn_dims(tensor.dims, self.law.gram.dims[0])
        drawn = Tensor(f"G_{number + 1}", shape, "gaussian", tensor.symmetric)
        kinds = self._kinds(core.variance, core)
        if tensor.symmetric or swapped == 0:
            built = built_of(free, self.factor, drawn, sp.sqrt(straight), kinds)
        else:
            plus, minus = sp.sqrt(straight + swapped), sp.sqrt(straight - swapped)
            built = built_of(free, self.factor, drawn, (plus + minus) / 2, kinds)
            crossed = built_of(free[::-1], self.factor, drawn, (plus - minus) / 2, kinds[::-1])
            built = collect(free, [*built.terms, *crossed.terms])
        return Field(tensor, drawn, built, (core.expression,))

    def _kinds(self, variance: Expression, core: Core) -> tuple[bool, ...]:
        """For each leg whether it is paired through V; else each entry is alone (a delta)."""
        ((_, factors), *_) = variance.terms
        through = {i for f in factors if f.tensor == self.law.gram for i in f.indices}
        return tuple(i in through for i in core.expression.free)

    def _pairings(self, variance: Expression, first: Core, second: Core) -> Pairing:
        """Coefficients of the straight and the swapped pairing of legs with primed legs."""
        free = first.expression.free
        primed = tuple(Index(f"{i.name}'", i.dim) for i in second.expression.free)
        gram = self.law.gram
        refusal = Refusal(
            f"the covariance of {describe(first.expression)} is no sum of pairings of its "
            "tokens: no structured noise map is known for it"
        )
        if [i.dim for i in free] != [i.dim for i in primed]:
            raise refusal if first is second else _correlated(first, second)
        rest = variance
        kinds = self._kinds(first.variance, first)
        found = []
        tokens = [k for k, i in enumerate(free) if i.dim == gram.dims[0]]
        orders = [primed]
        if len(tokens) == 2 and kinds[tokens[0]] == kinds[tokens[1]]:
            flip = list(primed)
            flip[tokens[0]], flip[tokens[1]] = flip[tokens[1]], flip[tokens[0]]
            orders.append(tuple(flip))
        for order in orders:
            factors = tuple(
                gram[i, j] if kind else delta_tensor(i.dim)[i, j]
                for i, j, kind in zip(free, order, kinds, strict=True)
            )
            pairing = collect(rest.free, [(sp.Integer(1), factors)])
            hit = [c for c, f in rest.terms if f == pairing.terms[0][1]]
            coefficient = hit[0] if hit else sp.Integer(0)
            rest = rest - pairing.scaled(coefficient)
            found.append(coefficient)
        if not rest.is_zero:
            raise refusal if first is second else _correlated(first, second)
        return found[0], found[1] if len(found) > 1 else sp.Integer(0)


def _untied(
    core: Factors, ends: set[Index], token: sp.Symbol
) -> tuple[Factors, dict[Index, Index]]:
    """A token that occurs twice (the diagonal of a core) as two, and which leg each one means.

    A head that occurs twice stays one leg: its weights are drawn for it.
    """
    meant: dict[Index, Index] = {}

    def leg(index: Index) -> Index:
        if index not in ends:
            return index
        own = index if index not in meant or index.dim != token else fresh(index.dim)
        meant[own] = index
        return own

    return tuple(Factor(f.tensor, tuple(leg(i) for i in f.indices)) for f in core), meant


def _correlated(first: Core, second: Core) -> Refusal:
    return Refusal(
        f"two fluctuating parts of the layer are correlated ({describe(first.expression)} and "
        f"{describe(second.expression)}), and their tokens are not paired alike: no structured "
        "noise map is known for them"
    )


def _without_power(expression: Expression, power: sp.Expr) -> Expression:
    return expression.map_coefficients(lambda c: sp.expand(c / power))


def _common_power(expression: Expression, dim: sp.Symbol) -> sp.Rational:
    powers = {c.as_coeff_exponent(dim)[1] for c, _ in expression.terms}
    return powers.pop() if len(powers) == 1 else sp.Integer(0)

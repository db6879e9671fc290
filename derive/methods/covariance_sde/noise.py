"""The noise map: the fluctuation of one layer as a linear map of independent Gaussian fields.

Input: the part of the increment that is of order eps, and the laws.  Output: the same fluctuation
written in Gaussian fields of the tokens alone, so that a draw costs products of m x m matrices
and no m^4 tensor is built.

Method: split each monomial into cores (factors joined by growing indices, token legs open), take
their conditional means and covariances, linearise in one core at a time, and give each core an
independent Gaussian field of equal covariance, built from L with L L^T = V (a leg that is paired
by a delta needs no L).  Cores that correlate share fields, by Gram and Schmidt.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from fractions import Fraction

import sympy as sp

from derive.calculus.gaussian.expectation import contract_gram, expectation
from derive.calculus.index.canonical import components
from derive.calculus.index.expressions import (
    Expression,
    Factor,
    Factors,
    Index,
    Tensor,
    apart,
    collect,
    indices_of,
)
from derive.calculus.index.factors import delta_tensor, fresh
from derive.calculus.limit.order import Law
from derive.errors import Refusal


@dataclass(frozen=True)
class Field:
    """A Gaussian field on tokens, the limit law of one core.

    `tensor`: the field F itself; `drawn`: the iid array G behind it; `built`: F as an expression
    in L and G; `core`: the finite-width object that it replaces, in words.
    """

    tensor: Tensor
    drawn: Tensor
    built: Expression
    core: str


@dataclass(frozen=True)
class NoiseMap:
    """`compact` is the noise in fields F, `expanded` the same in L and the iid arrays G."""

    fields: tuple[Field, ...]
    compact: Expression
    expanded: Expression
    factor: Tensor
    gram: Tensor

    def covariance(self) -> Expression:
        """Cov(N_ab, N_cd), derived from the map: expectation over G, then L L^T = V."""
        free = self.expanded.free
        second = {i: Index(n, i.dim) for i, n in zip(free, ("c", "d"), strict=True)}
        drawn = tuple(f.drawn for f in self.fields)
        product = expectation(self.expanded * self.expanded.renamed(second), drawn)
        return contract_gram(product, self.factor, self.gram, sp.Integer(1))


@dataclass(frozen=True)
class _Core:
    """A random core in its own legs, with its first two conditional moments.

    `variance` is the leading part, freed of the powers of growing dimensions in `scale`.
    """

    expression: Expression
    mean: Expression
    variance: Expression
    degree: Fraction  # of its standard deviation in the width
    scale: sp.Expr  # its standard deviation is this, times the field's


Pairing = tuple[sp.Expr, sp.Expr]  # coefficients of the straight and of the swapped pairing


@dataclass(frozen=True)
class _Separated:
    """A core as `shares` of the fields of other cores, and one of its own with pairing `left`."""

    core: _Core
    shares: dict[int, Pairing]
    left: Pairing


def noise_map(increment: Expression, law: Law, order: Fraction | int = 1) -> NoiseMap:
    """Noise map of an increment whose monomials are of order <= `order` in eps.

    Raises `Refusal` when the covariance of cores is no sum of pairings of their legs, or that of
    two cores does not pair them alike.
    """
    makers = _Makers(law)
    terms: list[tuple[sp.Expr, Factors]] = []
    for coefficient, factors in increment.terms:
        terms.extend(makers.linearise(coefficient, factors, increment.free))
    separated = makers.separated()
    half = Fraction(-order) / 2
    compact = collect(increment.free, [(law.scaling.leading(c, half), f) for c, f in terms])
    compact = makers.combined(compact.map_coefficients(sp.expand), separated)
    fields = tuple(f for f in makers.fields(separated) if f.tensor in compact.tensors())
    compact, fields = normalise(*absorb_sums(compact, fields, makers.factor))
    compact, fields = merge(*symmetrise(compact, fields, makers.factor))
    expanded = compact
    for one in fields:
        expanded = substitute(expanded, one.tensor, one.built)
    return NoiseMap(fields, compact, expanded, makers.factor, law.gram)


def together(maps: list[NoiseMap]) -> NoiseMap:
    """Independent noise maps added; fields that enter alike become one."""
    first = maps[0]
    compact = collect(first.compact.free, [])
    fields: list[Field] = []
    for number, one in enumerate(maps, 1):
        for field_ in one.fields:
            tensor = replace(field_.tensor, name=f"{field_.tensor.name}@{number}")
            drawn = replace(field_.drawn, name=f"{field_.drawn.name}@{number}")
            built = _with(field_.built, field_.drawn, drawn)
            fields.append(Field(tensor, drawn, built, field_.core))
            one = replace(one, compact=_with(one.compact, field_.tensor, tensor))
        compact = compact + one.compact
    compact, merged = merge(compact, tuple(fields))
    expanded = compact
    for field_ in merged:
        expanded = substitute(expanded, field_.tensor, field_.built)
    return NoiseMap(merged, compact, expanded, first.factor, first.gram)


def absorb_sums(
    compact: Expression, fields: tuple[Field, ...], factor: Tensor
) -> tuple[Expression, tuple[Field, ...]]:
    """sum_h F_h of independent equal fields is sqrt(H) times one of them."""
    token, out = factor.dims[0], []
    for one in fields:
        tensor = one.tensor
        places = [k for k, d in enumerate(tensor.dims) if d != token]
        if not places:
            out.append(one)
            continue
        if not _only_summed(compact, tensor, places):
            raise Refusal(
                f"the noise of {one.core} differs between the entries of "
                f"{', '.join(str(tensor.dims[k]) for k in places)}: one field for each is needed, "
                "which kernels do not draw"
            )
        size = sp.sqrt(sp.Mul(*(tensor.dims[k] for k in places)))
        kept = [k for k in range(len(tensor.dims)) if k not in places]
        bare = replace(tensor, dims=tuple(tensor.dims[k] for k in kept))
        drawn = replace(one.drawn, dims=bare.dims)

        def rule(c, f, t=tensor, b=bare, s=size, keep=kept):  # type: ignore[no-untyped-def]
            hit = [x for x in f if x.tensor == t]
            new = tuple(
                Factor(b, tuple(x.indices[k] for k in keep)) if x.tensor == t else x for x in f
            )
            return [(c * s if hit else c, new)]

        compact = compact.map_terms(rule)
        legs = tuple(Index(f"~{k}", token) for k in range(len(kept)))
        built = []
        for c, f in one.built.terms:
            ends = tuple(one.built.free[k] for k in kept)
            names = dict(zip(ends, legs, strict=True))
            built.append(
                (
                    c,
                    tuple(
                        Factor(drawn, tuple(x.indices[k] for k in kept)).rename(names)
                        if x.tensor == one.drawn
                        else x.rename(names)
                        for x in f
                    ),
                )
            )
        out.append(Field(bare, drawn, collect(legs, built), one.core))
    return compact, tuple(out)


def _only_summed(compact: Expression, tensor: Tensor, places: list[int]) -> bool:
    for _, factors in compact.terms:
        for hit in (f for f in factors if f.tensor == tensor):
            for k in places:
                index = hit.indices[k]
                count = sum(f.indices.count(index) for f in factors)
                if index in compact.free or count != 1:
                    return False
    return True


def normalise(
    compact: Expression, fields: tuple[Field, ...]
) -> tuple[Expression, tuple[Field, ...]]:
    """Sizes go from the fields to the terms in which they stand."""
    out = []
    for one in fields:
        if len(one.built.terms) == 1:
            ((size, factors),) = one.built.terms
            compact = compact.map_terms(
                lambda c, f, t=one.tensor, s=size: [
                    (sp.powsimp(c * s) if any(x.tensor == t for x in f) else c, f)
                ]
            )
            one = replace(one, built=collect(one.built.free, [(sp.Integer(1), factors)]))
        out.append(one)
    return compact, tuple(out)


def symmetrise(
    compact: Expression, fields: tuple[Field, ...], factor: Tensor
) -> tuple[Expression, tuple[Field, ...]]:
    """Where a field enters only as F + F^T, draw the symmetric field (half the normals)."""
    out = []
    for one in fields:
        tensor = one.tensor
        legs = tuple(Index(f"~{p}", d) for p, d in enumerate(tensor.dims))
        flipped = collect(legs, [(sp.Integer(1), (tensor[legs[::-1]],))])
        plain = one.built.terms == _built(legs, factor, one.drawn, sp.Integer(1)).terms
        if not plain or tensor.symmetric or len(legs) != 2:
            out.append(one)
        elif substitute(compact, tensor, flipped) == compact:
            whole = Tensor(tensor.name, tensor.dims, "field", symmetric=True)
            drawn = Tensor(one.drawn.name, one.drawn.dims, "gaussian", symmetric=True)
            half = collect(legs, [(1 / sp.sqrt(2), (whole[legs],))])
            compact = substitute(compact, tensor, half)
            out.append(Field(whole, drawn, _built(legs, factor, drawn, sp.Integer(1)), one.core))
        else:
            out.append(one)
    return compact, tuple(out)


def _built(
    legs: tuple[Index, ...],
    factor: Tensor,
    drawn: Tensor,
    size: sp.Expr,
    kinds: tuple[bool, ...] | None = None,
) -> Expression:
    """size L ... L G; `kinds`: which legs carry an L, by default those of tokens."""
    through = kinds or tuple(i.dim == factor.dims[0] for i in legs)
    inner = tuple(fresh(i.dim) if k else i for i, k in zip(legs, through, strict=True))
    rows = tuple(factor[i, j] for i, j in zip(legs, inner, strict=True) if i != j)
    return collect(legs, [(size, (*rows, drawn[inner]))])


def merge(compact: Expression, fields: tuple[Field, ...]) -> tuple[Expression, tuple[Field, ...]]:
    """Independent fields of one law that enter proportionally are one field (variances add)."""
    kept: list[Field] = []
    parts: list[Expression] = []
    for one in fields:
        part = compact.map_terms(
            lambda c, f, t=one.tensor: [(c, f)] if any(x.tensor == t for x in f) else []
        )
        for position, (other, known) in enumerate(zip(kept, parts, strict=True)):
            ratio = _ratio(_with(part, one.tensor, other.tensor), known)
            if ratio is not None and _same_law(one, other):
                parts[position] = known.map_coefficients(lambda c, r=ratio: _grown(c, r))
                kept[position] = replace(other, core=f"{other.core} and {one.core}")
                break
        else:
            kept.append(one)
            parts.append(part)
    merged = collect(compact.free, [t for part in parts for t in part.terms])
    names = {f.tensor: f"F_{p + 1}" for p, f in enumerate(kept)}
    return _renumber(merged, kept, names)


def _with(expression: Expression, old: Tensor, new: Tensor) -> Expression:
    return expression.map_terms(
        lambda c, f: [(c, tuple(Factor(new, x.indices) if x.tensor == old else x for x in f))]
    )


def _same_law(one: Field, other: Field) -> bool:
    return one.tensor.dims == other.tensor.dims and (
        one.built == _with(other.built, other.drawn, one.drawn)
    )


def _grown(coefficient: sp.Expr, ratio: sp.Expr) -> sp.Expr:
    """coefficient * sqrt(1 + ratio^2), with one root."""
    square = sp.factor(sp.cancel(sp.expand(coefficient**2 * (1 + ratio**2))))
    return -sp.sqrt(square) if coefficient.could_extract_minus_sign() else sp.sqrt(square)


def _ratio(first: Expression, second: Expression) -> sp.Expr | None:
    """c with first = c * second, if there is one free of tensors."""
    if [f for _, f in first.terms] != [f for _, f in second.terms]:
        return None
    ratios = {sp.cancel(c / d) for (c, _), (d, _) in zip(first.terms, second.terms, strict=True)}
    return ratios.pop() if len(ratios) == 1 else None


def _renumber(
    merged: Expression, kept: list[Field], names: dict[Tensor, str]
) -> tuple[Expression, tuple[Field, ...]]:
    out = []
    for one in kept:
        tensor = Tensor(f"{names[one.tensor]}", one.tensor.dims, "field", one.tensor.symmetric)
        drawn = Tensor(tensor.name.replace("F", "G"), one.drawn.dims, "gaussian", tensor.symmetric)
        marked = Tensor(f"{tensor.name}*", tensor.dims, "field", tensor.symmetric)
        merged = _with(merged, one.tensor, marked)
        out.append((marked, Field(tensor, drawn, _with(one.built, one.drawn, drawn), one.core)))
    for marked, one in out:
        merged = _with(merged, marked, one.tensor)
    return merged, tuple(one for _, one in out)


def substitute(expression: Expression, tensor: Tensor, value: Expression) -> Expression:
    """Replace every entry of `tensor` by `value`, whose free indices are its slots."""

    def rule(coefficient: sp.Expr, factors: Factors) -> list[tuple[sp.Expr, Factors]]:
        factors = apart(factors, expression.free)
        products = [(coefficient, tuple(f for f in factors if f.tensor != tensor))]
        for hit in (f for f in factors if f.tensor == tensor):
            products = times(products, value.placed(hit.indices))
        return products

    return expression.map_terms(rule)


Products = list[tuple[sp.Expr, Factors]]


def times(left: Products, right: Products) -> Products:
    return [(c * d, f + g) for c, f in left for d, g in right]


class _Makers:
    """Cores met so far, each with its field."""

    def __init__(self, law: Law) -> None:
        self.law = law
        token = law.gram.dims[0]
        self.factor = Tensor("L", (token, token), "factor")
        self.known: dict[Expression, tuple[int, _Core]] = {}
        self.used: set[int] = set()  # cores that a field replaces

    def linearise(
        self, coefficient: sp.Expr, factors: Factors, free: tuple[Index, ...]
    ) -> Products:
        """Replace one core by its field and the others by their means, in every way."""
        fixed: list[Factor] = []
        random: list[tuple[int, _Core, tuple[Index, ...]]] = []
        factors = apart(factors, free)
        for core in self._cores(factors, free):
            if any(f.tensor in self.law.gaussian for f in core):
                random.append(self._identify(core, factors, free))
            else:
                fixed.extend(core)
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
    ) -> tuple[int, _Core, tuple[Index, ...]]:
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

    def _moments(self, expression: Expression) -> _Core:
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
            leading = leading.map_coefficients(lambda c, d=dim, p=power: sp.expand(c / d**p))
        return _Core(expression, mean, leading, degree / 2, scale)

    def separated(self) -> dict[int, _Separated]:
        """Each core as a combination of earlier independent fields and one of its own.

        Gram and Schmidt: cores that correlate must share the pairing of their legs.
        """
        out: dict[int, _Separated] = {}
        for number, core in self.known.values():
            if number not in self.used:
                continue
            tokens = [i for i in core.expression.free if i.dim == self.law.gram.dims[0]]
            if len(tokens) != 2:
                raise Refusal(
                    f"{describe(core.expression)} fluctuates as a field over {len(tokens)} "
                    "tokens; noise maps are made of fields over two"
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
                    overlap = _less(overlap, _product(part, before.shares[third], out[third].left))
                part = _quotient(overlap, before.left)
                if part is None:
                    raise _correlated(core, before.core)
                if part != (0, 0):
                    shares[other] = part
                    own = _less(own, _product(part, part, before.left))
            out[number] = _Separated(core, shares, own)
        return out

    def _joint(self, first: _Core, second: _Core) -> Expression | None:
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

    def fields(self, separated: dict[int, _Separated]) -> list[Field]:
        return [self._field(number, one) for number, one in separated.items() if one.left != (0, 0)]

    def combined(self, compact: Expression, separated: dict[int, _Separated]) -> Expression:
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

    def _field_tensor(self, number: int, core: _Core) -> Tensor:
        """Stands for the whole core."""
        legs = tuple(i.dim for i in core.expression.free)
        return Tensor(f"F_{number + 1}", legs, "field", self._symmetric(core))

    def _symmetric(self, core: _Core) -> bool:
        straight, swapped = self._pairings(core.variance, core, core)
        return len(core.expression.free) == 2 and sp.expand(straight - swapped) == 0

    def _own_tensor(self, number: int, one: _Separated) -> Tensor:
        """Stands for what a core adds to the fields before it."""
        if not one.shares:
            return self._field_tensor(number, one.core)
        legs = tuple(i.dim for i in one.core.expression.free)
        symmetric = len(legs) == 2 and sp.expand(one.left[0] - one.left[1]) == 0
        return Tensor(f"F_{number + 1}'", legs, "field", symmetric)

    def _field(self, number: int, one: _Separated) -> Field:
        core, (straight, swapped) = one.core, one.left
        tensor = self._own_tensor(number, one)
        free = core.expression.free
        drawn = Tensor(f"G_{number + 1}", tensor.dims, "gaussian", tensor.symmetric)
        kinds = self._kinds(core.variance, core)
        core_name = describe(core.expression)
        if tensor.symmetric or swapped == 0:
            built = _built(free, self.factor, drawn, sp.sqrt(straight), kinds)
        else:
            plus, minus = sp.sqrt(straight + swapped), sp.sqrt(straight - swapped)
            built = _built(free, self.factor, drawn, (plus + minus) / 2, kinds)
            crossed = _built(free[::-1], self.factor, drawn, (plus - minus) / 2, kinds[::-1])
            built = collect(free, [*built.terms, *crossed.terms])
        return Field(tensor, drawn, built, core_name)

    def _kinds(self, variance: Expression, core: _Core) -> tuple[bool, ...]:
        """For each leg whether it is paired through V; else each entry is alone (a delta)."""
        ((_, factors), *_) = variance.terms
        through = {i for f in factors if f.tensor == self.law.gram for i in f.indices}
        return tuple(i in through for i in core.expression.free)

    def _pairings(self, variance: Expression, first: _Core, second: _Core) -> Pairing:
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


def _correlated(first: _Core, second: _Core) -> Refusal:
    return Refusal(
        f"two fluctuating parts of the layer are correlated ({describe(first.expression)} and "
        f"{describe(second.expression)}), and their tokens are not paired alike: no structured "
        "noise map is known for them"
    )


def _product(first: Pairing, second: Pairing, middle: Pairing) -> Pairing:
    """Covariance of two images of one field: straight and swapped pairings form a group of two."""
    plus = sp.prod(x + y for x, y in (first, second, middle))
    minus = sp.prod(x - y for x, y in (first, second, middle))
    return sp.expand((plus + minus) / 2), sp.expand((plus - minus) / 2)


def _less(first: Pairing, second: Pairing) -> Pairing:
    return tuple(sp.cancel(x - y) for x, y in zip(first, second, strict=True))  # type: ignore[return-value]


def _quotient(first: Pairing, second: Pairing) -> Pairing | None:
    """x with x * second = first; None where there is none."""
    ends = []
    for sign in (1, -1):
        top, bottom = first[0] + sign * first[1], second[0] + sign * second[1]
        if sp.cancel(bottom) == 0:
            if sp.cancel(top) != 0:
                return None
            ends.append(sp.Integer(0))
        else:
            ends.append(sp.cancel(top / bottom))
    return sp.cancel((ends[0] + ends[1]) / 2), sp.cancel((ends[0] - ends[1]) / 2)


def _common_power(expression: Expression, dim: sp.Symbol) -> sp.Rational:
    powers = {c.as_coeff_exponent(dim)[1] for c, _ in expression.terms}
    return powers.pop() if len(powers) == 1 else sp.Integer(0)


def describe(expression: Expression) -> str:
    """A core in words: its factors in order."""
    (_, factors), *_ = expression.terms
    return " ".join(f.tensor.name for f in factors)

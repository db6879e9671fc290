"""Power counting: how large a random monomial is as the width grows.

Input: a product of factors, the law of its random tensors and the scaling of the dimensions.
Output: its order in the small parameter eps = width**(-1/2): the exponent p for which
E[product^2]^(1/2) ~ eps^p.

Orders are computed, not guessed from exponents: a product splits into cores (factors joined by
bound indices that grow with the width), and the second moment of each core is taken exactly.  A
product of cores is at most the product of their sizes (Hoelder, and moments of Gaussian
polynomials are equivalent), so truncation by order never drops a term that matters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import sympy as sp

from derive.calculus.gaussian.expectation import contract_gram, expectation
from derive.calculus.index.canonical import components
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factor, Factors, Index, Tensor, apart, indices_of
from derive.calculus.limit.opaque import leading
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

    @property
    def clock(self) -> sp.Expr:
        """Layers in a unit of time."""
        return self.width ** sp.Rational(self.pace)

    def grows(self, dim: sp.Symbol) -> bool:
        return dim not in self.fixed

    def degree(self, coefficient: sp.Expr) -> Degree | None:
        """Largest exponents of the width in a coefficient; None for zero."""
        found = [self._exponents(t) for t in sp.Add.make_args(sp.expand(coefficient)) if t != 0]
        if not found:
            return None
        return Degree(max(d.bounded for d in found), max(d.growing for d in found))

    def _exponents(self, term: sp.Expr) -> Degree:
        bounded = growing = Fraction(0)
        for base, exponent in term.as_powers_dict().items():
            power = Fraction(int(exponent.p), int(exponent.q)) if exponent.is_Rational else None
            if isinstance(base, Opaque):
                base = leading(base.value, self.width)
            elif base.has(GaussianMean):
                base = leading(base, self.width)
            if base == self.width or base in self.proportional:
                inner = Degree(Fraction(1), Fraction(1))
            elif base in self.free:
                inner = Degree(Fraction(0), Fraction(1))
            elif base.has(self.width, *self.proportional, *self.free):
                top, bottom = (self.degree(part) for part in sp.fraction(sp.together(base)))
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
            for term in sp.Add.make_args(sp.expand(coefficient))
            if term != 0 and self._exponents(term).bounded == degree
        ]
        return sp.expand(sp.Add(*kept))

    def _freed(self, term: sp.Expr) -> sp.Expr:
        """A term of degree 0 without the width: n / (n gamma^2 + n) is 1 / (gamma^2 + 1)."""
        if any(b.is_Add and b.has(self.width) for b in term.as_powers_dict()):
            return leading(term, self.width)
        return term


def ratio(dim: sp.Symbol) -> sp.Symbol:
    """The parameter that stands for dim / width when the two grow together."""
    return sp.Symbol(f"{dim.name}_ratio", positive=True)


@dataclass
class Law:
    """The laws under which expectations are taken, given the state.

    `gaussian`: the independent weights; `state` with X X^T = `gram_weight` * `gram`.
    """

    gaussian: tuple[Tensor, ...]
    state: Tensor
    gram: Tensor
    scaling: Scaling
    gram_weight: sp.Expr
    responses: dict = field(default_factory=dict, repr=False)  # see `response`
    centred: dict = field(default_factory=dict, repr=False)  # see `centred`
    _degrees: dict = field(default_factory=dict, repr=False)

    def mean(self, expression: Expression) -> Expression:
        """E given the state, in terms of the Gram matrix; exact in every dimension."""
        from derive.calculus.limit.centred import opened

        return self.gram_of(expectation(opened(expression), self.gaussian))

    def gram_of(self, expression: Expression) -> Expression:
        """Contract the state with itself to its Gram matrix, wherever that is what stands there."""
        return contract_gram(expression, self.state, self.gram, self.gram_weight)

    def is_random(self, tensor: Tensor) -> bool:
        return tensor in self.gaussian or tensor.kind in ("magnitude", "envelope", "centred")

    def covariance(self, first: Expression, second: Expression) -> Expression:
        """Cov given the state; the free indices of the two must be disjoint."""
        return self.mean(first * second) - self.mean(first) * self.mean(second)

    def order(
        self, coefficient: sp.Expr, factors: Factors, free: tuple[Index, ...] = ()
    ) -> Fraction:
        """Order of a monomial in eps = width**(-1/2), see the module's text.

        A free index stands for one entry, so the factors at that entry are cores of their own.
        """
        degrees = [self.scaling.degree(coefficient)]
        degrees += [self._core_degree(core, free) for core in self.cores(factors, free)]
        found = [d for d in degrees if d is not None]
        return -2 * max(sum(d.bounded for d in found), sum(d.growing for d in found))

    def cores(self, factors: Factors, free: tuple[Index, ...] = ()) -> list[Factors]:
        """Groups of factors joined by growing bound indices; other indices are their legs."""
        legs = {i for i in indices_of(factors) if i in free or not self.joins(i.dim)}
        return components(factors, legs)

    def joins(self, dim: sp.Symbol) -> bool:
        """Whether sums over `dim` join factors into one random object: units do, tokens do not."""
        return self.scaling.grows(dim) or dim == self.state.dims[1]

    def _core_degree(self, core: Factors, free: tuple[Index, ...]) -> Degree:
        # every other index is a sum, one that a single factor holds too
        legs = sorted(i for i in indices_of(core) if i in free or not self.scaling.grows(i.dim))
        names = {i: Index(f"~{p}", i.dim) for p, i in enumerate(legs)}
        renamed = tuple(f.rename(names) for f in core)
        key = collect(names.values(), [(sp.Integer(1), renamed)])
        if key not in self._degrees and core[0].tensor.kind == "centred":
            from derive.calculus.limit.centred import size

            self._degrees[key] = size(core[0].tensor, self)
        if key not in self._degrees:
            ((_, normal),) = key.terms
            self._degrees[key] = self._size(normal, frozenset(key.free))
        return self._degrees[key]

    def _size(self, core: Factors, legs: frozenset[Index]) -> Degree:
        """Half the degree of the second moment.

        Isserlis gives one product for each pairing, all with coefficient one, so nothing cancels:
        the degree is the largest number of sums over growing dimensions that a pairing leaves.
        A sum over the state's units counts as a sum, whether it is a Gram contraction or not.
        """
        twice = (*core, *apart(core, legs))
        drawn: dict[Tensor, list[Factor]] = {}
        for factor in twice:
            if factor.tensor in self.gaussian:
                drawn.setdefault(factor.tensor, []).append(factor)
        if any(len(group) % 2 for group in drawn.values()):
            raise AssertionError("a core has a vanishing second moment")
        indices = sorted(indices_of(twice))
        place = {index: position for position, index in enumerate(indices)}
        groups = [[tuple(place[i] for i in f.indices) for f in group] for group in drawn.values()]
        swaps = [tensor.symmetric for tensor in drawn]
        worth = [self._worth(i.dim) for i in indices]
        legs_at = [place[i] for i in legs]
        pinned = [
            (place[f.indices[1]], place[f.indices[2]]) for f in twice if f.tensor.kind == "joint"
        ]
        degrees = []
        for kind in (0, 1):
            # a class that holds a leg is no sum
            own = [w[kind] for w in worth]
            degrees.append(Fraction(_most_sums(groups, swaps, own, legs_at, pinned), 2))
        return Degree(*degrees)

    def _worth(self, dim: sp.Symbol) -> tuple[int, int]:
        """Degree of one sum over `dim`, if the free dimensions stay bounded, if they grow."""
        if not self.scaling.grows(dim):
            return 0, 0
        return (0, 1) if dim in self.scaling.free else (1, 1)

    def up_to(self, expression: Expression, order: Fraction | int) -> Expression:
        """Drop every monomial that is smaller than eps**order."""
        return expression.map_terms(
            lambda c, f: [(c, f)] if self.order(c, f, expression.free) <= order else []
        )


Groups = list[list[tuple[int, ...]]]


def _most_sums(
    groups: Groups,
    swaps: list[bool],
    worth: list[int],
    legs: list[int],
    pinned: list[tuple[int, int]],
) -> int:
    """Largest total worth of index classes that a pairing within the groups leaves.

    `pinned`: indices of which one determines the other (columns of a part and of the whole).
    Every pairing merges classes, so the worth only falls: branch and bound.
    """
    best = -1

    def total(classes: tuple[int, ...]) -> int:
        fixed = {classes[k] for k in legs}
        seen: dict[int, int] = {}
        for position, root in enumerate(classes):
            if root not in fixed:
                seen[root] = max(seen.get(root, 0), worth[position])
        return sum(seen.values())

    def least_loss(groups: Groups, classes: tuple[int, ...]) -> int:
        """A class that one factor of a group holds alone merges with one of its partner's.

        Each such class counts once, in however many groups: one merger serves them all.
        """
        fixed = {classes[k] for k in legs}
        merging = set()
        for group in groups:
            holders: dict[int, int] = {}
            for factor in group:
                for root in {classes[k] for k in factor}:
                    holders[root] = holders.get(root, 0) + 1
            merging |= {
                classes[k]
                for factor in group
                for k in factor
                if worth[k] and holders[classes[k]] == 1 and classes[k] not in fixed
            }
        return (len(merging) + 1) // 2

    def search(groups: Groups, swaps: list[bool], classes: tuple[int, ...]) -> None:
        nonlocal best
        now = total(classes)
        if not groups:
            best = max(best, now)
            return
        if now - least_loss(groups, classes) <= best:
            return
        (first, *others), *later = groups
        moves = []
        for position, partner in enumerate(others):
            rest = others[:position] + others[position + 1 :]
            for ends in (partner, partner[::-1]) if swaps[0] else (partner,):
                joined = classes
                for a, b in zip(first, ends, strict=True):
                    old, new = joined[a], joined[b]
                    if old != new:
                        joined = tuple(new if c == old else c for c in joined)
                moves.append((-total(joined), position, rest, joined))
        for _, _, rest, joined in sorted(moves, key=lambda m: m[:2]):
            if rest:
                search([rest, *later], swaps, joined)
            else:
                search(later, swaps[1:], joined)

    start = tuple(range(len(worth)))
    for a, b in pinned:
        start = tuple(start[b] if c == start[a] else c for c in start)
    search(groups, swaps, start)
    return best

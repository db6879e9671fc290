"""Counts powers: how large a random monomial is as the width grows.

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
from typing import Any

import sympy as sp

from derive.calculus.gaussian.expectation import contract_gram, expectation
from derive.calculus.index.canonical import components
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factor, Factors, Index, Tensor, apart, indices_of
from derive.calculus.limit.most_sums import most_sums
from derive.calculus.limit.remainders import opened
from derive.calculus.limit.scaling import Degree, Scaling


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
    responses: dict[Any, Any] = field(default_factory=dict[Any, Any], repr=False)  # see `response`
    centred: dict[Any, Any] = field(default_factory=dict[Any, Any], repr=False)  # see `centred`
    _degrees: dict[Any, Any] = field(default_factory=dict[Any, Any], repr=False)

    def mean(self, expression: Expression) -> Expression:
        """E given the state, in terms of the Gram matrix; exact in every dimension."""
        return self.gram_of(expectation(opened(expression), self.gaussian))

    def gram_of(self, expression: Expression) -> Expression:
        """Contract the state with itself to its Gram matrix, wherever that is what stands there."""
        return contract_gram(expression, self.state, self.gram, self.gram_weight)

    def is_random(self, tensor: Tensor) -> bool:
        return tensor in self.gaussian or tensor.kind in ("magnitude", "envelope", "centred")

    def weights_in(self, factors: Factors) -> int:
        """The degree of a product in the weights."""
        drawn = sum(f.tensor in self.gaussian or f.tensor.kind == "magnitude" for f in factors)
        return drawn + sum(len(f.tensor.meaning[1]) for f in factors if f.tensor.kind == "envelope")

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
        return -2 * max(sum((d[kind] for d in found), Fraction(0)) for kind in (0, 1))

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
            self._degrees[key] = self._spread(core[0].tensor.meaning)
        if key not in self._degrees:
            ((_, normal),) = key.terms
            self._degrees[key] = self._size(normal, frozenset(key.free))
        return self._degrees[key]

    def _spread(self, rest: Expression) -> Degree:
        """Degree of the standard deviation of M - E M."""
        primed = rest.renamed({i: Index(f"{i.name}'", i.dim) for i in rest.free})
        variance = self.covariance(rest, primed)
        found = [d for c, _ in variance.terms if (d := self.scaling.degree(c)) is not None]
        return Degree(max(d.bounded for d in found) / 2, max(d.growing for d in found) / 2)

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
            degrees.append(Fraction(most_sums(groups, swaps, own, legs_at, pinned), 2))
        return Degree(*degrees)

    def _worth(self, dim: sp.Symbol) -> tuple[int, int]:
        """Degree of one sum over `dim`, if the free dimensions stay bounded, if they grow."""
        if not self.scaling.grows(dim):
            return 0, 0
        return (0, 1) if dim in self.scaling.free else (1, 1)

    def up_to(self, expression: Expression, order: Fraction | int) -> Expression:
        """Drop every monomial that is smaller than eps**order."""
        return expression.only(lambda c, f: self.order(c, f, expression.free) <= order)

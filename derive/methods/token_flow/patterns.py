"""What an expression of tokens is at a configuration: exchangeable tokens, or a few clusters.

Input: an expression in inner products and masses.  Output: SymPy.  Of n exchangeable tokens there
is one value for each pattern of equal ones: a sum over tokens runs over those that are named
already, and over the rest at once.  Raises `Unlike` where the expression tells such tokens apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import sympy as sp

from derive.calculus.arrays.scalar_functions import derivative_of
from derive.calculus.index.defined import Book, Definition
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factor, Factors, Index, Tensor
from derive.methods.token_flow.names import COUNT, Names

Where = dict[Index, int]


class Unlike(Exception):
    """Why an expression is not the same for all tokens."""


@dataclass
class Configuration:
    """Tokens in classes: what R and the masses are for them, and which a sum runs over."""

    names: Names
    book: Book
    _known: dict[tuple[Tensor, tuple[int, ...]], sp.Expr] = field(default_factory=dict)

    def gram(self, first: int, second: int) -> sp.Expr:
        raise NotImplementedError

    def mass(self, token: int) -> sp.Expr:
        raise NotImplementedError

    def mask(self, order: str, first: int, second: int) -> sp.Expr:
        raise NotImplementedError

    def tokens(self, named: Iterable[int]) -> list[tuple[int, sp.Expr]]:
        """Every class that a sum meets, with how many tokens there are of it."""
        raise NotImplementedError

    def pattern(self, classes: tuple[int, ...]) -> tuple[int, ...]:
        """Classes that stand for all that have equal values."""
        return classes

    def of(self, expression: Expression, classes: tuple[int, ...]) -> sp.Expr:
        """Value where the free indices stand at tokens of these classes."""
        where = dict(zip(expression.free, self.pattern(classes), strict=True))
        return sp.Add(*(c * self._product(f, where) for c, f in expression.terms))

    def _product(self, factors: Factors, where: Where) -> sp.Expr:
        bound = next((i for f in factors for i in f.indices if i not in where), None)
        if bound is None:
            return sp.Mul(*(self._factor(f, where) for f in factors))
        if bound.dim != COUNT:
            raise Unlike(f"a sum over {bound.dim} is left")
        return sp.Add(
            *(
                many * self._product(factors, {**where, bound: c})
                for c, many in self.tokens(where.values())
            )
        )

    def _factor(self, factor: Factor, where: Where) -> sp.Expr:
        classes = self.pattern(tuple(where[i] for i in factor.indices))
        key = factor.tensor, classes
        if key not in self._known:
            self._known[key] = self._tensor(factor.tensor, classes)
        return self._known[key]

    def _tensor(self, tensor: Tensor, classes: tuple[int, ...]) -> sp.Expr:
        if tensor == self.names.gram:
            return self.gram(*classes)
        if tensor == self.names.mass:
            return self.mass(*classes)
        if tensor.kind == "delta":
            return sp.Integer(len(set(classes)) == 1)
        if tensor.name.startswith("mask_"):
            return self.mask(tensor.name.removeprefix("mask_"), *classes)
        meaning = self.book.of.get(tensor)
        if meaning is None:
            raise Unlike(f"{tensor.name} is left")
        return self._defined(meaning, classes)

    def _defined(self, meaning: Definition, classes: tuple[int, ...]) -> sp.Expr:
        where = dict(zip(meaning.indices, classes, strict=True))
        bodies = [self._at(b, where) for b in meaning.bodies]
        if meaning.kind == "exp":
            return sp.exp(bodies[0])
        if meaning.kind == "reciprocal":
            return 1 / bodies[0]
        if meaning.kind == "ridge":
            rule, order = meaning.data
            return derivative_of(rule.body, order)(bodies[0])
        if meaning.kind == "gate":
            return bodies[1] / self._normaliser(meaning, where, bodies[0])
        raise Unlike(f"{meaning.kind} has no value on equal angles")

    def _normaliser(self, meaning: Definition, where: Where, exponent: sp.Expr) -> sp.Expr:
        """Sum of all weights over the weight's exponential: differences of exponents alone."""
        last = meaning.indices[-1]
        outer = {i: c for i, c in where.items() if i != last}
        total = sp.Integer(0)
        for c, many in self.tokens(outer.values()):
            there = {**outer, last: c}
            score, weight = (self._at(b, there) for b in meaning.bodies)
            total += many * weight * sp.exp(score - exponent)
        return total

    def _at(self, expression: Expression, where: Mapping[Index, int]) -> sp.Expr:
        named = {i: where[i] for i in expression.free if i in where}
        if len(named) != len(expression.free):
            raise Unlike("an index is free that is none of a token")
        return sp.Add(*(c * self._product(f, named) for c, f in expression.terms))


@dataclass
class Exchangeable(Configuration):
    """n tokens of equal mass: only equality tells them apart.

    `own`, `other`: inner product of a token with itself and with any other.
    """

    own: sp.Expr = sp.Integer(1)
    other: sp.Expr = sp.Integer(0)

    def gram(self, first: int, second: int) -> sp.Expr:
        return self.own if first == second else self.other

    def mass(self, token: int) -> sp.Expr:
        return 1 / COUNT

    def mask(self, order: str, first: int, second: int) -> sp.Expr:
        raise Unlike("a mask orders the tokens, so that each sees another number of them")

    def tokens(self, named: Iterable[int]) -> list[tuple[int, sp.Expr]]:
        seen = sorted(set(named))
        return [*((c, sp.Integer(1)) for c in seen), (len(seen), COUNT - len(seen))]

    def pattern(self, classes: tuple[int, ...]) -> tuple[int, ...]:
        order: dict[int, int] = {}
        return tuple(order.setdefault(c, len(order)) for c in classes)


@dataclass
class Clusters(Configuration):
    """A few clusters, each at its place with its mass."""

    products: sp.Matrix = field(default_factory=sp.Matrix)
    masses: tuple[sp.Expr, ...] = ()

    def gram(self, first: int, second: int) -> sp.Expr:
        return self.products[first, second]

    def mass(self, token: int) -> sp.Expr:
        return self.masses[token]

    def mask(self, order: str, first: int, second: int) -> sp.Expr:
        holds = {"upto": second <= first, "before": second < first}
        holds |= {"from": second >= first, "after": second > first}
        return sp.Integer(holds[order])

    def tokens(self, named: Iterable[int]) -> list[tuple[int, sp.Expr]]:
        return [(c, sp.Integer(1)) for c in range(len(self.masses))]

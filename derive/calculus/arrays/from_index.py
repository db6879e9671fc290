"""Turns index expressions into array expressions: products of matrices and vectors.

Input: an expression of `derive.calculus.index` whose tensors have at most two slots, the book of
its defined tensors, and an array for every other tensor.  Output: an array over the expression's
free indices, built in an `Algebra`.

A product is contracted pair by pair in the cheapest order, a chain of matrices in its own order
where that costs the same.

Not supported, and said by `NoArray`: arrays of more than two axes, tensors that need a quadrature
or the eigenvalues of a matrix.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import reduce

import sympy as sp

from derive.calculus.arrays.algebra import Algebra
from derive.calculus.index.contraction_order import contracted
from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factors, Index, Tensor
from derive.notation.common.arrays import Array
from derive.notation.common.words.elementwise import named

Placed = tuple[Array, tuple[Index, ...]]

WHY_NOT = {
    "spectral": "a function of the eigenvalues of a matrix (a matrix square root, say)",
    "smooth": "the Gaussian mean of a function without a closed form, which takes a quadrature",
    "gate": "weights over blocks of tokens",
}


class NoArray(Exception):
    """The expression has no form in arrays of at most two axes; the message says why."""


@dataclass
class Arrays:
    """Conversion in one algebra; `given` by name, `symbols` replace sizes and parameters."""

    algebra: Algebra
    book: Book
    given: Mapping[str, Array]
    symbols: Mapping[sp.Symbol, sp.Expr]
    done: dict[Tensor, Array] = field(default_factory=dict)

    def of(self, expression: Expression) -> Array:
        """Array of shape (sizes of the free indices)."""
        g = self.algebra
        free = expression.free
        if len(free) > 2:
            raise NoArray(f"an array of {len(free)} axes")
        shape = tuple(self.size(i) for i in free)
        if expression.is_zero:
            return g.full(shape, sp.Integer(0))
        parts = [g.scale(self.scalar(c), self.term(f, free)) for c, f in expression.terms]
        return g.spread(reduce(g.add, parts), shape)

    def size(self, index: Index) -> sp.Expr:
        return sp.sympify(index.dim).xreplace(dict(self.symbols))

    def scalar(self, coefficient: sp.Expr) -> sp.Expr:
        out = coefficient.xreplace(dict(self.symbols))
        if out.has(sp.I):
            raise NoArray("complex numbers")
        return out

    def tensor(self, tensor: Tensor) -> Array:
        if tensor not in self.done:
            self.done[tensor] = self._tensor(tensor)
        return self.done[tensor]

    def _tensor(self, tensor: Tensor) -> Array:
        g = self.algebra
        if tensor.kind == "delta":
            return g.eye(sp.sympify(tensor.dims[0]).xreplace(dict(self.symbols)))
        if tensor not in self.book.of:
            return self.given[tensor.name]
        meaning = self.book.of[tensor]
        if meaning.kind in WHY_NOT:
            raise NoArray(WHY_NOT[meaning.kind])
        if len(tensor.dims) > 2:
            raise NoArray(f"an array of {len(tensor.dims)} axes")
        bodies = [self.of(b) for b in meaning.bodies]
        if meaning.kind == "exp":
            return g.function("exp", bodies[0])
        if meaning.kind == "reciprocal":
            return g.function("reciprocal", bodies[0], named("reciprocal"))
        if meaning.kind in ("inverse", "det"):
            whole = g.add(g.eye(bodies[0].shape[0]), bodies[0])
            return g.word("inverse" if meaning.kind == "inverse" else "inv_sqrt_det", whole)
        raise NoArray(f"a {meaning.kind} of queries and keys")

    # one product

    def term(self, factors: Factors, free: tuple[Index, ...]) -> Array:
        """The product over its indices, spread over `free` by broadcasting."""
        if not factors:
            return self.algebra.scalar(sp.Integer(1))
        work = [(self.tensor(f.tensor), f.indices) for f in factors]
        return self._aligned(contracted(work, free, self), free)

    def diagonal(self, placed: Placed) -> Placed:
        array, indices = placed
        g = self.algebra
        return g.total(g.multiply(array, g.eye(array.shape[0])), -1), indices[:1]

    def total(self, placed: Placed, lone: Collection[Index]) -> Placed:
        array, indices = placed
        for index in [i for i in indices if i in lone]:
            array = self.algebra.total(array, indices.index(index))
            indices = tuple(i for i in indices if i != index)
        return array, indices

    def product(self, first: Placed, second: Placed, legs: tuple[Index, ...], last: bool) -> Placed:
        g = self.algebra
        (a, ix), (b, jx) = first, second
        summed = {*ix, *jx} - {*legs}
        if not summed:
            return self._product(first, second, legs), legs
        if len(ix) == 1 and len(jx) == 2:
            (a, ix), (b, jx) = (b, jx), (a, ix)
        if set(ix) == set(jx):
            return self.total((self._product((a, ix), (b, jx), ix), ix), summed)
        (dummy,) = summed
        if len(ix) == 2 and ix[0] == dummy:
            a, ix = g.transpose(a), ix[::-1]
        if len(jx) == 2 and jx[1] == dummy:
            b, jx = g.transpose(b), jx[::-1]
        if len(ix) == 2:
            return g.matmul(a, b), (*ix[:1], *jx[1:])
        raise NoArray("a contraction of arrays that are no matrices")

    def _product(self, first: Placed, second: Placed, legs: tuple[Index, ...]) -> Array:
        if len(legs) > 2:
            raise NoArray(f"a product of {len(legs)} axes")
        return self.algebra.multiply(self._aligned(first, legs), self._aligned(second, legs))

    def _aligned(self, placed: Placed, order: tuple[Index, ...]) -> Array:
        """Axes in `order`, missing ones of size one (in front: left to broadcasting)."""
        g = self.algebra
        array, indices = placed
        if len(indices) > 2:
            raise NoArray(f"an array of {len(indices)} axes")
        if len(indices) == 2:
            return array if indices == order else g.transpose(array)
        if len(indices) == 1 and len(order) == 2 and indices[0] == order[0]:
            return g.expand(array, 1)
        return array

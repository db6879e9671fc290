"""Builds array expressions at symbolic shapes, one node for one value, simplified as built.

Input: operations on `Array` nodes (see `derive.notation.common.arrays`).  Output: interned nodes:
two expressions that the rules below make equal are one object, so common subexpressions are found
by identity.  The rules are few and local: scalars move to the front and meet, like terms and like
factors are collected, factors that are constant along a summed axis leave the sum, double
transposes and inserted axes cancel, and what is multiplied by zero or one disappears.

Nothing is expanded or reassociated beyond that: what a definition names stays whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

import sympy as sp

from derive.calculus.arrays.interned import ZERO, Interned, is_scalar
from derive.notation.common.arrays import ONE, Array, Shape, broadcast, walk, x_symbol
from derive.notation.common.words.elementwise import named
from derive.notation.common.words.word import WORDS, given

HALF = sp.Rational(1, 2)


@dataclass
class Algebra(Interned):
    """Operations on interned expressions, each simplified by the rules of the module's head."""

    # sums

    def terms(self, array: Array) -> dict[Array, sp.Expr]:
        """Coefficients of the terms of a sum, opened through scalars."""
        coefficient, core = self.split(array)
        if core.op != "add":
            return {} if coefficient == 0 or self.is_zero(core) else {core: coefficient}
        out: dict[Array, sp.Expr] = {}
        for arg in core.args:
            for term, c in self.terms(arg).items():
                out[term] = out.get(term, ZERO) + coefficient * c
        return out

    def add(self, left: Array, right: Array) -> Array:
        shape = broadcast("+", left, right)
        for one, other in ((left, right), (right, left)):
            if self.is_zero(one):
                return self.spread(other, shape)
        first, second = self.terms(left), self.terms(right)
        if first.keys() & second.keys():
            merged = dict(first)
            for term, c in second.items():
                merged[term] = merged.get(term, ZERO) + c
            return self.spread(self.combine(merged, shape), shape)
        (a, x), (b, y) = self.split(left), self.split(right)
        x, y = self._bare(x, y, shape), self._bare(y, x, shape)
        left, right = self.scale(a, x), self.scale(b, y)
        if a == b and a != 1:
            return self.scale(a, self.make("add", (x, y), shape))
        if a == -b and not a.could_extract_minus_sign():
            return self.scale(a, self.make("add", (x, self.scale(sp.Integer(-1), y)), shape))
        if a == -b and a != -1 and b != 1:
            return self.scale(b, self.add(y, self.scale(sp.Integer(-1), x)))
        if a.could_extract_minus_sign() and not b.could_extract_minus_sign():
            left, right = right, left
        return self.make("add", (left, right), shape)

    def combine(self, terms: Mapping[Array, sp.Expr], shape: Shape) -> Array:
        """Sum of coefficient * term; terms whose coefficient cancels are gone."""
        kept = [(t, sp.factor_terms(sp.expand(c))) for t, c in terms.items()]
        parts = [self.scale(c, t) for t, c in kept if c != 0]
        if not parts:
            return self.full(shape, ZERO)
        return reduce(self.add, parts)

    def total_of(self, parts: Iterable[Array]) -> Array:
        return reduce(self.add, parts)

    def spread(self, array: Array, shape: Shape) -> Array:
        """The same values at a full shape."""
        if array.shape == shape:
            return array
        if self.is_zero(array):
            return self.full(shape, ZERO)
        return self.multiply(self.make("full", (), shape, ONE), array)

    def _bare(self, array: Array, other: Array, shape: Shape) -> Array:
        """`array` without the ones that spread it, where `other` has the full shape anyhow."""
        if array.op == "multiply" and other.shape == shape:
            for one, rest in (array.args, array.args[::-1]):
                if one.op == "full" and one.shape and one.data == 1:
                    return rest
        return array

    # products

    def factors(self, array: Array) -> dict[Array, sp.Expr]:
        """Powers of the factors of a product (the scalar coefficient is not among them)."""
        _, core = self.split(array)
        if core.op == "multiply":
            out: dict[Array, sp.Expr] = {}
            for arg in core.args:
                for base, power in self.factors(arg).items():
                    out[base] = out.get(base, ZERO) + power
            return out
        if core.op == "function" and core.data[0] in ("reciprocal", "sqrt"):
            inner = core.args[0]
            if self.split(inner)[0] == 1:
                if core.data[0] == "sqrt":
                    return {inner: HALF}  # whole: the root of x^2 is |x|, not x
                return {base: -power for base, power in self.factors(inner).items()}
        return {} if is_scalar(core) else {core: ONE}

    def multiply(self, left: Array, right: Array) -> Array:
        shape = broadcast("*", left, right)
        (a, x), (b, y) = self.split(left), self.split(right)
        if a == 0 or b == 0 or self.is_zero(x) or self.is_zero(y):
            return self.full(shape, ZERO)
        for one, other in ((x, y), (y, x)):
            if one.op == "full" and one.data == 1 and other.shape == shape:
                return self.scale(a * b, other)
        x, y = self._bare(x, y, shape), self._bare(y, x, shape)
        first, second = self.factors(x), self.factors(y)
        merging = [k for k in first.keys() & second.keys() if first[k] * second[k] < 0]
        merging += [k for k in first.keys() & second.keys() if not first[k].is_Integer]
        if merging:
            merged = dict(first)
            for base, power in second.items():
                merged[base] = merged.get(base, ZERO) + power
            return self.spread(self.scale(a * b, self.product(merged)), shape)
        return self.scale(a * b, self.make("multiply", (x, y), shape))

    def product(self, factors: Mapping[Array, sp.Expr]) -> Array:
        parts = [self.power(base, power) for base, power in factors.items() if power != 0]
        return reduce(self.multiply, parts) if parts else self.scalar(ONE)

    def power(self, base: Array, power: sp.Expr) -> Array:
        """base^power for a positive base where the power is not whole."""
        if power.is_negative:
            return self.function("reciprocal", self.power(base, -power))
        if power.is_Integer:
            return reduce(
                lambda p, q: self.make("multiply", (p, q), base.shape), [base] * int(power)
            )
        if power == HALF:
            return self.function("sqrt", base)
        if (2 * power).is_Integer:
            whole, root = self.power(base, power - HALF), self.function("sqrt", base)
            return self.make("multiply", (whole, root), base.shape)
        return self.function("power", base, sp.Lambda(x_symbol, x_symbol**power))

    # everything else

    def matmul(self, left: Array, right: Array) -> Array:
        (a, x), (b, y) = self.split(left), self.split(right)
        shape = (*x.shape[:-1], *y.shape[1:])
        if x.op == "eye":
            return self.scale(a * b, y)
        if y.op == "eye":
            return self.scale(a * b, x)
        if a == 0 or b == 0 or self.is_zero(x) or self.is_zero(y):
            return self.full(shape, ZERO)
        return self.scale(a * b, self.make("matmul", (x, y), shape))

    def word(self, name: str, *args: Any) -> Array:
        """A word of arrays, and of what else it is given behind them."""
        word = WORDS[name]
        short = word.simplified(self, *args)
        if short is not None:
            return short
        arrays = tuple(a for a in args if isinstance(a, Array))
        return self.make("word", arrays, word.shape(*args), (name, *args[len(arrays) :]))

    def transpose(self, array: Array) -> Array:
        if array.ndim < 2:
            return array
        coefficient, core = self.split(array)
        shape = (core.shape[1], core.shape[0])
        if core in self.symmetric or core.op == "eye":
            return array
        if core.op == "full":
            return self.full(shape, coefficient * core.data)
        if core.op == "transpose":
            return self.scale(coefficient, core.args[0])
        if core.op == "matmul" and core.args[1].ndim == 2 and self._cheaper_flipped(core):
            flipped = [self.transpose(a) for a in reversed(core.args)]
            if self.make("matmul", tuple(flipped), shape) is core:
                return array
            return self.scale(coefficient, self.matmul(*flipped))
        if core.shape[0] == core.shape[1] and core.ndim == 2 and self.is_symmetric(core):
            return array
        return self.scale(coefficient, self.make("transpose", (core,), shape))

    def _cheaper_flipped(self, array: Array) -> bool:
        """Whether pushing a transpose into a chain of products needs no more transposes."""
        chain = self._chain(array)
        turned = sum(a.op == "transpose" for a in chain)
        still = sum(a.op != "transpose" and a not in self.symmetric for a in chain)
        return still <= 1 + turned

    def normal(self, array: Array, flip: bool = False) -> Array:
        """Transposes pushed down to the leaves and products from the left; `flip`: transposed.

        Only to compare: two forms of one matrix meet here, and sharing is lost.
        """
        coefficient, core = self.split(array)
        if core.op == "transpose":
            out = self.normal(core.args[0], not flip)
        elif _transposes(core) and all(a.ndim in (0, 2) for a in core.args):
            out = self.again(core, [self.normal(a, flip) if a.ndim else a for a in core.args])
        elif core.op == "matmul" and all(a.ndim == 2 for a in core.args):
            chain = self._chain(core)
            parts = [self.normal(a, flip) for a in (reversed(chain) if flip else chain)]
            halves = [self.split(a) for a in parts]
            front = sp.Mul(*(c for c, _ in halves))
            out = self.scale(
                front, reduce(self.matmul, [b for _, a in halves for b in self._chain(a)])
            )
        elif not flip or core.ndim != 2 or core in self.symmetric or core.op == "eye":
            out = core
        else:
            out = self.make("transpose", (core,), (core.shape[1], core.shape[0]))
        return self.scale(coefficient, out)

    def _chain(self, array: Array) -> list[Array]:
        """Factors of a product of matrices, in order."""
        if array.op != "matmul" or any(a.ndim != 2 for a in array.args):
            return [array]
        return [b for a in array.args for b in self._chain(a)]

    def is_symmetric(self, array: Array) -> bool:
        """Whether a matrix equals its transpose by its form."""
        return self.normal(array) is self.normal(array, flip=True)

    def symmetrise(self, array: Array) -> Array:
        """(M + M^T) / 2; the array itself where it is symmetric by its form."""
        if self.is_symmetric(array):
            return array
        return self.scale(HALF, self.add(array, self.transpose(array)))

    def total(self, array: Array, axis: int, keepdims: bool = False) -> Array:
        """Sum along an axis; what is constant along it leaves the sum."""
        coefficient, core = self.split(array)
        axis %= core.ndim
        dim = core.shape[axis]
        shape = (*core.shape[:axis], *((ONE,) if keepdims else ()), *core.shape[axis + 1 :])
        if self.is_zero(core):
            return self.full(shape, ZERO)
        if core.op == "full":
            return self.full(shape, coefficient * dim * core.data)
        if dim == 1:
            if keepdims:
                return array
            if core.op == "expand" and core.data == axis:
                return self.scale(coefficient, core.args[0])
            if core.op == "sum" and core.data == (axis, True):
                return self.scale(coefficient, self.total(core.args[0], axis, False))
        if core.op == "multiply" and dim != 1:
            fixed: list[tuple[Array, sp.Expr]] = []
            moving: list[tuple[Array, sp.Expr]] = []
            for base, power in self.factors(core).items():
                own = base.shape[axis - core.ndim] if base.ndim >= core.ndim - axis else ONE
                (fixed if own == 1 else moving).append((base, power))
            if fixed and moving:
                inner = self.spread(
                    self.product(dict(moving)), _without(core.shape, axis, dict(moving), core)
                )
                outer = self.product(dict(fixed))
                done = self.total(inner, axis - core.ndim, keepdims)
                if not keepdims:
                    outer = self.squeeze(outer, axis - core.ndim, core.ndim)
                return self.scale(coefficient, self.multiply(outer, done))
        return self.scale(coefficient, self.make("sum", (core,), shape, (axis, keepdims)))

    def squeeze(self, array: Array, axis: int, ndim: int) -> Array:
        """Drop an axis of size one, counted from the end, if the array reaches that far."""
        return self.total(array, axis) if array.ndim >= -axis else array

    def sum_all(self, array: Array) -> Array:
        for _ in range(array.ndim):
            array = self.total(array, 0)
        return array

    def expand(self, array: Array, axis: int) -> Array:
        """Insert an axis of size one before position `axis`."""
        coefficient, core = self.split(array)
        shape = (*core.shape[:axis], ONE, *core.shape[axis:])
        if core.op == "full":
            return self.full(shape, coefficient * core.data)
        if core.op == "sum" and core.data == (axis, False):
            return self.scale(coefficient, self.total(core.args[0], axis, True))
        return self.scale(coefficient, self.make("expand", (core,), shape, axis))

    def function(self, name: str, array: Array, body: sp.Lambda | None = None) -> Array:
        if body is None:
            body = named(name)
        if is_scalar(array):
            return self.scalar(body(array.data))
        if name == "reciprocal":
            coefficient, core = self.split(array)
            if core.op == "function" and core.data[0] == "reciprocal":
                return self.scale(1 / coefficient, core.args[0])
            return self.scale(
                1 / coefficient, self.make("function", (core,), core.shape, (name, body))
            )
        return self.make("function", (array,), array.shape, (name, body))

    # whole expressions

    def rebuild(self, roots: Iterable[Array], known: Mapping[Array, Array]) -> list[Array]:
        """Expressions built anew with the arrays of `known` in place of their keys."""
        roots = list(roots)
        done: dict[Array, Array] = dict(known)
        for root in roots:
            for array in walk(root):
                if array not in done:
                    done[array] = self.again(array, [done[a] for a in array.args])
                    name = self.names.get(array)
                    if name and done[array] is not array:
                        self.names.setdefault(done[array], name)
        return [done[r] for r in roots]

    def again(self, array: Array, args: Sequence[Array]) -> Array:
        """The node's operation on other arguments."""
        op = array.op
        if op in ("add", "multiply", "matmul", "transpose"):
            return cast(Array, getattr(self, op)(*args))
        if op == "sum":
            return self.total(args[0], *array.data)
        if op == "expand":
            return self.expand(args[0], array.data)
        if op == "function":
            return self.function(array.data[0], args[0], array.data[1])
        if op == "composite":
            return self.make("composite", tuple(args), args[-1].shape, array.data)
        if op == "word":
            return self.word(array.data[0], *args, *given(array))
        if op == "full":
            return self.full(array.shape, array.data)
        return self.make(op, tuple(args), array.shape, array.data)

    def distribute(self, root: Array) -> Array:
        """Products multiplied out over sums."""
        done: dict[Array, list[Array]] = {}
        for array in walk(root):
            parts = [done[a] for a in array.args]
            if array.op == "add":
                done[array] = [self.spread(t, array.shape) for t in parts[0] + parts[1]]
            elif array.op == "multiply":
                done[array] = [self.multiply(s, t) for s in parts[0] for t in parts[1]]
            elif array.op == "sum":
                done[array] = [self.total(t, *array.data) for t in parts[0]]
            else:
                done[array] = [array]
        return self.total_of(done[root])

    def depends(self, root: Array, leaves: Iterable[Array]) -> bool:
        wanted = set(leaves)
        return any(a in wanted for a in walk(root))


def _transposes(array: Array) -> bool:
    """Whether the transpose of a matrix is the same operation on its arguments' transposes."""
    if array.op == "word":
        return WORDS[array.data[0]].transposes
    return array.ndim == 2 and array.op in ("add", "multiply", "function")


def _without(shape: Shape, axis: int, moving: Mapping[Array, Any], core: Array) -> Shape:
    """Shape of the product of the factors that stay in a sum, broadcast along its axis."""
    top = max(a.ndim for a in moving)
    out = [ONE] * max(top, core.ndim - axis)
    for a in moving:
        for k in range(1, a.ndim + 1):
            if a.shape[-k] != 1:
                out[-k] = a.shape[-k]
    return tuple(out)

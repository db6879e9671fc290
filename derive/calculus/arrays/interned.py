"""Keeps each array expression once, in a table of nodes, with scalars in front of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from derive.notation.common.arrays import ONE, Array, Shape

ZERO = sp.Integer(0)
Key = tuple[Any, ...]


@dataclass
class Interned:
    """Interned array expressions; `names` are the names that nodes have in the text."""

    table: dict[Key, Array] = field(default_factory=dict)
    serial: dict[Array, int] = field(default_factory=dict)
    names: dict[Array, str] = field(default_factory=dict)
    symmetric: set[Array] = field(default_factory=set)

    def make(self, op: str, args: tuple[Array, ...], shape: Shape, data: Any = None) -> Array:
        """The one node of this operation; sums and products do not depend on their order."""
        order = tuple(self.serial[a] for a in args)
        if op in ("add", "multiply"):
            order = tuple(sorted(order))
        key = (op, order, shape, data)
        found = self.table.get(key)
        if found is None:
            found = self.table[key] = Array(op, args, shape, data)
            self.serial[found] = len(self.serial)
        return found

    def leaf(self, name: str, shape: Shape, *, symmetric: bool = False) -> Array:
        """A named array that the caller of a kernel gives."""
        out = self.make("leaf", (), shape, name)
        if symmetric:
            self.symmetric.add(out)
        return out

    def full(self, shape: Shape, value: sp.Expr = ONE) -> Array:
        return self.scale(value, self.make("full", (), shape, ONE))

    def scalar(self, value: sp.Expr) -> Array:
        return self.make("full", (), (), sp.sympify(value))

    def eye(self, dim: sp.Expr) -> Array:
        return self.make("eye", (), (dim, dim))

    # scalars in front

    def split(self, array: Array) -> tuple[sp.Expr, Array]:
        """(coefficient, core) with array = coefficient * core."""
        if array.op == "full" and array.shape == ():
            return array.data, self.scalar(ONE)
        if array.op == "multiply" and is_scalar(array.args[0]):
            return array.args[0].data, array.args[1]
        return ONE, array

    def scale(self, coefficient: sp.Expr, array: Array) -> Array:
        own, core = self.split(array)
        coefficient = sp.sympify(coefficient) * own
        if coefficient == 1:
            return core
        if is_scalar(core) or coefficient == 0:
            out = self.scalar(coefficient)
            return out if core.shape == () else self.make("full", (), core.shape, ZERO)
        return self.make("multiply", (self.scalar(coefficient), core), core.shape)

    def is_zero(self, array: Array) -> bool:
        return array.op == "full" and array.data == 0


def is_scalar(array: Array) -> bool:
    return array.op == "full" and array.shape == ()

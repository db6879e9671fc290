"""The words of a velocity field are matrices, averages over tokens, heads, positions, noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy as sp

from derive.errors import DefinitionError, user_place
from derive.notation.common.arrays import (
    Array,
    exact,
    function,
    lift,
    node,
    show_shape,
    x_symbol,
)
from derive.notation.common.names import identifier
from derive.notation.common.scalars import Dim


@dataclass(frozen=True, eq=False)
class Matrix(Array):
    """A declared matrix, vector or stack of matrices; `Q[h]` takes one of a stack."""

    def __getitem__(self, head: Any) -> Array:
        if not isinstance(head, Head):
            raise DefinitionError(
                f"{self.data}[...] takes the head of a sum: "
                f"sum_over(H, lambda h: ... {self.data}[h] ...)"
            )
        if not self.shape or self.shape[0] != head.dim:
            raise DefinitionError(
                f"{self.data} has shape {show_shape(self.shape)}; its first axis is not the heads "
                f"{head.dim}"
            )
        return node("select", (self,), self.shape[1:], head)


@dataclass(frozen=True)
class Head:
    """The bound index of a sum over heads."""

    name: str
    dim: Dim


COMPLEMENTS = {">": "<=", ">=": "<"}  # of a mask, what one less it is


@dataclass(frozen=True, eq=False)
class Lag(Array):
    """The distance s - tau of a query from a key; comparing it makes a window."""

    def _window(self, other: Any, sign: int, relation: str) -> Array:
        if isinstance(other, Array):
            raise DefinitionError("a window compares s - tau with a number: (s - tau <= width)")
        width = exact(other)
        if width == 0:
            return node("mask", (), (), relation)
        x = x_symbol
        return function(sp.Lambda(x, sp.Heaviside(sign * (width - x))), self, "window")

    def __le__(self, other: Any) -> Array:
        return self._window(other, 1, ">=")

    def __lt__(self, other: Any) -> Array:
        return self._window(other, 1, ">")

    def __ge__(self, other: Any) -> Array:
        return self._window(other, -1, "<=")

    def __gt__(self, other: Any) -> Array:
        return self._window(other, -1, "<")


@dataclass(frozen=True)
class Position:
    """The position of a token; comparing two of them makes a mask.

    `either`: the text compares both ways round.  Then "after" is written 1 - "up to", and "from on"
    1 - "before", so that masks that add up to one do so.
    """

    name: str
    either: bool = False

    def _mask(self, other: Any, relation: str) -> Array:
        if not isinstance(other, Position) or other.name == self.name:
            raise DefinitionError("a mask compares the position of the key with that of the query")
        if self.name != "tau":
            relation = {"<=": ">=", "<": ">", ">=": "<=", ">": "<"}[relation]
        if self.either and relation in COMPLEMENTS:
            return 1 - node("mask", (), (), COMPLEMENTS[relation])
        return node("mask", (), (), relation)

    def __sub__(self, other: Any) -> Array:
        """The distance s - tau; a position is the share of tokens before it, in [0, 1]."""
        if not isinstance(other, Position) or other.name == self.name:
            raise DefinitionError("a distance is that of the position of the key from the query's")
        lag = Lag("lag", (), (), None, user_place())
        return lag if self.name == "s" else -lag

    def __le__(self, other: Any) -> Array:
        return self._mask(other, "<=")

    def __lt__(self, other: Any) -> Array:
        return self._mask(other, "<")

    def __ge__(self, other: Any) -> Array:
        return self._mask(other, ">=")

    def __gt__(self, other: Any) -> Array:
        return self._mask(other, ">")


def matrices(**shapes: tuple[Dim, ...]) -> Any:
    """Declare matrices (vectors, stacks): ``Q, V = matrices(Q=(d_k, d), V=(d, d))``, in order."""
    made = []
    for written, shape in shapes.items():
        name = identifier(written, "matrix")
        for size in shape:
            if not isinstance(size, Dim):
                raise DefinitionError(f"matrices: {name} has the size {size!r}, not a dimension")
        made.append(Matrix("constant", (), tuple(shape), name, None))
    return made[0] if len(made) == 1 else tuple(made)


def dot(left: Any, right: Any) -> Array:
    """Inner product <left, right> of two vectors."""
    return left @ right


def average(value: Any, weight: Any) -> Array:
    """Average of the value over the keys, weights normalised: int value w dmu / int w dmu."""
    value, weight = _integrand("average", value, weight)
    return node("average", (value, weight), value.shape)


def integral(value: Any, weight: Any = 1) -> Array:
    """Integral of value times weight over the keys, not normalised: int value w dmu."""
    value, weight = _integrand("integral", value, weight)
    return node("integral", (value, weight), value.shape)


def bistochastic(kernel: Any) -> Array:
    """The scaling k(x, y) a(x) b(y) of a positive kernel, with marginals one."""
    kernel = lift(kernel)
    _scalar("bistochastic", "kernel", kernel)
    return node("bistochastic", (kernel,), ())


def sum_over(dim: Dim, term: Callable[[Any], Any]) -> Array:
    """Sum of term(h) over the heads h = 1 ... H."""
    if not isinstance(dim, Dim):
        raise DefinitionError(f"sum_over takes a declared dimension, got {dim!r}")
    head = Head(f"head_{dim.name}", dim)
    inside = lift(term(head))
    return node("sum_over", (inside,), inside.shape, head)


def noise(factor: Any) -> Array:
    """Additive noise factor dB: adds factor factor^T to the rate of the covariance."""
    factor = lift(factor)
    if factor.ndim != 2:
        raise DefinitionError("noise takes a matrix G; its covariance rate is G G^T")
    return node("noise", (factor,), factor.shape[:1])


def _integrand(word: str, value: Any, weight: Any) -> tuple[Array, Array]:
    value, weight = lift(value), lift(weight)
    _scalar(word, "weight", weight)
    if value.ndim > 1:
        raise DefinitionError(f"{word} takes a vector or a number as its value")
    return value, weight


def _scalar(word: str, what: str, array: Array) -> None:
    if array.ndim:
        raise DefinitionError(
            f"{word} takes a {what} that is a number for each pair, got shape "
            f"{show_shape(array.shape)}"
        )

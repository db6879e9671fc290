"""Keeps numbers and vectors for each pair of points as arrays of at most two axes.

A number for each pair of a query and a key is an array (n, n_k); a vector for each pair is a sum
of (number for each pair) * (vector of one point).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import overload

import sympy as sp

from derive.notation.common.arrays import Array, matmul, multiply, node, total, transpose


@dataclass(frozen=True)
class Number:
    """A number: of no point (), of each query "q", of each key "k", or of each pair "qk"."""

    array: Array
    of: str


@dataclass(frozen=True)
class Term:
    """front * base @ right: the vector `base` of each query, key or none, through a matrix."""

    front: Number | None
    base: Array
    of: str
    right: Array | None = None

    @property
    def vectors(self) -> Array:
        return self.base if self.right is None else matmul(self.base, self.right)


Vector = tuple[Term, ...]
Value = Number | Vector | Array  # an `Array` is a matrix of no point


def column(number: Number) -> Array:
    """Ready to multiply rows of queries."""
    if number.of == "":
        return number.array
    return node("expand", (number.array,), (number.array.shape[0], sp.Integer(1)), 1)


def _joined(a: Number, b: Number) -> tuple[Array, Array, str]:
    """Two numbers as arrays that broadcast together."""
    of = "".join(s for s in "qk" if s in a.of + b.of)
    left, right = (column(v) if of == "qk" and v.of == "q" else v.array for v in (a, b))
    return left, right, of


@overload
def times(a: Number, b: Number | None) -> Number: ...
@overload
def times(a: Number | None, b: Number) -> Number: ...
@overload
def times(a: Number | None, b: Number | None) -> Number | None: ...
def times(a: Number | None, b: Number | None) -> Number | None:
    """a * b; None is one."""
    if a is None or b is None:
        return a or b
    left, right, of = _joined(a, b)
    return Number(multiply(left, right), of)


def plus(a: Number, b: Number) -> Number:
    left, right, of = _joined(a, b)
    return Number(left + right, of)


def fixed(array: Array) -> Value:
    """A constant: a matrix, a vector or a number."""
    if array.ndim == 2:
        return array
    return (Term(None, array, ""),) if array.ndim else Number(array, "")


def is_one(number: Number) -> bool:
    return number.array.op == "full" and number.array.shape == () and number.array.data == 1


def through(term: Term, matrix: Array) -> Term:
    right = matrix if term.right is None else matmul(term.right, matrix)
    return replace(term, right=right)


def inner(s: Term, t: Term) -> Number:
    """<s, t> for each pair."""
    front = times(s.front, t.front)
    if s.of == "k" and t.of == "q":
        s, t = t, s
    a, b = s.vectors, t.vectors
    if s.of == "q" and t.of == "k":
        own = Number(matmul(a, transpose(b)), "qk")
    elif s.of == t.of and s.of:
        own = Number(total(multiply(a, b), -1, False), s.of)
    elif s.of:
        own = Number(matmul(a, b), s.of)
    else:
        own = Number(matmul(b, a), t.of)
    return times(front, own)

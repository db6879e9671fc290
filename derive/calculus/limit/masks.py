"""Matrices of given numbers in a definition, and softmax weights that they mask."""

from __future__ import annotations

from functools import reduce

from derive.calculus.index.factors import Tensor
from derive.notation.common.arrays import Array, add, function, multiply


def constant_tensor(array: Array) -> Tensor:
    """The tensor of a base pattern, or of given numbers."""
    kind = "pattern" if array.data.rows else "constant"
    return Tensor(array.data.name, array.shape, kind, meaning=array.data)


def masks(argument: Array) -> tuple[list[Array], list[Array]]:
    """Base patterns whose logarithm is a summand of the argument, and the other summands."""
    if argument.op == "add":
        left, right = (masks(a) for a in argument.args)
        return left[0] + right[0], left[1] + right[1]
    inner = argument.args[0] if argument.op == "function" else None
    if inner is not None and argument.data[0] == "log" and inner.op == "constant":
        return [inner], []
    return [], [argument]


def weighted(patterns: list[Array], others: list[Array], array: Array) -> Array:
    """exp(y + log p) = p exp(y)."""
    out = reduce(multiply, patterns)
    if not others:
        return out
    return multiply(out, function(array.data[1], reduce(add, others), "exp"))

"""A reduced chain with its functions cut to the orders that the limit needs.

Input: the graph of a step.  Output: the same graph with every function of a small argument
replaced by its Taylor polynomial, products cut at the second order.

A step must reproduce the SDE, not the network: a softmax that saturates in a long step hides an
explosion, its polynomial does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import sympy as sp

from derive.notation.common.arrays import (
    Array,
    Shape,
    add,
    lift,
    matmul,
    multiply,
    node,
    scale,
    total,
    transpose,
    walk,
)

ORDER = 2
Graded = dict[int, Array]


def truncated(root: Array, order: Callable[[Array], int]) -> Array:
    """The graph with its nonlinear parts expanded to second order in their small arguments.

    `order(array)`: the power of eps of an array without functions in it.  A nonlinear part is an
    entrywise expression with functions in it (a whole softmax, say).
    Products of matrices are left alone, so that V' stays a sum of squares.
    """
    nonlinear = {a for a in walk(root) if _has_function(a)}
    whole: dict[Array, Array] = {}
    graded: dict[Array, Graded] = {}

    def polynomial(array: Array) -> Graded:
        if array not in graded:
            leaf = array not in nonlinear and array.op not in ("add", "sum")
            whole_leaf = leaf and not _entrywise(array)
            if whole_leaf:
                graded[array] = {order(array): array}
            else:
                graded[array] = _series(array, [polynomial(a) for a in array.args])
        return graded[array]

    def rebuilt(array: Array) -> Array:
        if array not in nonlinear:
            return array
        if array not in whole:
            if _entrywise(array):
                whole[array] = _sum(polynomial(array))
            else:
                args = tuple(rebuilt(a) for a in array.args)
                whole[array] = replace(array, args=args)
        return whole[array]

    return rebuilt(root)


def _has_function(array: Array) -> bool:
    return any(a.op == "function" for a in walk(array))


def _entrywise(array: Array) -> bool:
    """Functions, and products of arrays entry by entry (a quotient, say)."""
    product = array.op == "multiply" and array.args[0].op != "full"
    return product or array.op in ("function", "composite")


def _series(array: Array, args: list[Graded]) -> Graded:
    if array.op == "add":
        out = dict(args[0])
        for grade, value in args[1].items():
            out[grade] = add(out[grade], value) if grade in out else value
        return out
    if array.op in ("multiply", "matmul"):
        join = multiply if array.op == "multiply" else matmul
        return _product(args[0], args[1], join)
    if array.op == "transpose":
        return {g: transpose(v) for g, v in args[0].items()}
    if array.op == "sum":
        shape = array.args[0].shape
        return {g: total(_spread(v, shape), *array.data) for g, v in args[0].items()}
    if array.op == "composite":
        return args[1]
    if array.op == "function":
        return _function(array, args[0])
    return {0: array}


def _product(left: Graded, right: Graded, join) -> Graded:  # type: ignore[no-untyped-def]
    out: Graded = {}
    for p, x in left.items():
        for q, y in right.items():
            if p + q <= ORDER:
                value = join(x, y)
                out[p + q] = add(out[p + q], value) if p + q in out else value
    return out


def _function(array: Array, argument: Graded) -> Graded:
    _, body = array.data
    (x,) = body.variables
    start, rest = _start(argument)
    derivatives = [
        (sp.diff(body.expr, x, k) if k else body.expr).xreplace({x: start}) / sp.factorial(k)
        for k in range(ORDER + 1)
    ]
    out: Graded = {0: lift(derivatives[0])}
    power: Graded = {0: lift(sp.Integer(1))}
    for coefficient in derivatives[1:]:
        power = _product(power, rest, multiply)
        if coefficient != 0:
            for grade, value in power.items():
                term = scale(coefficient, value)
                out[grade] = add(out[grade], term) if grade in out else term
    return {g: v for g, v in out.items() if g or derivatives[0] != 0 or len(out) == 1}


def _spread(array: Array, shape: Shape) -> Array:
    """A number stands for an array of its value wherever it is summed."""
    return array if array.shape == shape else node("full", (), shape, _number(array))


def _start(argument: Graded) -> tuple[sp.Expr, Graded]:
    """Constant part and the rest of an argument."""
    constant = sp.Integer(0)
    for part in _terms(argument.get(0)):
        value = _number(part)
        assert value is not None, "the expansion has refused arguments of order one"
        constant += value
    return constant, {g: v for g, v in argument.items() if g > 0}


def _terms(array: Array | None) -> list[Array]:
    if array is None:
        return []
    if array.op == "add":
        return [t for a in array.args for t in _terms(a)]
    return [array]


def _number(array: Array) -> sp.Expr | None:
    """The value of a constant array, if it is one number throughout."""
    if array.op == "full":
        return array.data
    if array.op == "add":
        values = [_number(a) for a in array.args]
        return None if None in values else sp.Add(*values)
    if array.op == "multiply":
        values = [_number(a) for a in array.args]
        return None if None in values else sp.Mul(*values)
    if array.op == "sum":
        inner = _number(array.args[0])
        size = array.args[0].shape[array.data[0]] if array.args[0].ndim else sp.Integer(1)
        return None if inner is None else inner * size
    if array.op == "transpose":
        return _number(array.args[0])
    return None


def _sum(graded: Graded) -> Array:
    values = [graded[g] for g in sorted(graded)]
    out = values[0]
    for value in values[1:]:
        out = add(out, value)
    return out

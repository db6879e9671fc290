"""Brings a velocity into the words that the calculus reads: what is equal is written once, one way.

Input: the graph of a definition.  Output: the graph of the same velocity, in which
- equal nodes are one node;
- a power, a root or a quotient of exponentials is an exponential: exp(a) / exp(b) is
  exp(a) exp(-b), sqrt(exp(a)) is exp(a / 2), log(exp(a)) is a;
- a quotient of integrals whose denominator is a factor of the numerator is an average:
  int v w dmu / int w dmu;
- a product of masks is one mask where one of them says all: (tau <= s) (tau < s) is (tau < s).

Everything here holds for all tokens and laws; nothing is averaged.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import sympy as sp

from derive.notation.common.arrays import (
    Array,
    function,
    lift,
    matmul,
    multiply,
    node,
    scale,
    x_symbol,
)

#: what two masks on one pair make, where it is one of them or nothing
PRODUCTS = {
    frozenset(("<=", "<")): "<",
    frozenset((">=", ">")): ">",
    frozenset(("<", ">=")): "",
    frozenset((">", "<=")): "",
    frozenset(("<", ">")): "",
}


def normal_form(root: Array) -> Array:
    """The same velocity."""
    return _Writer().of(root)


class _Writer:
    def __init__(self) -> None:
        self.done: dict[int, Array] = {}
        self.known: dict[tuple[Any, ...], Array] = {}
        self.kept: list[Array] = []  # what `done` knows by its number stays alive

    def of(self, array: Array) -> Array:
        if id(array) not in self.done:
            args = tuple(self.of(a) for a in array.args)
            same = all(a is b for a, b in zip(args, array.args, strict=True))
            new = array if same else Array(array.op, args, array.shape, array.data, array.place)
            written = self._written(self._one(new))
            self.done[id(array)] = self.done[id(written)] = written
            self.kept += [array, written]
        return self.done[id(array)]

    def _one(self, array: Array) -> Array:
        """The node that stands for all that are equal to this one."""
        key = (array.op, tuple(map(id, array.args)), array.shape, array.data)
        return self.known.setdefault(key, array)

    def _written(self, array: Array) -> Array:
        rules = {"function": [_power_of_exponentials], "multiply": [_average, _mask]}
        for rule in rules.get(array.op, ()):
            found = rule(array)
            if found is not None:
                return self.of(found)
        return array


def _factors(array: Array) -> list[Array]:
    """What is multiplied, numbers that are one left out."""
    if array.op == "multiply":
        return [f for a in array.args for f in _factors(a)]
    return [] if array.op == "full" and array.data == 1 else [array]


def _product(factors: list[Array]) -> Array:
    return reduce(multiply, factors) if factors else lift(sp.Integer(1))


def _power_of_exponentials(array: Array) -> Array | None:
    """(exp(a) b)^p is exp(p a) b^p, for exp(a) is positive; log(exp(a)) is a."""
    name, body = array.data
    (inside,) = array.args
    if name == "log":
        return inside.args[0] if _is_exponential(inside) else None
    x = x_symbol
    value = body(x)
    if value == x or not (value.is_Pow and value.base == x) or value.exp.has(x):
        return None
    factors = _factors(inside)
    exponents = [f.args[0] for f in factors if _is_exponential(f)]
    if not exponents or any(f.shape != array.shape for f in factors if _is_exponential(f)):
        return None
    out = [function(sp.Lambda(x, sp.exp(x)), scale(value.exp, a), "exp") for a in exponents]
    rest = [f for f in factors if not _is_exponential(f)]
    if rest:
        out.append(function(body, _product(rest), name))
    return _product(out)


def _is_exponential(array: Array) -> bool:
    return array.op == "function" and array.data[0] == "exp"


def _average(array: Array) -> Array | None:
    """A product with int v w dmu and 1 / int w dmu in it, by the average of v under w."""
    factors = _factors(array)
    for below in factors:
        if not (below.op == "function" and below.data[0] == "reciprocal"):
            continue
        (bottom,) = below.args
        weight = _integrand(bottom)
        if weight is None or bottom.shape:
            continue
        for above in factors:
            top = _integrand(above)
            if top is None or above is below:
                continue
            value = _without(top, weight)
            if value is not None:
                args = value, _product(weight)
                over = Array("average", args, value.shape, None, above.place)
                return _product([over if f is above else f for f in factors if f is not below])
    return None


def _integrand(array: Array) -> list[Array] | None:
    """The factors of what is integrated over the keys; a matrix before the integral goes inside."""
    if array.op == "integral" and array.args[1].op != "bistochastic":
        return [*_factors(array.args[0]), *_factors(array.args[1])]
    if array.op == "matmul" and array.args[0].ndim == 2 and array.args[1].op == "integral":
        inner = _integrand(array.args[1])
        if inner is not None:
            vectors = [n for n, f in enumerate(inner) if f.ndim]
            if len(vectors) == 1:
                (n,) = vectors
                return [*inner[:n], matmul(array.args[0], inner[n]), *inner[n + 1 :]]
    return None


def _without(factors: list[Array], weight: list[Array]) -> Array | None:
    """The product of the factors but those of the weight; None if not all of them are there."""
    left = list(factors)
    for w in weight:
        if w not in left or (w.op == "full" and w.data == 0):
            return None
        left.remove(w)
    return _product(left)


def _mask(array: Array) -> Array | None:
    """Masks in a product, joined."""
    factors = _factors(array)
    masks = list(dict.fromkeys(f.data for f in factors if f.op == "mask"))
    joined = {PRODUCTS.get(frozenset((a, b))) for a in masks for b in masks} - {None}
    found = [f for f in factors if f.op == "mask"]
    if len(found) == len(masks) and not joined:
        return None
    rest = [f for f in factors if f.op != "mask"]
    if "" in joined:
        return scale(sp.Integer(0), _product(rest))
    left = [m for m in masks if not any(m != k and m in pair for pair, k in PRODUCTS.items()
                                        if k in joined and pair <= set(masks))]  # fmt: skip
    return _product([*rest, *(node("mask", (), (), m) for m in left)])


__all__ = ["normal_form"]

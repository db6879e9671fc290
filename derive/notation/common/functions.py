"""The words that every definition may use: weights, special matrices, elementwise functions.

Each word has a second meaning on plain numbers and arrays (see `derive.notation.common.numeric`),
so that one text serves the derivation and the simulation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import sympy as sp

from derive.errors import DefinitionError
from derive.notation.common.arrays import (
    Array,
    composite,
    exact,
    function,
    lift,
    multiply,
    node,
    reciprocal,
    show_shape,
    total,
    x_symbol,
)
from derive.notation.common.elementwise import named
from derive.notation.common.scalars import Dim, GaussianMean, Share, as_dim

drawn = itertools.count()  # weights are told apart, and ordered, by when the text asks for them


def gaussian(*shape: sp.Expr) -> Array:
    """A fresh weight with iid N(0, 1) entries, drawn anew in every layer."""
    return node("gaussian", (), _dims("gaussian", shape), next(drawn))


def eye(dim: sp.Expr) -> Array:
    """The identity matrix."""
    return node("eye", (), _dims("eye", (dim,)) * 2)


def ones(*shape: sp.Expr) -> Array:
    """An array of ones."""
    return node("full", (), _dims("ones", shape), sp.Integer(1))


def concatenate(heads: Any) -> Array:
    """H heads (H, m, n / H) side by side (m, n): unit i of head h is column h (n / H) + i."""
    heads = lift(heads)
    if heads.ndim != 3:
        raise DefinitionError(
            f"concatenate takes heads of shape (H, m, n / H), got {show_shape(heads.shape)}"
        )
    count, rows, columns = heads.shape
    if not isinstance(columns, Share) or columns.count != count:
        raise DefinitionError(
            f"concatenate: heads of shape {show_shape(heads.shape)} are no parts of a declared "
            f"dimension; draw values of n / {count} columns: gaussian({count}, n, n / {count})"
        )
    return node("concatenate", (heads,), (rows, columns.whole))


def softmax(array: Any) -> Array:
    """exp, normalised to sum one along the last axis."""
    array = lift(array)
    if not array.ndim:
        raise DefinitionError("softmax needs at least one axis")
    weight = exp(array)
    meaning = multiply(weight, reciprocal(total(weight, -1, keepdims=True)))
    return composite("softmax", array, meaning)


def _elementwise(name: str, doc: str, body: sp.Expr | None = None) -> Callable[[Any], Any]:
    rule = named(name) if body is None else sp.Lambda(x_symbol, body)

    def apply(value: Any) -> Any:
        if isinstance(value, Array):
            return function(rule, value, name)
        return rule(exact(value))

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = f"{doc}, entry by entry."
    return apply


exp = _elementwise("exp", "The exponential")
log = _elementwise("log", "The natural logarithm")
sqrt = _elementwise("sqrt", "The square root")
tanh = _elementwise("tanh", "The hyperbolic tangent")
sin = _elementwise("sin", "The sine")
cos = _elementwise("cos", "The cosine")
erf = _elementwise("erf", "The error function")
sigmoid = _elementwise("sigmoid", "1/(1 + exp(-x))")
relu = _elementwise("relu", "max(x, 0)")
gelu = _elementwise(
    "gelu",
    "x Phi(x), Phi the normal law",
    x_symbol * (1 + sp.erf(x_symbol / sp.sqrt(2))) / 2,
)
silu = _elementwise("silu", "x / (1 + exp(-x))", x_symbol / (1 + sp.exp(-x_symbol)))


def gaussian_mean(function: Any) -> sp.Expr:
    """E f(g) for one standard normal g: ``1 / gaussian_mean(lambda g: (s * tanh(g / s))**2)``."""
    g = sp.Symbol("g", real=True)
    return GaussianMean(g, exact(function(g)))


def _dims(caller: str, shape: tuple[Any, ...]) -> tuple[sp.Expr, ...]:
    out = tuple(as_dim(size) for size in shape)
    for size in out:
        if not isinstance(size, Dim):
            raise DefinitionError(
                f"{caller} takes declared dimensions and their quotients, got {size!r}; declare "
                'it: k = dims("k: meaning")'
            )
    return out

"""The words that every definition may use: weights, special matrices, elementwise functions.

Each word has a second meaning on plain numbers and arrays (see `derive.notation.common.numeric`),
so that one text serves the derivation and the simulation.
"""

from __future__ import annotations

import itertools
from typing import Any

import sympy as sp

from derive.errors import DefinitionError
from derive.notation.common.arrays import Array, exact, node
from derive.notation.common.scalars import Dim, GaussianMean, as_dim
from derive.notation.common.words.word import applied

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


concatenate = applied("concatenate")
softmax = applied("softmax")
exp = applied("exp")
log = applied("log")
sqrt = applied("sqrt")
tanh = applied("tanh")
sin = applied("sin")
cos = applied("cos")
arctan = applied("arctan")
erf = applied("erf")
sigmoid = applied("sigmoid")
relu = applied("relu")
gelu = applied("gelu")
silu = applied("silu")


def gaussian_mean(function: Any) -> sp.Expr:
    """E f(g) for one standard normal g: ``1 / gaussian_mean(lambda g: (s * tanh(g / s))**2)``."""
    g = sp.Symbol("g", real=True)
    return GaussianMean(g, exact(function(g)))


def _dims(caller: str, shape: tuple[Any, ...]) -> tuple[sp.Expr, ...]:
    out = tuple(as_dim(size) for size in shape)
    for size in out:
        if not isinstance(size, Dim):
            raise DefinitionError(
                f"{caller} takes declared dimensions and their quotients, got {size!r}; "
                + (
                    "a column of one is (X * gaussian(n)).sum(-1, keepdims=True)"
                    if size == 1
                    else 'declare it: k = dims("k: meaning")'
                )
            )
    return out

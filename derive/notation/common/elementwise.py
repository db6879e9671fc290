"""Elementwise functions have one SymPy body for each name, and words for those of SymPy.

One body for one name, so that the same function of the same array is the same value wherever it
arises: in a definition or as somebody's derivative.
"""

from __future__ import annotations

import sympy as sp

from derive.notation.common.arrays import x_symbol

BODIES: dict[str, sp.Expr] = {
    "exp": sp.exp(x_symbol),
    "log": sp.log(x_symbol),
    "sqrt": sp.sqrt(x_symbol),
    "tanh": sp.tanh(x_symbol),
    "sin": sp.sin(x_symbol),
    "cos": sp.cos(x_symbol),
    "erf": sp.erf(x_symbol),
    "sigmoid": 1 / (1 + sp.exp(-x_symbol)),
    "relu": sp.Max(x_symbol, 0),
    "reciprocal": 1 / x_symbol,
    "abs": sp.Abs(x_symbol),
    "sign": sp.sign(x_symbol),
    "heaviside": sp.Heaviside(x_symbol, 0),
}

#: SymPy's functions that are not smooth
KINKED = (sp.Max, sp.Min, sp.Abs, sp.sign, sp.Heaviside, sp.Piecewise)

#: SymPy's functions that have a word
WORDS: dict[type, str] = {
    sp.exp: "exp",
    sp.log: "log",
    sp.tanh: "tanh",
    sp.sin: "sin",
    sp.cos: "cos",
    sp.erf: "erf",
    sp.Abs: "abs",
    sp.sign: "sign",
    sp.Heaviside: "heaviside",
}


def named(name: str) -> sp.Lambda:
    """The function with this name, of one variable."""
    return sp.Lambda(x_symbol, BODIES[name])

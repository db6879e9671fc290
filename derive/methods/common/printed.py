"""Expressions read back from the words in which a fact prints them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import sympy as sp

_WORD = re.compile(r"[^\W\d]\w*+(?!\()")


def parsed(text: str, symbols: Iterable[sp.Symbol]) -> sp.Expr:
    """The expression that a printed text stands for.

    Names of the definition are replaced before SymPy reads it: they may be called like one of its
    words (Integer, Float, S), and what is followed by a bracket is a function.
    """
    held = {s.name: sp.Symbol(f"held_{k}") for k, s in enumerate(symbols)}
    back = dict(zip(held.values(), symbols, strict=True))
    plain = _WORD.sub(lambda m: str(held.get(m[0], m[0])), text)
    return sp.sympify(plain).xreplace(back)

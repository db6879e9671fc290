"""Numbers, tensors and indices by their names in LaTeX."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import sympy as sp
from sympy.core.alphabets import greeks

GREEK = frozenset(greeks) - {"lamda", "omicron"}


def number(coefficient: sp.Expr, names: Mapping[sp.Symbol, str] = MappingProxyType({})) -> str:
    """`names`: of symbols that stand for something else."""
    return str(sp.latex(coefficient, symbol_names=_signed_names(coefficient) | {**names}))


def _signed_names(coefficient: sp.Expr) -> dict[sp.Symbol, str]:
    """c_plus and c_minus by the signs they are named after."""
    signs = {"plus": "+", "minus": "-"}
    parts = {s: s.name.rpartition("_") for s in coefficient.free_symbols}
    return {s: f"{h}_{{{signs[t]}}}" for s, (h, _, t) in parts.items() if h and t in signs}


def tensor_name(name: str) -> str:
    if name == "delta":
        return r"\delta"
    head, _, tail = name.partition("_")
    if len(head) > 1 and head.isalpha():
        head = rf"\mathrm{{{head}}}"
    return f"{head}^{{({tail})}}" if tail else head


def word_name(name: str) -> str:
    """A tensor's name in products of matrices: subscripts alone, a superscript is a transpose's."""
    head, _, tail = name.partition("_")
    if head in GREEK:
        base = "\\" + head
    else:
        base = rf"\mathrm{{{head}}}" if len(head) > 1 and head.isalpha() else head
    if not tail:
        return base
    below = tail if len(tail) == 1 or tail.isdigit() else rf"\mathrm{{{tail}}}".replace("_", r"\_")
    return f"{base}_{{{below}}}"


def index_name(name: str) -> str:
    return f"\\{name}" if name in GREEK else name

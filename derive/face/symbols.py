"""Symbols of a definition as a user of SymPy writes them, and what an object is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Tensor
from derive.notation.common.arrays import Array, walk
from derive.notation.common.scalars import Dim, Opaque, Param, Share


def plain(expression: sp.Expr, sizes: Mapping[str, int] | None = None) -> sp.Expr:
    """Declared symbols as plain ones of equal name and assumptions; dimensions as their sizes."""
    known = sizes or {}
    out = sp.sympify(expression)
    while opaque := out.atoms(Opaque):
        out = out.xreplace({s: s.value for s in opaque})
    names: dict[sp.Symbol, sp.Expr] = {}
    for symbol in out.free_symbols:
        if isinstance(symbol, Share):
            names[symbol] = plain(symbol.whole / symbol.count, known)
        elif isinstance(symbol, Dim) and symbol.name in known:
            names[symbol] = sp.Integer(known[symbol.name])
        elif isinstance(symbol, (Dim, Param)):
            names[symbol] = sp.Symbol(symbol.name, **symbol.assumptions0)
    return out.xreplace(names)


def named(name: str, at: tuple[int, ...]) -> sp.Symbol:
    """V_12; with commas where an index has two digits."""
    joint = "" if all(i < 9 for i in at) else ","
    below = joint.join(str(i + 1) for i in at)
    return sp.Symbol(f"{name}_{below}" if below else name, real=True)


def gaussian_integral(function: Any, mu: sp.Expr, variance: sp.Expr) -> sp.Expr:
    """E f(s), s ~ N(mu, v): an integral that SymPy holds and does not take."""
    z = sp.Symbol("z", real=True)
    density = sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)
    return sp.Integral(plain(function(mu + sp.sqrt(variance) * z)) * density, (z, -sp.oo, sp.oo))


def symbols_in(thing: Any, _seen: set[int] | None = None) -> set[sp.Symbol]:
    """Every symbol that a coefficient, a tensor's meaning or a graph is made of."""
    seen = set() if _seen is None else _seen
    if id(thing) in seen or thing is None or isinstance(thing, (str, int, float)):
        return set()
    seen.add(id(thing))
    if isinstance(thing, Opaque):
        return {thing, *symbols_in(thing.value, seen)}
    if isinstance(thing, sp.Basic):
        return set().union(*(symbols_in(s, seen) if isinstance(s, Opaque) else {s}
                             for s in thing.free_symbols))  # fmt: skip
    if isinstance(thing, Expression):
        parts: list[Any] = [c for c, _ in thing.terms]
        return symbols_in([*parts, *thing.tensors()], seen)
    if isinstance(thing, Tensor):
        return symbols_in(thing.meaning, seen)
    if isinstance(thing, Array):
        data = [a.data for a in walk(thing) if a.op in ("full", "function", "word")]
        return symbols_in(data, seen)
    if isinstance(thing, (tuple, list)):
        return set().union(*(symbols_in(t, seen) for t in thing))
    if is_dataclass(thing):
        return symbols_in([getattr(thing, f.name) for f in fields(thing)], seen)
    return set()

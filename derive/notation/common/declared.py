"""Reads what the function of a definition and the file around it declare.

A file's declarations all belong to its models.  A session or a notebook holds those of other
models too: of its names, only what a definition reads counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any, TypeVar

import sympy as sp

from derive.errors import Place
from derive.notation.common.arrays import Array, walk
from derive.notation.common.scalars import Dim, Param

Symbol = TypeVar("Symbol", Dim, Param)


def place_of(function: Callable[..., Any]) -> Place:
    code = function.__code__
    return Place(code.co_filename, code.co_firstlineno)


def symbols_of(
    function: Callable[..., Any], kind: type[Symbol], said: str = ""
) -> dict[str, Symbol]:
    """Dimensions or parameters that are global names of the file, by their own names.

    `said`: the decorator's own words, which name dimensions too.
    """
    values = globals_of(function, said)
    if "__file__" not in function.__globals__:
        values = [s for v in values for s in _symbols(v)]
    return {v.name: v for v in values if isinstance(v, kind)}


def globals_of(function: Callable[..., Any], said: str = "") -> list[Any]:
    """Values of the global names of a definition's file, or of those that it reads in a session."""
    there = function.__globals__
    if "__file__" in there:
        return list(there.values())
    read = dict.fromkeys(re.findall(r"\w+", said))
    pending, seen = [function.__code__], set()
    while pending:
        code = pending.pop()
        if code in seen:
            continue
        seen.add(code)
        read |= dict.fromkeys(code.co_names)
        pending += [c for c in code.co_consts if isinstance(c, CodeType)]
        for name in code.co_names:
            inner = there.get(name)
            inner = getattr(inner, "function", inner)  # another definition
            if isinstance(inner, FunctionType) and inner.__globals__ is there:
                pending.append(inner.__code__)
    return [value for name, value in there.items() if name in read]


def _symbols(value: Any) -> Iterator[sp.Symbol]:
    """What a value is made of, in order of name."""
    found: set[sp.Symbol] = set()
    if isinstance(value, Array):
        for array in walk(value):
            found |= {s for d in array.shape for s in d.free_symbols}
            if array.op == "full":
                found |= array.data.free_symbols
    elif isinstance(value, sp.Basic):
        found |= value.free_symbols
    yield from sorted(found, key=lambda s: s.name)


def doc_of(function: Callable[..., Any]) -> str:
    """The text's own words on itself, or those of its file; a session's are not its author's."""
    home = function.__globals__
    typed = home.get("__name__") == "__main__" and "__file__" not in home
    return (function.__doc__ or ("" if typed else home.get("__doc__")) or "").strip()

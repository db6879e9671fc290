"""Reads what the function of a definition and the file around it declare.

A file, a session or a notebook holds declarations of several models: of its names, those count
that a definition reads, itself or through the functions that it calls.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from dis import get_instructions
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, TypeVar

import sympy as sp

from derive.errors import Place, is_user_file
from derive.notation.common.arrays import Array, walk
from derive.notation.common.scalars import Dim, Param

Symbol = TypeVar("Symbol", Dim, Param)
ANYTHING = ("globals", "eval", "exec")  # read names that no text shows
PLAIN = (str, bytes, int, float, complex, type(None), type, BuiltinFunctionType)


def place_of(function: Callable[..., Any]) -> Place:
    code = function.__code__
    return Place(code.co_filename, code.co_firstlineno)


def symbols_of(
    function: Callable[..., Any], kind: type[Symbol], said: str = ""
) -> dict[str, Symbol]:
    """Dimensions or parameters that a definition reads, by their own names.

    `said`: the decorator's own words, which name dimensions too.
    """
    values = [s for v in globals_of(function, said) for s in _symbols(v)]
    return {v.name: v for v in values if isinstance(v, kind)}


def globals_of(function: Callable[..., Any], said: str = "") -> list[Any]:
    """What a definition reads of the names around it, in the order of its file.

    All of the file where that is not seen: an object may hold anything, and a helper that stands
    further down is not bound yet.
    """
    there = function.__globals__
    code = function.__code__
    reading = _Reading(code.co_filename)
    own = (*re.findall(r"\w+", said), *code.co_varnames[: code.co_argcount])
    reading.names([word for word in own if word in there], there)
    reading.text(function)
    if reading.hidden and "__file__" in there:
        return list(there.values())
    first = {id(v): v for v in there.values() if id(v) in reading.found}
    return list((first | reading.found).values())


@dataclass
class _Reading:
    """Values that texts read, by identity; `hidden`: some may hold what is not seen.

    `file`: the definition's, whose helpers are the user's whatever it is called.
    """

    file: str
    found: dict[int, Any] = field(default_factory=dict)
    hidden: bool = False

    def text(self, function: Callable[..., Any]) -> None:
        assert isinstance(function, FunctionType)
        pending = [function.__code__]
        while pending:
            code = pending.pop()
            read = [i.argval for i in get_instructions(code) if i.opname == "LOAD_GLOBAL"]
            self.names(read, function.__globals__, code.co_names)
            pending += [c for c in code.co_consts if isinstance(c, CodeType)]
        cells = function.__closure__ or ()
        kept = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        for value in (*kept, *(c.cell_contents for c in cells)):
            self.value(value, ())

    def names(
        self, names: Iterable[str], there: Mapping[str, Any], more: tuple[str, ...] = ()
    ) -> None:
        """`more`: names that may be read of a file that is one of the values."""
        for name in names:
            if name in there:
                self.value(there[name], more)
            elif name in ANYTHING or not hasattr(builtins, name):  # bound further down
                self.hidden = True

    def value(self, value: Any, more: tuple[str, ...]) -> None:
        if id(value) in self.found:
            return
        self.found[id(value)] = value
        inner = getattr(value, "function", value)  # another definition
        if isinstance(inner, FunctionType):
            if inner.__code__.co_filename == self.file or is_user_file(inner.__code__.co_filename):
                self.text(inner)
        elif isinstance(value, ModuleType):
            if is_user_file(getattr(value, "__file__", None) or "<"):
                self.names([n for n in more if hasattr(value, n)], vars(value), more)
        elif isinstance(value, (list, tuple, dict)):
            for part in value.values() if isinstance(value, dict) else value:
                self.value(part, more)
        elif not isinstance(value, (Array, sp.Basic, *PLAIN)):
            self.hidden = True


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

"""Gives the global names of a definition's function numeric meanings, so that it runs on numbers.

The second reading runs the same code.  What the text's file binds gets a numeric meaning: declared
symbols, the words of the notation, numbers of SymPy, and in turn the functions of this file and
of those that it imports.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sympy as sp

from derive.errors import is_user_file
from derive.notation.common.scalars import number

#: exact numbers, where a text takes them from SymPy itself
_EXACT = {"Rational": lambda p, q=1: p / q, "Integer": int, "pi": math.pi, "sqrt": np.sqrt}


def rebound(
    function: Callable[..., Any],
    own: Callable[[Any], Any],
    words: Mapping[str, Any],
    symbols: Mapping[sp.Symbol, float],
) -> Callable[..., Any]:
    """The function with numeric meanings for its global names, defaults and enclosed values.

    `own`: the meaning of what is particular to a kind of definition; it returns any other value
    as it is.  `words`: meanings of the notation's words.  `symbols`: numbers for declared symbols.
    """
    assert isinstance(function, types.FunctionType)
    home = function.__globals__
    homes: dict[int, dict[str, Any]] = {}  # of each file that is read, its names' meanings

    def meaning(value: Any) -> Any:
        found = own(value)
        if found is not value:
            return found
        if isinstance(value, types.ModuleType) and value.__name__ == "derive.notation":
            return types.SimpleNamespace(**{**vars(value), **words})
        if isinstance(value, sp.Expr):
            return number(value, symbols) if value.free_symbols <= set(symbols) else value
        if value is sp.Rational:
            return _EXACT["Rational"]
        if isinstance(value, types.ModuleType) and is_user_file(
            getattr(value, "__file__", None) or "<"
        ):
            beside = _Names()
            beside.__dict__ = names_of(vars(value))
            return beside
        if value is sp:
            return types.SimpleNamespace(**{**vars(sp), **_EXACT})
        if _is_word(value) and value.__name__ in words:
            return words[value.__name__]
        if isinstance(value, types.FunctionType) and (
            value.__globals__ is home or _is_of_a_text(value)
        ):
            return rebuilt(value)
        return value

    def names_of(given: dict[str, Any]) -> dict[str, Any]:
        if id(given) not in homes:
            names = homes[id(given)] = {"abs": words["abs"]}  # as definitions call Python's own
            names |= {name: meaning(value) for name, value in given.items()}
        return homes[id(given)]

    def rebuilt(plain: types.FunctionType) -> types.FunctionType:
        cells = tuple(types.CellType(meaning(c.cell_contents)) for c in plain.__closure__ or ())
        # declared dimensions and parameters may stand as defaults too
        defaults = tuple(meaning(d) for d in plain.__defaults__ or ())
        out = types.FunctionType(
            plain.__code__, names_of(plain.__globals__), plain.__name__, defaults, cells
        )
        out.__kwdefaults__ = {k: meaning(d) for k, d in (plain.__kwdefaults__ or {}).items()}
        return out

    return rebuilt(function)


class _Names:
    """A file of the user's, reached by its name: what it binds has the meanings of this text."""


def _is_of_a_text(function: types.FunctionType) -> bool:
    """Whether a function of another file is written in the notation's words."""
    module = function.__module__ or ""
    ours = module.startswith("derive.") and not module.startswith("derive.theory.")
    return not ours and any(_is_word(v) for v in function.__globals__.values())


def _is_word(value: Any) -> bool:
    """Whether a function is one of the notation's."""
    home = value.__module__ if isinstance(value, types.FunctionType) else None
    return (home or "").startswith("derive.notation.")

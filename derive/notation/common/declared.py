"""Reads what the function of a definition and the file around it declare."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from derive.errors import Place
from derive.notation.common.scalars import Dim, Param

Symbol = TypeVar("Symbol", Dim, Param)


def place_of(function: Callable[..., Any]) -> Place:
    code = function.__code__
    return Place(code.co_filename, code.co_firstlineno)


def symbols_of(function: Callable[..., Any], kind: type[Symbol]) -> dict[str, Symbol]:
    """Dimensions or parameters that are global names of the file, by their own names."""
    return {v.name: v for v in function.__globals__.values() if isinstance(v, kind)}


def doc_of(function: Callable[..., Any]) -> str:
    """The text's own words on itself, or those of its file."""
    home = sys.modules.get(function.__module__, function)
    return (function.__doc__ or home.__doc__ or "").strip()

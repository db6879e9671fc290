"""Modules of the definitions in `odd_closures`, derived and compiled once a session."""

from __future__ import annotations

import sys
import types
from functools import cache
from typing import Any

import odd_closures as odd

from derive.emit.gaussian_closure.module import render
from derive.methods.gaussian_closure.derivation import derive


@cache
def built(name: str) -> tuple[Any, Any]:
    """(derivation, module) of a definition."""
    result = derive(getattr(odd, name))
    module = types.ModuleType(f"_odd_{name}")
    sys.modules[module.__name__] = module
    exec(compile(render(result, name, name), name, "exec"), module.__dict__)
    return result, module

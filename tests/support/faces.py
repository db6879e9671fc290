"""Derivations seen through Python's face, each made once; and models typed into a session."""

from __future__ import annotations

from functools import cache
from typing import Any

import derive
from derive.entry import theory_folder
from derive.face.equations import Equations


@cache
def equations(name: str) -> Equations:
    return derive.derive(name)


def text_of(name: str) -> str:
    return (theory_folder() / f"{name}.py").read_text(encoding="utf-8")


def typed(text: str, name: str, cell: str = "<string>") -> Any:
    """A model typed into a session."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, cell, "exec"), names)
    return names[name]

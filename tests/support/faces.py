"""Derivations seen through Python's face, each made once; and models typed into a session."""

from __future__ import annotations

from functools import cache
from typing import Any

from derivations import derivation

from derive.entry import theory_folder
from derive.face.equations import Equations
from derive.registry import find


@cache
def equations(name: str) -> Equations:
    """As `derive.derive(name)`."""
    found = Equations(find(name), derivation(name))
    found.require_sound()
    return found


def text_of(name: str) -> str:
    return (theory_folder() / f"{name}.py").read_text(encoding="utf-8")


def typed(text: str, name: str, cell: str = "<string>") -> Any:
    """A model typed into a session."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, cell, "exec"), names)
    return names[name]

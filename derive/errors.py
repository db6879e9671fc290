"""What can be wrong with a definition: one exception with a place in the user's file."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_THEORY = os.path.join(_PACKAGE, "theory") + os.sep
_LIBRARIES = os.path.dirname(os.__file__) + os.sep


@dataclass(frozen=True)
class Place:
    """File and line in a definition."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class RequestError(Exception):
    """The request itself is wrong: one message that says what to do."""


class CheckFailed(Exception):
    """A step of a derivation contradicts its own numeric check: what it says is not to be used."""


class DefinitionError(Exception):
    """A definition that is ill-formed, or outside what a method can derive.

    The message says what is wrong and what to do; `place` says where.
    """

    def __init__(self, message: str, place: Place | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.place = place if place is not None else user_place()

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class Refusal(DefinitionError):
    """A well-formed definition outside the reach of its method, with the true reason."""


def user_place() -> Place | None:
    """The innermost frame outside the package itself: a line of the user's definition."""
    frame = sys._getframe(1)
    while frame is not None:
        file = os.path.abspath(frame.f_code.co_filename)
        if frame.f_code.co_filename.startswith("<"):
            frame = frame.f_back  # type: ignore[assignment]
            continue
        ours = file.startswith(_PACKAGE) and not file.startswith(_THEORY)
        if not ours and not file.startswith(_LIBRARIES):
            return Place(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None

"""What can be wrong with a definition: one exception with a place in the user's file."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass
from types import FrameType

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_THEORY = os.path.join(_PACKAGE, "theory") + os.sep
_LIBRARIES = tuple(
    {
        os.path.dirname(os.__file__) + os.sep,
        *(sysconfig.get_paths()[k] + os.sep for k in ("stdlib", "purelib", "platlib")),
    }
)
_COMMAND_LINE = os.path.join(_PACKAGE, "cli.py")

definitions: set[str] = set()  # files that were loaded as such, wherever they lie


@dataclass(frozen=True)
class Place:
    """File and line in a definition."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class _Told(Exception):
    """What is said in one message; a notebook shows that instead of derive's own lines."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class RequestError(_Told):
    """The request itself is wrong: one message that says what to do."""


class CheckFailed(_Told):
    """A step of a derivation contradicts its own numeric check: what it says is not to be used."""


class DefinitionError(_Told):
    """A definition that is ill-formed, or outside what a method can derive.

    The message says what is wrong and what to do; `place` says where.
    """

    def __init__(self, message: str, place: Place | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.place = place if place is not None else user_place()

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class OutOfTime(BaseException):
    """A derivation has used up its time; not an Exception, so that nothing takes it for one."""


class Refusal(DefinitionError):
    """A well-formed definition outside the reach of its method, with the true reason."""


def user_place() -> Place | None:
    """The innermost frame of a definition, or of another file that is neither of the package nor
    of a library; None where the command line alone is on the stack."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if os.path.abspath(file) == _COMMAND_LINE:
            return None
        if is_users(frame):
            return Place(file, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None


def is_users(frame: FrameType) -> bool:
    """Whether a frame runs the user's code; what is generated inside a library shares the name
    "<string>" with what a user hands to exec."""
    file = frame.f_code.co_filename
    if file.startswith("<") and frame.f_globals.get("__name__", "").startswith(_GENERATED):
        return False
    return is_user_file(file)


_GENERATED = ("derive.", "dataclasses", "namedtuple_")
_TYPED = ("<stdin>", "<ipython-input-", "<python-input-")  # files of sessions


def is_user_file(file: str) -> bool:
    """Whether a frame's file is of the user's, or of theory/."""
    if file in definitions or file.startswith(_TYPED):
        return True
    if file.startswith("<"):
        return False
    path = os.path.abspath(file)
    return path.startswith(_THEORY) or not path.startswith((_PACKAGE, *_LIBRARIES))


def place_in(problem: BaseException, file: str | None = None) -> Place | None:
    """The innermost line that an exception passed through in `file`, or in any file of the
    user's."""
    found, step = None, problem.__traceback__
    while step is not None:
        name = step.tb_frame.f_code.co_filename
        if name == file if file is not None else is_users(step.tb_frame):
            found = Place(name, step.tb_lineno)
        step = step.tb_next
    return found


def words(problem: BaseException) -> str:
    """Kind and message of an exception, in one line that ends; even if it cannot say its own."""
    try:
        text = " ".join(str(problem).split())
    except BaseException:  # the definition's own exceptions may do anything
        text = ""
    if len(text) > 500:
        text = text[:480] + " ..."
    kind = type(problem).__name__
    return f"{kind}: {text}" if text else kind

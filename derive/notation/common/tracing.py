"""Runs the text of a definition and carries what passes between a run and the words in it.

A definition is a plain function, so its words do not know who calls it.  What a run tells them, and
what they say of the arrays that they make, goes through one `Run`: whoever runs a text enters it,
the words find it by `current()`, and its maker reads it afterwards.  It is a context variable, so
that runs nest and threads keep apart.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from derive.errors import DefinitionError, Place, is_users
from derive.notation.common.arrays import Array
from derive.notation.common.mistakes import advice
from derive.notation.common.names import nearest
from derive.notation.common.scalars import extent

#: (closure, mean, covariance, what else is given by name) -> (m', S'), all on plain arrays
Rates = Callable[[Any, Any, Any, Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Run:
    """One run of a text.

    `local`: the text's own names for arrays.  `names` and `facts`: what kernels call an array that
    a word made, and what is to be said of it.  `rates`: what reads the rates of moments on plain
    arrays, for the notation derives nothing itself.
    """

    local: dict[str, Array] = field(default_factory=dict)
    names: dict[Array, str] = field(default_factory=dict)
    facts: dict[Array, str] = field(default_factory=dict)
    rates: Rates | None = None


_current: ContextVar[Run] = ContextVar("run")


def current() -> Run:
    """The run in progress; outside of any, one that nobody reads."""
    return _current.get(Run())


@contextmanager
def running(run: Run) -> Iterator[Run]:
    """Inside, words are part of this run."""
    token = _current.set(run)
    try:
        yield run
    finally:
        _current.reset(token)


def call(text: Callable[[], Any], name: str, place: Place) -> tuple[Any, Run]:
    """What a text returns, with the names of its arrays when it returns.

    Raises `DefinitionError`, with the line in the file of `place`, for whatever the text raises.
    """

    def watch(frame: Any, event: str, _: Any) -> None:
        own = frame.f_code.co_filename == place.file
        if event == "return" and own and is_users(frame):
            for word, value in frame.f_locals.items():
                if isinstance(value, Array) and value.op != "state":
                    run.local.setdefault(word, value)

    previous = sys.getprofile()
    with running(Run()) as run:
        sys.setprofile(watch)
        try:
            return text(), run
        except DefinitionError:
            raise
        except Exception as problem:
            said = f"{name} raised {type(problem).__name__}: {problem}"
            known = advice(problem)
            raise DefinitionError(
                f"{known} ({said})" if known else said,
                _line_in(place.file, problem) or place,
            ) from problem
        finally:
            sys.setprofile(None)
            _go_on(previous)


def _go_on(profiler: Any) -> None:
    """With what was watching before: a function, or cProfile's object (until Python 3.11)."""
    if hasattr(profiler, "enable"):
        profiler.enable()
    else:
        sys.setprofile(profiler)


def _line_in(file: str, problem: BaseException) -> Place | None:
    found = None
    step = problem.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == file:
            found = Place(file, step.tb_lineno)
        step = step.tb_next
    return found


def check_symbols(known: set[sp.Symbol], nodes: list[Array]) -> None:
    """Raises `DefinitionError` at the first array with a symbol that is not declared."""
    for array in nodes:
        scalars = [extent(s) for s in array.shape if not s.is_number]
        if array.op == "full":
            scalars.append(array.data)
        for scalar in scalars:
            for symbol in sorted(scalar.free_symbols - known, key=str):
                near = nearest(symbol.name, [s.name for s in known])
                raise DefinitionError(
                    f"the symbol {symbol} is not declared{near}; declare it with dims(...) or "
                    "params(...)",
                    array.place,
                )

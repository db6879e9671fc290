"""From an entry to its derivation, whatever the definition does meanwhile.

A definition is code that is run.  What it raises becomes one message with a place in its file;
what it explodes into is stopped after a time, and before it takes the machine's memory.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from derive import errors
from derive.entry import Entry
from derive.errors import CheckFailed, DefinitionError, OutOfTime, Place, RequestError
from derive.registry import as_typed, load, shown
from derive.runtime.common.memory import free

LIMIT = 120.0  # seconds of one derivation; the slowest registered model takes a tenth
GRACE = 5.0  # after it, until the process is ended from outside the derivation


def add_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--limit",
        type=_seconds,
        default=LIMIT,
        metavar="SECONDS",
        help=f"stop a derivation that takes longer (default {LIMIT:g}; 0: never)",
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e8:
        raise argparse.ArgumentTypeError(f"{text} is no time; give seconds, or 0 for no limit")
    return value


def derived(entry: Entry, limit: float = LIMIT) -> Any:
    """The result of the entry's method.  Raises DefinitionError, Refusal, or CheckFailed."""
    import numpy as np

    from derive.dispatch import method

    # checks look for where a definition has values, and NumPy would warn of every place without
    quiet = np.errstate(all="ignore")
    with told(entry), limited(entry, limit), contextlib.redirect_stdout(Aside()), quiet:
        return method(entry.method).derive(load(entry))


def rendered(entry: Entry, result: Any, limit: float = LIMIT) -> str:
    """The generated module's text of a derivation; CheckFailed where a step fails its check."""
    from derive.dispatch import method
    from derive.methods.common.record import require_sound

    require_sound(result.steps, entry.name, result.facts, as_typed(entry))
    with told(entry), limited(entry, limit):
        return str(method(entry.method).render(result, entry.source, entry.argument))


class Aside(io.TextIOBase):
    """Where a definition prints: stderr, since stdout holds what was asked for; it stays open."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def close(self) -> None:
        pass


@contextlib.contextmanager
def told(entry: Entry) -> Iterator[None]:
    """Whatever is raised inside becomes one message with a place in the definition's file."""
    try:
        yield
    except DefinitionError as problem:
        if problem.place is None:
            problem.place = _line_of(entry)
        raise
    except OutOfTime as problem:
        raise DefinitionError(str(problem), _place(problem, entry)) from None
    except (CheckFailed, RequestError, KeyboardInterrupt):
        raise
    except (RecursionError, MemoryError) as problem:
        raise DefinitionError(_too_large(problem), _place(problem, entry)) from problem
    except BaseException as problem:
        place = errors.place_in(problem)
        if place is None and os.environ.get("DERIVE_TRACEBACK"):
            raise
        message = errors.words(problem)
        if place is None:  # the definition was read, and derive fails on what it says
            message = (
                f"internal error of derive on this definition, {message}; DERIVE_TRACEBACK=1 "
                "shows where it is. Another way to write the same layer may do"
            )
        raise DefinitionError(message, place or _line_of(entry)) from problem


def _too_large(problem: BaseException) -> str:
    if isinstance(problem, RecursionError):
        return (
            "the definition is nested too deeply (Python's recursion limit is reached): a function "
            "that calls itself, or a sum of thousands of terms; write it with arrays and .sum"
        )
    return (
        "the derivation needs more memory than this machine has free; take smaller powers or "
        "fewer factors"
    )


def _place(problem: BaseException, entry: Entry) -> Place:
    return errors.place_in(problem, str(entry.file)) or _line_of(entry)


def _line_of(entry: Entry) -> Place:
    """The line of the model's function."""
    import ast

    if entry.definition is not None:
        found: Place = entry.definition.place
        return found
    line = 1
    with contextlib.suppress(OSError, ValueError, SyntaxError):
        for node in ast.parse(entry.file.read_bytes()).body:
            if isinstance(node, ast.FunctionDef) and node.name == entry.function:
                line = node.lineno
    return Place(str(entry.file), line)


@contextlib.contextmanager
def limited(entry: Entry, seconds: float) -> Iterator[None]:
    """Raise OutOfTime inside once `seconds` are over, and MemoryError where memory ends.

    Outside the main thread, and where there is no such signal, nothing is limited.  What catches
    the exception, or is held in foreign code, is ended with the process: exit code 2.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return
    with _memory():
        if not seconds:
            yield
            return
        end = time.monotonic() + seconds
        done = threading.Event()

        def stop(number: int, frame: FrameType | None) -> None:
            del number
            raise OutOfTime(_explosion(seconds, _step(frame)))

        def last_resort() -> None:
            if not done.wait(end + GRACE - time.monotonic()):
                place = _line_of(entry)
                text = f"{shown(place.file)}:{place.line}: {_explosion(seconds, 'its own code')}"
                with contextlib.suppress(Exception):
                    print(f"\nderive: {text}", file=sys.stderr, flush=True)
                os._exit(2)

        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again, if it was caught
        threading.Thread(target=last_resort, daemon=True).start()
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            done.set()


def _explosion(seconds: float, where: str) -> str:
    return (
        f"the derivation was stopped after {seconds:g} s, at {where}; its terms explode: take "
        "smaller powers, fewer factors or fewer blocks, or allow more time with --limit SECONDS "
        "(0: no limit)"
    )


_STAGES = ("notation", "calculus", "methods", "emit")


def _step(frame: FrameType | None) -> str:
    """In words, which step of which method a frame belongs to; or that it is the definition's."""
    here = os.path.dirname(os.path.abspath(__file__))
    found: list[tuple[str, str]] = []
    while frame is not None:
        file = frame.f_code.co_filename
        if not found and errors.is_user_file(file):
            return "the definition's own code"
        folder, name = os.path.split(os.path.abspath(file))
        if os.path.relpath(folder, here).split(os.sep)[0] in _STAGES:
            part = name.removesuffix(".py").replace("_", " ")
            found.append((part, frame.f_code.co_name.strip("_<>").replace("_", " ")))
        frame = frame.f_back
    if not found:
        return "its own code"
    part, step = found[0]
    outer = next((s for p, s in reversed(found) if s not in ("derive", "told")), "")
    return f"{part}: {step}" + (f", in {outer}" if outer and outer != step else "")


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """No more memory than is free now: MemoryError, not a machine that swaps or kills."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        there = free()
        if there is None:
            raise ValueError
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = pages * os.sysconf("SC_PAGE_SIZE") + int(there)
        if soft != resource.RLIM_INFINITY and soft <= wanted:
            raise ValueError
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    except (ImportError, OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

"""What concerns the process of a command: its standard streams, and Ctrl-C.

Streams that are closed are replaced by nothing; one that cannot be written to any more makes exit
code 2, not a traceback at the end.  Ctrl-C raises KeyboardInterrupt as usual, but code outside
Python can hold it up: a thread that is woken by the signal itself ends the process a second later.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TextIO

_stopped: list[int] = []
PATIENCE = 1.0  # seconds that an interrupted command may take to end by itself
MESSAGE = "\nderive: interrupted; nothing was half-written"


def run(command: Callable[[], int]) -> int:
    """The command's exit code, with the process around it in order."""
    _open_streams()
    _watch_interrupts()
    code = _close_streams(command())
    if _stopped:  # what still computes in other threads would fall into the interpreter's end
        os._exit(code)
    return code


def _open_streams() -> None:
    """Standard streams that exist, whatever the parent has closed, and can print anything."""
    with contextlib.suppress(OSError):
        while (low := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(low)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif number and hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")


def close_stdout() -> None:
    """Let what is still to be printed go nowhere."""
    _to_nowhere(sys.stdout)


def _to_nowhere(stream: object) -> None:
    with contextlib.suppress(Exception):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[attr-defined]
        os.close(nowhere)


def _close_streams(code: int) -> int:
    """Write out what is left; exit code 2 if that cannot be done."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            _to_nowhere(stream)
        except (OSError, ValueError, AttributeError) as problem:
            if code == 0 and stream is sys.stdout:
                code = 2
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    why = getattr(problem, "strerror", None) or problem
                    print(f"derive: cannot write to stdout: {why}", file=sys.stderr, flush=True)
            _to_nowhere(stream)
    return code


def _interrupt(number: int, frame: object) -> None:
    """Stop what is running, once: a second Ctrl-C would fall into the clearing up."""
    del frame
    _stopped.append(number)
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _watch_interrupts() -> None:
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # a parent that wants it ignored
    try:
        signal.signal(signal.SIGINT, _interrupt)
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    except (OSError, ValueError):  # not in the main thread
        return

    def watch() -> None:
        while True:
            try:
                numbers = os.read(reading, 1)
            except OSError:
                return
            if not numbers:
                return
            if numbers[0] == signal.SIGINT:
                break
        threading.Event().wait(PATIENCE)
        with contextlib.suppress(Exception):
            print(MESSAGE, file=sys.stderr, flush=True)
        os._exit(2)

    threading.Thread(target=watch, daemon=True).start()


def has_signs(stream: TextIO | None = None) -> bool:
    """Whether a stream is a terminal that shows them."""
    stream = sys.stdout if stream is None else stream
    encoding = (getattr(stream, "encoding", None) or "").lower().replace("-", "")
    return encoding == "utf8" and stream.isatty()

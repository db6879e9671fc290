"""The command line: one module of `derive.commands` for each command.

Exit codes: 0 fine, 1 a check failed, 2 the request or the model is wrong (one message, no
traceback, nothing half-written).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Sequence

from derive import process
from derive.errors import CheckFailed, DefinitionError, RequestError, words
from derive.version import ENGINE

COMMANDS = (
    "list",
    "new",
    "show",
    "build",
    "check",
    "diff",
    "verify",
    "mutate",
    "simulate",
    "sweep",
    "match",
    "figure",
    "report",
    "export",
    "watch",
    "doctor",
)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="derive",
        description="Derive the limit of an attention model from its definition, generate JAX "
        "kernels for it, and verify them.",
        epilog="MODEL is a registered name (see `derive list`) or a path to a theory file.",
    )
    top.add_argument("--version", action="version", version=f"derive {ENGINE}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"derive.commands.{name}_command")
        summary = (module.__doc__ or "").strip().split("\n")[0]
        settings = getattr(module, "SETTINGS", {})
        own = commands.add_parser(name, help=summary, description=summary, **settings)
        module.arguments(own)
        own.set_defaults(run=module.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 1 or 2.  Without arguments those of this process are taken, and
    what concerns the process (streams, signals) is set up."""
    if argv is None:
        gc.set_threshold(50_000, 20, 50)  # terms are many, and few of them are in cycles
        return process.run(lambda: _answered(sys.argv[1:]))
    return _answered(argv)


def _answered(argv: Sequence[str]) -> int:
    """The exit code of a command, and one message where something is wrong."""
    try:
        options = parser().parse_args(argv)
        code = options.run(options)
        sys.stdout.flush()
        return int(code)
    except DefinitionError as problem:
        from derive.registry import placed

        return _say(placed(problem), 2)
    except CheckFailed as problem:
        return _say(str(problem), 1)
    except (RequestError, ValueError) as problem:  # ValueError: the runtime's checks of inputs
        return _say(str(problem), 2)
    except SystemExit as leave:  # argparse has said why
        return leave.code if leave.code in (0, 1, 2) else 2
    except BrokenPipeError:  # who reads has read enough
        process.close_stdout()
        return 0
    except KeyboardInterrupt:
        return _say("interrupted; nothing was half-written", 2, "\n")
    except OSError as problem:
        file = f"{problem.filename}: " if problem.filename else ""
        return _say(f"{file}{problem.strerror or problem}", 2)
    except MemoryError:
        return _say("there is not enough memory for this request", 2)
    except BaseException as problem:
        if os.environ.get("DERIVE_TRACEBACK"):
            raise
        return _say(
            f"internal error, {words(problem)}; this should not happen: DERIVE_TRACEBACK=1 shows "
            "where",
            2,
        )


def _say(message: str, code: int, before: str = "") -> int:
    """One message on stderr, if there is one that can be written to."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(f"{before}derive: {message}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())

"""The command line: one module of `derive.commands` for each command.

Exit codes: 0 fine, 1 a check failed, 2 the request or the model is wrong (one message, no
traceback, nothing half-written).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from derive.errors import CheckFailed, DefinitionError, RequestError
from derive.version import ENGINE

COMMANDS = (
    "list",
    "new",
    "show",
    "build",
    "check",
    "diff",
    "verify",
    "simulate",
    "figure",
    "export",
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
        summary = module.__doc__.strip().split("\n")[0]
        own = commands.add_parser(name, help=summary, description=summary)
        module.arguments(own)
        own.set_defaults(run=module.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    try:
        return options.run(options)
    except DefinitionError as problem:
        print(f"derive: {_relative(problem)}", file=sys.stderr)
    except CheckFailed as problem:
        print(f"derive: {problem}", file=sys.stderr)
        return 1
    except (RequestError, ValueError) as problem:  # ValueError: the runtime's checks of inputs
        print(f"derive: {problem}", file=sys.stderr)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("\nderive: interrupted; nothing was half-written", file=sys.stderr)
    except Exception as problem:
        if os.environ.get("DERIVE_TRACEBACK"):
            raise
        print(
            f"derive: internal error, {type(problem).__name__}: {problem}\n"
            "This is a bug of derive, not of your model; DERIVE_TRACEBACK=1 shows where.",
            file=sys.stderr,
        )
    return 2


def _relative(problem: Exception) -> str:
    from derive.registry import shown

    place = getattr(problem, "place", None)
    message = getattr(problem, "message", str(problem))
    return f"{shown(place.file)}:{place.line}: {message}" if place else message


if __name__ == "__main__":
    sys.exit(main())

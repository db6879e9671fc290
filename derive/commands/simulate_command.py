"""Simulate a model from a start of your own: arrays and a picture.

Writes NAME.npz and NAME.png.  What is simulated, and with which options, is the model's method's:
`derive simulate MODEL --help` tells.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from derive.commands.options import add_kernels
from derive.contract import Method
from derive.dispatch import method, words
from derive.errors import RequestError
from derive.registry import find

COMMON = ("help", "seed", "out", "kernels")  # options of every method
SETTINGS = {"add_help": False}  # of the parser: --help after a model is about its method


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "derive simulate [-h] MODEL [OPTIONS OF ITS METHOD]"
    parser.epilog = (
        "Further options depend on the method of MODEL: derive simulate MODEL --help shows them."
    )
    parser.add_argument("model", metavar="MODEL")
    parser.set_defaults(words=[])
    # Only the model says which options are meant and what they hold: they are kept as they stand
    # and read by its method's parser.
    own = [_parser(kind, "") for word in words() if (kind := method(word)).simulation is not None]
    for action in {a.option_strings[-1]: a for p in own for a in p._actions}.values():
        help = action.help if action.dest in COMMON else argparse.SUPPRESS
        parser.add_argument(
            *action.option_strings,
            action=_Kept,
            nargs=action.nargs,
            dest=action.dest,
            metavar=action.metavar,
            help=help,
        )


class _Kept(argparse.Action):
    """An option as it was written; help is the command's own where no model stands before it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        if self.dest == "help" and namespace.model is None:
            parser.print_help()
            parser.exit()
        given = [values] if isinstance(values, str) else list(values or [])
        namespace.words = [*namespace.words, str(option), *given]


def _parser(kind: Method, model: str) -> argparse.ArgumentParser:
    """Of all options that a method's models have."""
    simulation = kind.simulation
    assert simulation is not None
    out = argparse.ArgumentParser(
        prog=f"derive simulate {model}",
        description=(simulation.__doc__ or "").strip().split("\n")[0],
    )
    simulation.arguments(out)
    out.add_argument("--seed", type=int, default=0, help="of random numbers (default 0)")
    out.add_argument("--out", type=Path, default=Path("results"), help="folder (default results)")
    add_kernels(out)
    return out


def run(options: argparse.Namespace) -> int:
    entry = find(options.model)
    kind = method(entry.method)
    if kind.simulation is None:
        able = [word for word in words() if method(word).simulation is not None]
        raise RequestError(
            f"{entry.name} is a {entry.method} model; simulate draws {', '.join(able)} models. "
            f"{kind.instead(entry.name)}"
        )
    return kind.simulation.run(entry, _parser(kind, options.model).parse_args(options.words))

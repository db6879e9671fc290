"""Simulate a model from a start of your own: arrays and a picture.

Writes NAME.npz and NAME.png.  What is simulated, and with which options, is the model's method's:
`derive simulate MODEL --help` tells.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from derive.dispatch import method, words
from derive.errors import RequestError
from derive.registry import find


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "derive simulate [-h] [--seed SEED] [--out DIR] MODEL [OPTIONS OF ITS METHOD]"
    parser.epilog = (
        "Further options depend on the method of MODEL and come after it: derive simulate MODEL "
        "--help shows them."
    )
    parser.add_argument("model", metavar="MODEL")
    # the method's: only the model says which, and those of two methods may bear one name
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    _common(parser, 0, Path("results"))


def _common(parser: argparse.ArgumentParser, seed: int, out: Path) -> None:
    parser.add_argument("--seed", type=int, default=seed, help="of random numbers (default 0)")
    parser.add_argument("--out", type=Path, default=out, help="folder (default results)")


def run(options: argparse.Namespace) -> int:
    entry = find(options.model)
    kind = method(entry.method)
    if kind.simulation is None:
        able = [word for word in words() if method(word).simulation is not None]
        raise RequestError(
            f"{entry.name} is a {entry.method} model; simulate draws {', '.join(able)} models. "
            f"{kind.instead(entry.name)}"
        )
    own = argparse.ArgumentParser(
        prog=f"derive simulate {options.model}",
        description=(kind.simulation.__doc__ or "").strip().split("\n")[0],
    )
    kind.simulation.arguments(own)
    _common(own, options.seed, options.out)
    return kind.simulation.run(entry, own.parse_args(options.rest))

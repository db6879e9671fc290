"""Find parameters over time that send N laws of tokens to N targets, all at once.

INPUTS.npz and TARGETS.npz hold the laws, arrays (n, d) in the order of their names (a vector is
one point), or one array (N, n, d); weights of an array NAME in masses_NAME.  Writes the plan, which
`load_plan` of the kernel reads, its pieces as a table and in LaTeX, and a picture.
"""

from __future__ import annotations

import argparse
from typing import Any

from derive.commands.options import add_kernels
from derive.dispatch import method, words
from derive.errors import RequestError
from derive.registry import find


def arguments(parser: argparse.ArgumentParser) -> None:
    able = _able()
    for kind in able.values():
        kind.arguments(parser)
    default = next(iter(able.values())).default
    parser.add_argument(
        "--model", metavar="MODEL", default=default, help=f"whose parameters (default {default})"
    )
    add_kernels(parser)


def _able() -> dict[str, Any]:
    found = {word: method(word).matching for word in words()}
    return {word: kind for word, kind in found.items() if kind is not None}


def run(options: argparse.Namespace) -> int:
    entry, able = find(options.model), _able()
    if entry.method not in able:
        raise RequestError(
            f"{entry.name} is a {entry.method} model; match steers {', '.join(able)} models"
        )
    return int(able[entry.method].run(entry, options))

"""Write a starter definition NAME.py that derives as it stands.

It is a file of yours: change it, then derive show, build and verify it by its path.
"""

from __future__ import annotations

import argparse
import difflib
import keyword
from pathlib import Path

from derive.dispatch import known, method, own, words
from derive.errors import RequestError
from derive.files import present, require_writable, write_whole
from derive.registry import registered, shown


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the model, and of the file NAME.py")
    parser.add_argument("--kind", required=True, metavar="|".join(own()), help="the method")
    parser.add_argument("--out", type=Path, default=Path(), help="folder (default: this one)")


def run(options: argparse.Namespace) -> int:
    name, kind = options.name, options.kind
    if not known(kind):
        close = difflib.get_close_matches(kind, words(), 1, cutoff=0.3)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise RequestError(f"--kind {kind}: takes {', '.join(words())}{hint}")
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise RequestError(f"{name!r} cannot name a Python function; try my_model")
    if any(entry.name == name for entry in registered()):
        raise RequestError(f"{name} is a registered model (derive list); choose another name")
    target = options.out / f"{name}.py"
    require_writable(options.out)
    if present(target):
        raise RequestError(
            f"{shown(target)} exists and is left as it is; choose another name or --out"
        )
    write_whole(target, method(kind).starter.replace("NAME", name))
    place = shown(target)
    print(f"{place}\nnext: derive show {place}; derive build {place}; derive simulate {place}")
    return 0

"""Derive, gate and build a file anew whenever it is saved, and show which terms changed.

Watches the file and those that it imports from its folder, until Ctrl-C.  A definition that is
wrong is told in one line, and its last kernel stays.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from derive.commands.build_command import built, require_place
from derive.commands.diff_command import differences, read
from derive.commands.options import add_kernels
from derive.derivation import add_limit
from derive.entry import Entry, theory_folder
from derive.errors import CheckFailed, DefinitionError, RequestError
from derive.files import present, text_in
from derive.registry import entries as found_in
from derive.registry import placed, shown
from derive.sources import files


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path)
    add_kernels(parser, "--out")
    add_limit(parser)


def run(options: argparse.Namespace) -> int:
    if not options.file.is_file():
        raise RequestError(f"there is no file {options.file}")
    try:
        import watchfiles
    except ImportError:
        raise RequestError('derive watch needs watchfiles: pip install "derive[watch]"') from None
    file = options.file.resolve()
    once(file, options)
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        for _ in _saved(watchfiles, file):
            once(file, options)
            print(flush=True)
    return 0


def _saved(watchfiles: Any, file: Path) -> Iterator[None]:
    """Once for every time that the definition, or what it imports, has changed."""
    told = False
    for changes in watchfiles.watch(
        file.parent, recursive=False, raise_interrupt=False, yield_on_timeout=True, rust_timeout=300
    ):
        if not told:  # it is only now that nothing escapes
            print(f"watching {shown(file)}; Ctrl-C ends", flush=True)
            told = True
        changed = {Path(name).resolve() for _, name in changes}
        if changed & {file, *_imported(file)}:
            yield


def _imported(file: Path) -> list[Path]:
    try:
        return [f.resolve() for f in files(file, theory_folder())]
    except (OSError, SyntaxError, ValueError):  # half-saved, or a mistake that is told elsewhere
        return []


def once(file: Path, options: argparse.Namespace) -> None:
    """Build every model of the file; what is wrong with one is said, and the others are built."""
    try:
        found = found_in(file)
    except DefinitionError as problem:
        print(placed(problem), flush=True)
        return
    if not found:
        print(f"{shown(file)} defines no model", flush=True)
    for entry in found:
        try:
            _one(entry, options)
        except (CheckFailed, DefinitionError, RequestError) as problem:
            print(placed(problem), flush=True)


def _one(entry: Entry, options: argparse.Namespace) -> None:
    target = entry.kernels(options.out) / f"{entry.name}.py"
    require_place(entry, target)
    before = None
    if present(target):
        try:
            before = read(text_in(target), shown(target))
        except (RequestError, ValueError):  # whatever is there is replaced
            before = None
    text = built(entry, target, options.limit)
    if before is not None:
        lines = differences(before, read(text, entry.source))
        print("\n".join(lines) or f"{entry.name}: every term is as before", flush=True)

"""List the models that are registered, or those of files of one's own.

A model is called verified only while its certificate holds: for the kernel's bytes, the definition
and the runtime as they are now.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from derive.certificate import verdict
from derive.commands.options import add_kernels
from derive.entry import Entry
from derive.errors import RequestError
from derive.files import present, text_in
from derive.registry import entries as found_in
from derive.registry import registered


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="default: all registered models"
    )
    add_kernels(parser, "--kernels", "--out")


def run(options: argparse.Namespace) -> int:
    entries = [e for f in options.files for e in _of(f)] or registered()
    width = max((len(e.name) for e in entries), default=0)
    for entry in entries:
        state = standing(entry.kernels(options.kernels), entry)
        print(f"{entry.name:<{width}}  {entry.method}  [{state}]  {entry.title}")
    return 0


def _of(file: Path) -> list[Entry]:
    if not file.is_file():
        raise RequestError(f"there is no file {file}")
    return found_in(file.resolve())


def standing(folder: Path, entry: Entry) -> str:
    """not built; or built and what its certificate is worth."""
    kernel = folder / f"{entry.name}.py"
    if not present(kernel):
        return "not built"
    try:
        text_in(kernel)
    except ValueError:
        return "damaged"
    found = verdict(folder, entry)
    if found.holds:
        return f"built, verified ({found.level})"
    if found.state == "missing":
        return "built, not verified"
    return f"built, certificate {found.state}"

"""List the models that are registered.

A model is called verified only while its certificate holds: for the kernel's bytes, the definition
and the runtime as they are now.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from derive.certificate import verdict
from derive.files import present, text_in
from derive.registry import Entry, generated_folder, registered


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(options: argparse.Namespace) -> int:
    del options
    entries = registered()
    width = max((len(e.name) for e in entries), default=0)
    for entry in entries:
        state = standing(generated_folder(), entry)
        print(f"{entry.name:<{width}}  {entry.method}  [{state}]  {entry.title}")
    return 0


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

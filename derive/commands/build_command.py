"""Derive models and write their kernels.

Without a model: every registered one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from derive.errors import RequestError
from derive.registry import Entry, find, generated_folder, load, registered, shown


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all registered ones")
    parser.add_argument("--out", type=Path, help="folder to write to (default: generated/)")


def run(options: argparse.Namespace) -> int:
    entries = [find(m) for m in options.models] or registered()
    folder = options.out or generated_folder()
    require_writable(folder)
    for entry in entries:
        start = time.monotonic()
        print(f"deriving {entry.name} ...", end="", file=sys.stderr, flush=True)
        try:
            text = text_of(entry)
        except BaseException:
            print(file=sys.stderr)
            raise
        target = folder / f"{entry.name}.py"
        same = target.exists() and target.read_text(encoding="utf-8") == text
        if not same:
            write_whole(target, text)
        spent = time.monotonic() - start
        print(
            f"\r{shown(target)}: {'unchanged' if same else 'written'} ({spent:.1f} s)   ",
            file=sys.stderr,
        )
    return 0


def text_of(entry: Entry) -> str:
    """The generated module of an entry, derived anew."""
    from derive.dispatch import emitter, method

    result = method(entry.method).derive(load(entry))
    return str(emitter(entry.method).render(result, entry.source, entry.argument))


def require_writable(folder: Path) -> None:
    """Refuse before deriving anything if the result could not be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        raise RequestError(
            f"cannot write to {folder}: {problem.strerror or problem}; choose another folder "
            "with --out"
        ) from None


def write_whole(target: Path, text: str) -> None:
    """Replace a file at once: an interrupted build leaves the old one whole."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

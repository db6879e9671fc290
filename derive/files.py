"""Reading and writing of a command's files: whatever is in the way becomes one message."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from derive.errors import RequestError
from derive.runtime.common import whole_files

LARGEST = 2**26  # bytes of a text that derive writes or reads: far beyond any of them


def write_whole(target: Path, content: str | bytes | Callable[[IO[bytes]], Any]) -> None:
    """Replace a file at once, or leave all as it is and say why (RequestError)."""
    try:
        whole_files.write_whole(target, content)
    except OSError as problem:
        raise RequestError(f"cannot write {_shown(target)}: {reason(problem)}") from None


def require_writable(folder: Path, option: str = "--out") -> None:
    """Make the folder, and refuse before any work if the result could not be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as problem:
        raise RequestError(
            f"cannot write to {_shown(folder)}: {reason(problem)}; choose another folder with "
            f"{option}"
        ) from None


def text_in(file: Path) -> str:
    """The text of a file that is ours.  Raises ValueError with what is wrong with it, in words."""
    try:
        found = file.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ValueError("is a folder, not a file")
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("is not a regular file")
        if found.st_size > LARGEST:
            raise ValueError(f"has {found.st_size} bytes, more than any file of derive")
        content = file.read_bytes()
    except OSError as problem:
        raise ValueError(f"cannot be read: {reason(problem)}") from None
    if not content:
        raise ValueError("is empty")
    if b"\0" in content:
        raise ValueError("has NUL bytes")
    try:
        # newlines as they are: a text with other line ends is another text
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise ValueError(f"is not UTF-8 text (byte {problem.start})") from None


def present(file: Path) -> bool:
    """Whether anything at all is at a path, a broken link included."""
    return os.path.lexists(file)


def clear(target: Path) -> None:
    """Make way for a file in a folder that is ours: a link or an empty folder in its place goes.

    Raises RequestError for a folder that holds something.
    """
    if target.is_symlink():
        target.unlink()
    elif target.is_dir():
        try:
            target.rmdir()
        except OSError:
            raise RequestError(
                f"{_shown(target)} is a folder that holds files; move it away first"
            ) from None


def reason(problem: Exception) -> str:
    """Why the system refused, without its number."""
    return str(getattr(problem, "strerror", None) or problem)


def _shown(file: Path) -> str:
    from derive.registry import shown

    return shown(file)

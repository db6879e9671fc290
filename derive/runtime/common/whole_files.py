"""Files that are written whole or not at all.

A file is written beside its place under a name that nobody can foretell, brought to the disk, and
renamed.  The writer holds a lock on it meanwhile, so that what a killed run has left is told from
what another run is writing, and is removed by the next one.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # no locks here: what is left over is named, not removed
    fcntl = None  # type: ignore[assignment]

MARK = ".derive-part-"


def write_whole(
    target: str | Path, content: str | bytes | Callable[[IO[bytes]], Any], mode: int = 0o644
) -> None:
    """Replace `target` in one step: whoever is killed leaves the old file or the new one.

    `content`: text (UTF-8, its newlines kept), bytes, or a function that writes to the open file.
    Raises OSError, nothing being changed, where it cannot be written; a folder in the target's
    place is an error too.
    """
    target = Path(target)
    remove_left_over(target.parent)
    handle, name = _locked(target)
    try:
        with os.fdopen(handle, "wb") as stream:
            if callable(content):
                content(stream)
            else:
                stream.write(content.encode("utf-8") if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
            os.chmod(name, mode)
            os.replace(name, target)  # under the lock: nobody takes it for left over
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _locked(target: Path) -> tuple[int, str]:
    """A new file beside `target`, open and locked."""
    while True:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}"[:150] + MARK)
        _lock(handle)
        # between its making and its locking another run may have taken it for left over
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(name), os.fstat(handle)):
                return handle, name
        os.close(handle)


def _lock(handle: int) -> bool:
    """Whether the lock of an open file could be had."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def left_over(folder: Path) -> Iterator[Path]:
    """Files of runs that ended before they could rename them."""
    try:
        names = [n for n in os.listdir(folder) if MARK in n and n.startswith(".")]
    except OSError:
        return
    for name in names:
        try:
            handle = os.open(folder / name, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        except OSError:
            continue
        try:
            if _lock(handle):
                yield folder / name
        finally:
            os.close(handle)


def remove_left_over(folder: Path) -> None:
    for file in left_over(folder):
        with contextlib.suppress(OSError):
            file.unlink()

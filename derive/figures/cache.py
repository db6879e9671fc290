"""Arrays of a figure, kept under a hash of all they follow from."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from derive.files import write_whole
from derive.version import ENGINE

Arrays = dict[str, Any]


def key(name: str, request: dict[str, Any], sources: list[bytes]) -> str:
    """Sixteen digits over the figure's name, its request, the engine and the code it runs."""
    digest = hashlib.sha256(json.dumps([name, ENGINE, request], sort_keys=True).encode())
    for source in sources:
        digest.update(hashlib.sha256(source).digest())
    return digest.hexdigest()[:16]


def cached(file: Path, compute: Callable[[], Arrays]) -> tuple[Arrays, bool]:
    """Arrays of `file`, or computed and written there; whether they were there already."""
    found = stored(file)
    return (kept(file, compute()), False) if found is None else (found, True)


def stored(file: Path) -> Arrays | None:
    """Arrays of a file; None where there is none, or it was cut short."""
    try:
        with np.load(file, allow_pickle=False) as found:
            return dict(found)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def kept(file: Path, values: Mapping[str, Any]) -> Arrays:
    """The values as arrays, once they stand in a file."""
    arrays: Arrays = {name: np.asarray(value) for name, value in values.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, lambda stream: np.savez_compressed(stream, **arrays))
    return arrays

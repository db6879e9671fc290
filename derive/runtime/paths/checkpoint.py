"""Running statistics as one file: written at once or not at all, refused for another request."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import types
from pathlib import Path
from typing import Any

import numpy as np

from derive.runtime.common.whole_files import write_whole

FORMAT = 1
Request = dict[str, str]


def fingerprint(value: Any) -> str:
    """A text that tells arguments apart: arrays by content, functions by their code, what they
    close over and their defaults (not by globals that they read)."""
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None))):
        return repr(value)
    if isinstance(value, types.CodeType):
        # not the positions, nor the file's name: a function may move
        inner = [fingerprint(c) for c in value.co_consts]
        return _digest(repr((value.co_code, value.co_names, inner)).encode())
    if isinstance(value, functools.partial):
        return fingerprint([value.func, value.args, value.keywords])
    if hasattr(value, "__wrapped__"):  # jitted, or decorated
        return fingerprint(value.__wrapped__)
    if hasattr(value, "__code__"):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        # of a function in a closure its code alone: it may refer to itself
        kept = [fingerprint(getattr(c, "__code__", c)) for c in cells]
        given = [fingerprint(d) for d in value.__defaults__ or ()]
        parts = repr((fingerprint(value.__code__), kept, given))
        return f"{value.__qualname__} {_digest(parts.encode())}"
    if isinstance(value, dict):
        return _short({str(k): fingerprint(v) for k, v in value.items()})
    if isinstance(value, (set, frozenset)):
        return repr(sorted(fingerprint(v) for v in value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return fingerprint(dict(zip(value._fields, value, strict=True)))
    if isinstance(value, (tuple, list)):
        return _short([fingerprint(v) for v in value])
    if isinstance(value, types.ModuleType):
        return value.__name__
    array = _array(value)
    if array is not None:
        content = np.ascontiguousarray(array).tobytes()
        return f"{array.dtype}{list(array.shape)} {_digest(content)}"
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _short(parts: list[str] | dict[str, str]) -> str:
    text = repr(parts)
    return text if len(text) < 200 else f"{text[:100]}... {_digest(text.encode())}"


def _array(value: Any) -> np.ndarray | None:
    try:
        array = np.asarray(value)
    except Exception:
        return None
    return array if array.dtype.kind in "biufc" else None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def pack(request: Request, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    text = json.dumps({"format": FORMAT, "request": request, **header})
    stream = io.BytesIO()
    stored: dict[str, Any] = {"header": np.frombuffer(text.encode(), np.uint8), **arrays}
    np.savez(stream, **stored)
    return stream.getvalue()


def unpack(content: bytes, origin: str) -> tuple[Request, dict[str, Any], dict[str, np.ndarray]]:
    """What `pack` took.  Raises ValueError, naming `origin`, for anything else."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(arrays.pop("header").tobytes().decode())
        if (version := header.pop("format")) != FORMAT:
            raise KeyError(version)
        return header.pop("request"), header, arrays
    except Exception as problem:
        raise ValueError(
            f"{origin} is not a checkpoint of this version; delete it or name another file"
        ) from problem


def write(file: Path, content: bytes) -> None:
    """Replace the file in one step: whoever is killed leaves the old one or the new one."""
    write_whole(file, content)


def require_same(found: Request, wanted: Request, origin: str) -> None:
    """Raise ValueError if a checkpoint belongs to another request."""
    names = [n for n in {**wanted, **found} if found.get(n) != wanted.get(n)]
    if names:
        lines = [
            f"  {n}: {found.get(n, 'absent')} there, {wanted.get(n, 'absent')} here" for n in names
        ]
        raise ValueError(
            f"{origin} is the checkpoint of another request; it differs in\n"
            + "\n".join(lines)
            + "\ndelete it, or name another file"
        )

"""Texts kept by content in a folder of the user's: what is derived once is not derived again.

A file is called NAME-KEY-SUM.SUFFIX, KEY over all that its text follows from (definition, engine,
toolchain) and SUM over the text itself, so that what is cut short or changed by hand is seen on
reading and made anew.  It is written beside its place and renamed: a kill leaves nothing
half-written, and two processes write the same bytes.  The folder is $XDG_CACHE_HOME/derive, by
default ~/.cache/derive; deleting it is safe at any time, and DERIVE_CACHE=off leaves it alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import os
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from derive import certificate, sources
from derive.dispatch import method, own
from derive.entry import Entry, theory_folder
from derive.files import text_in
from derive.runtime.common.whole_files import write_whole

PACKAGE = Path(__file__).resolve().parent
#: modules that say the same in every run of one toolchain
FIXED = {"__future__", "derive", "cmath", "dataclasses", "enum", "fractions", "functools"}
FIXED |= {"itertools", "math", "numbers", "operator", "sympy", "typing"}


def folder() -> Path:
    """Where texts are kept."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    # the convention: what is not absolute is ignored
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "derive"


def is_off() -> bool:
    return os.environ.get("DERIVE_CACHE") == "off"


def kept(entry: Entry, what: Iterable[str], make: Callable[[], str]) -> str:
    """`make()`, or what it gave before for the same content; `what`: which text of the entry.

    A cache that cannot be read or written is none.
    """
    key = None if is_off() else key_of(entry)
    if key is None:
        return make()
    key = digest([key, *what])
    known = there(entry.name, key, ".txt")
    if known is not None:
        return text_in(known)
    text = make()
    with contextlib.suppress(OSError):
        keep(entry.name, key, ".txt", text)
    return text


def there(name: str, key: str, suffix: str) -> Path | None:
    """A file of the cache that holds what its name says."""
    for file in sorted(folder().glob(f"{name}-{key}-*{suffix}")):
        try:
            if file.stem.rpartition("-")[2] == digest([text_in(file)]):
                return file
        except ValueError:
            continue
    return None


def keep(name: str, key: str, suffix: str, text: str) -> Path:
    """The file that holds `text` from now on.  Raises OSError."""
    file = folder() / f"{name}-{key}-{digest([text])}{suffix}"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text)
    return file


def key_of(entry: Entry) -> str | None:
    """Digits over all that a derivation follows from; None where that is not known.

    It is not where a definition is at hand, or where one imports or calls what may say something
    else tomorrow: a module that is neither derive's nor a file beside it, or a file that is read.
    """
    if entry.definition is not None:
        return None
    files = sources.files(entry.file, theory_folder())
    fixed = FIXED | {_package(entry.method)}  # whose files count as well
    if not all(sources.says_all(file, fixed) for file in files):
        return None
    parts = [entry.name, entry.method, entry.argument, entry.function, repr(entry.choice)]
    for file in files:
        parts += [file.name, file.read_bytes().hex()]
    return digest([*parts, *_of_method(entry.method), *engine()])


def _package(word: str) -> str:
    """The package that brings a method."""
    return type(method(word)).__module__.partition(".")[0]


def _of_method(word: str) -> list[str]:
    """The files of a method that another package brings."""
    if word in own():
        return []
    top = sys.modules[_package(word)]
    files = [f for folder in getattr(top, "__path__", ()) for f in Path(folder).rglob("*.py")]
    files = sorted(files) or [Path(str(top.__file__))]
    return [f.read_bytes().hex() for f in files]


@cache
def engine() -> tuple[str, ...]:
    """What every kernel follows from beside its definition: derive's own files, the toolchain."""
    folders = [PACKAGE, Path(str(importlib.resources.files("derive.templates")))]
    files = [f for folder in folders for f in sorted(folder.rglob("*")) if f.is_file()]
    ours = [f for f in files if f.suffix in (".py", ".jinja") and "generated" not in f.parts]
    digest = hashlib.sha256()
    for file in ours:
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest(), repr(sorted(certificate.toolchain().items()))


def digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:20]

"""Kernels from Python: derived, gated, loaded; and kept by content in a folder of the user's.

A file of the cache is called NAME-KEY-SUM.py, KEY over all that its text follows from (definition,
engine, toolchain) and SUM over the text itself, so that what is cut short or changed by hand is
seen on reading and made anew.  It is written beside its place and renamed: a kill leaves nothing
half-written, and two processes write the same bytes.  The folder is $XDG_CACHE_HOME/derive, by
default ~/.cache/derive; deleting it is safe at any time.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.resources
import importlib.util
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from derive import certificate, sources
from derive.derivation import LIMIT, derived, rendered
from derive.dispatch import method, own
from derive.entry import Entry, generated_folder, theory_folder
from derive.errors import RequestError
from derive.files import text_in
from derive.registry import find
from derive.runtime.common.whole_files import write_whole

PACKAGE = Path(__file__).resolve().parent.parent


def compile(model: Any, *, limit: float = 0.0) -> ModuleType:
    """The kernel of a model as a loaded module: `Params`, `simulate` or `solve`, pure functions.

    **Arguments:** as of `derive.derive`.  Every function has been compared with its equation (the
    gate of `derive build`); the text is kept by content, so that the next call is quick.  Nothing
    is written beside the model; `derive build FILE --out DIR` does that.

    Raises what `derive.derive` raises, and CheckFailed where a function is not its equation.

    >>> kernel = derive.compile("my_model.py")
    >>> kernel.simulate(V0, kernel.Params(gamma=0.5), t1=0.5, paths=1024, seed=0)
    """
    return loaded(kernel_file(find(model), limit), find(model).name)


def load(name: str) -> ModuleType:
    """The kernel `derive.generated.NAME`, as it was built with this derive.

    Imports neither SymPy nor a definition.  Raises RequestError for a name that is not there.
    """
    there = sorted(f.stem for f in generated_folder().glob("*.py") if f.stem != "__init__")
    if name not in there:
        close = difflib.get_close_matches(str(name), there, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(there)}"
        raise RequestError(
            f"no kernel {name!r} is built; {hint} (of a model of your own: derive.compile)"
        )
    return _equipped(importlib.import_module(f"derive.generated.{name}"))


def kernel_file(entry: Entry, limit: float = 0.0) -> Path:
    """The file of a model's gated kernel in the cache, written if it is not there."""
    key = _key(entry)
    if key is not None and (known := _kept(entry.name, key)) is not None:
        return known
    from derive.gate import require_right

    result = derived(entry, limit)
    text = rendered(entry, result, limit)
    if key is None:  # a definition at hand has no text that says all of it: its kernel's does
        key = _digest([text, *_engine()])
        if (known := _kept(entry.name, key)) is not None:
            return known
    require_right(result, text, entry.method, entry.argument)
    file = cache_folder() / f"{entry.name}-{key}-{_digest([text])}.py"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text)
    except OSError as problem:
        raise RequestError(
            f"cannot write {file}: {problem.strerror or problem}; set XDG_CACHE_HOME to a folder "
            "that can be written"
        ) from None
    return file


def text_of(entry: Entry, limit: float = LIMIT) -> str:
    """The generated module of an entry, derived anew; no text where a step fails its check."""
    return rendered(entry, derived(entry, limit), limit)


def checked_text_of(entry: Entry, limit: float = LIMIT) -> str:
    """The same, once every function in it has been compared with its equation."""
    from derive.gate import require_right
    from derive.verify.common.compare import drop_compiled

    result = derived(entry, limit)
    text = rendered(entry, result, limit)
    require_right(result, text, entry.method, entry.argument)
    drop_compiled()
    return text


def cache_folder() -> Path:
    """Where kernels are kept."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    # the convention: what is not absolute is ignored
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "derive"


def _kept(name: str, key: str) -> Path | None:
    """A file of the cache that holds what its name says."""
    for file in sorted(cache_folder().glob(f"{name}-{key}-*.py")):
        try:
            if file.stem.rpartition("-")[2] == _digest([text_in(file)]):
                return file
        except ValueError:
            continue
    return None


def _key(entry: Entry) -> str | None:
    """Digits over all that a kernel of a file follows from; None where a definition is at hand."""
    if entry.definition is not None:
        return None
    parts = [entry.name, entry.method, entry.argument, entry.function, repr(entry.choice)]
    for file in sources.files(entry.file, theory_folder()):
        parts += [file.name, file.read_bytes().hex()]
    return _digest([*parts, *_of_method(entry.method), *_engine()])


def _of_method(word: str) -> list[str]:
    """The files of a method that another package brings."""
    if word in own():
        return []
    top = sys.modules[type(method(word)).__module__.partition(".")[0]]
    files = [f for folder in getattr(top, "__path__", ()) for f in Path(folder).rglob("*.py")]
    files = sorted(files) or [Path(str(top.__file__))]
    return [f.read_bytes().hex() for f in files]


@cache
def _engine() -> tuple[str, ...]:
    """What every kernel follows from beside its definition: derive's own files, the toolchain."""
    folders = [PACKAGE, Path(str(importlib.resources.files("derive.templates")))]
    files = [f for folder in folders for f in sorted(folder.rglob("*")) if f.is_file()]
    ours = [f for f in files if f.suffix in (".py", ".jinja") and "generated" not in f.parts]
    digest = hashlib.sha256()
    for file in ours:
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest(), repr(sorted(certificate.toolchain().items()))


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:20]


def loaded(file: Path, name: str) -> ModuleType:
    """A kernel's module; the same one for the same content, so that compiled programs are kept."""
    title = f"derive_kernel_{name}_{file.stem.rpartition('-')[2]}"
    if title in sys.modules:
        return sys.modules[title]
    spec = importlib.util.spec_from_file_location(title, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[title] = module
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[title]
        raise
    finally:
        sys.dont_write_bytecode = writes
    return _equipped(module)


def _equipped(module: ModuleType) -> ModuleType:
    from derive.face import results

    results.equip()
    return module

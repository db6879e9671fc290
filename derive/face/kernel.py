"""Kernels from Python: derived, gated, loaded; and kept by content, see `derive.cache`."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from derive import cache
from derive.derivation import LIMIT, derived, rendered
from derive.entry import Entry, generated_folder
from derive.errors import RequestError
from derive.registry import as_typed, find


def compile(model: Any, *, limit: float = 0.0) -> ModuleType:
    """The kernel of a model as a loaded module: `Params`, `simulate` or `solve`, pure functions.

    **Arguments:** `model`, `limit`: as of `derive.derive`.  Every function has been compared with
    its equation (the gate of `derive build`); the text is kept by content, for the next call.
    Nothing is written beside the model; `derive build FILE --out DIR` does that.

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
    key = cache.key_of(entry)
    if key is not None and (known := cache.there(entry.name, key, ".py")) is not None:
        return known
    from derive.gate import require_right

    result = derived(entry, limit)
    text = rendered(entry, result, limit)
    if key is None:  # a definition at hand has no text that says all of it: its kernel's does
        key = cache.digest([text, *cache.engine()])
        if (known := cache.there(entry.name, key, ".py")) is not None:
            return known
    require_right(result, text, entry.method, entry.name, as_typed(entry))
    try:
        return cache.keep(entry.name, key, ".py", text)
    except OSError as problem:
        raise RequestError(
            f"cannot write to {cache.folder()}: {problem.strerror or problem}; set XDG_CACHE_HOME "
            "to a folder that can be written"
        ) from None


def text_of(entry: Entry, limit: float = LIMIT) -> str:
    """The generated module of an entry, derived anew; no text where a step fails its check."""
    return rendered(entry, derived(entry, limit), limit)


def checked_text_of(entry: Entry, limit: float = LIMIT) -> str:
    """The same, once every function in it has been compared with its equation."""
    from derive.gate import require_right
    from derive.verify.common.compare import drop_compiled

    result = derived(entry, limit)
    text = rendered(entry, result, limit)
    require_right(result, text, entry.method, entry.name, as_typed(entry))
    drop_compiled()
    return text


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

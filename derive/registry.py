"""Where definitions live, and how they are found and loaded.

A model is a function with a method's decorator in a file of `theory/`, or in any file of the
user's.  Finding reads the syntax tree and imports nothing, so that listing is instant.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib.util
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from derive import errors
from derive.beside import beside
from derive.dispatch import known, words
from derive.entry import Entry, theory_folder
from derive.errors import DefinitionError, Place, RequestError


def registered() -> list[Entry]:
    """Every model of `theory/`, by name.  Raises DefinitionError for a file that cannot be read."""
    found: dict[str, Entry] = {}
    for file in sorted(theory_folder().glob("*.py")):
        for entry in entries(file):
            if entry.name in found:
                raise DefinitionError(
                    f"the model {entry.name} is also defined in {found[entry.name].file.name}",
                    Place(str(file), 1),
                )
            found[entry.name] = entry
    return [found[name] for name in sorted(found)]


LARGEST = 2**24  # bytes of a definition's file


def entries(file: Path) -> list[Entry]:
    """The models of one file, read from its syntax tree."""
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError(f"{file.stat().st_size} bytes are no definition")
        return list(_read(file, file.read_bytes()))
    except SyntaxError as problem:
        raise DefinitionError(
            f"syntax error: {problem.msg}", Place(str(file), problem.lineno or 1)
        ) from None
    except (OSError, ValueError, RecursionError, MemoryError) as problem:
        why = getattr(problem, "strerror", None) or errors.words(problem)
        raise DefinitionError(f"cannot be read: {why}", Place(str(file), 1)) from None


@lru_cache(maxsize=256)
def _read(file: Path, content: bytes) -> tuple[Entry, ...]:
    """The models of a file that holds `content`, of which Python itself finds the encoding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(content, filename=str(file))
        compile(content, str(file), "exec")  # finds what the syntax tree alone does not
    title = (ast.get_docstring(tree) or "").strip().split("\n")[0]
    out = []
    aliases = _aliases(tree)
    for node in tree.body:
        if isinstance(node, ast.Assign) and _is_applied(node.value, aliases):
            method = _method(node.value.func, aliases)  # type: ignore[attr-defined]
            names = [t.id for t in node.targets if isinstance(t, ast.Name)]
            out += [Entry(name, method, title, file, name) for name in names]
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                method = _method(decorator, aliases)
                if known(method):
                    own = (ast.get_docstring(node) or "").strip().split("\n")[0]
                    out.append(Entry(node.name, method, own or title, file, node.name))
    variants = [
        replace(entry, name=f"{entry.name}_{value}", choice=(option, value))
        for entry in out
        for option, values in _options(tree)
        for value in values[1:]
    ]
    found = (*out, *variants)
    return tuple(replace(entry, among=len(found) > 1) for entry in found)


def _options(tree: ast.Module) -> list[tuple[str, list[str]]]:
    """Options that a file declares, `option("phi", tanh=..., gelu=...)`, with their values."""
    found = []
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call) and _called(n) == "option"):
        if call.args and isinstance(call.args[0], ast.Constant):
            found.append((str(call.args[0].value), [k.arg for k in call.keywords if k.arg]))
    return found


def _aliases(tree: ast.Module) -> dict[str, str]:
    """Names that a file gives to decorators: by import, or as `layer = decorator(...)`."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            found |= {a.asname: a.name for a in node.names if a.asname and known(a.name)}
        if isinstance(node, ast.Assign) and not _is_applied(node.value, found):
            method = _method(node.value, found)
            names = [t.id for t in node.targets if isinstance(t, ast.Name)]
            found |= dict.fromkeys(names, method) if known(method) else {}
    return found


def _is_applied(value: ast.expr, aliases: Mapping[str, str]) -> bool:
    """Whether it is a decorator called on a function: `decorator(...)(f)`, `layer(f)`."""
    if not isinstance(value, ast.Call) or not value.args:
        return False
    maker = value.func
    return known(_method(maker, aliases)) and (
        isinstance(maker, ast.Call) or _called(maker) in aliases
    )


def _method(decorator: ast.expr, aliases: Mapping[str, str]) -> str:
    name = _called(decorator)
    return aliases.get(name, name)


def _called(decorator: ast.expr) -> str:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def find(request: Any) -> Entry:
    """The entry for a registered name, a path (`file.py`, or `file.py:name` if it holds several),
    or a decorated function, wherever it was written.

    Raises RequestError with "did you mean" for what is not there.
    """
    if not isinstance(request, (str, os.PathLike)):
        return _at_hand(request)
    request = os.fspath(request)
    path, wanted = request, ""
    if ":" in request and not Path(request).is_file():
        path, _, wanted = request.rpartition(":")
    if path.endswith(".py") or os.sep in path:
        file = Path(path)
        if file.is_dir():
            raise RequestError(f"{path} is a folder; name a file in it")
        if not file.is_file():
            raise RequestError(f"there is no file {path}")
        found = entries(file.resolve())
        if wanted:
            found = [e for e in found if e.name == wanted]
        if len(found) != 1:
            names = ", ".join(e.name for e in entries(file.resolve())) or "none"
            raise RequestError(
                f"{path} defines these models: {names}; "
                + (
                    f"name one: {path}:NAME"
                    if found or wanted
                    else "decorate a function with "
                    + " or ".join(f"@{word}(...)" for word in words())
                )
            )
        return found[0]
    there = {entry.name: entry for entry in registered()}
    if request in there:
        return there[request]
    close = difflib.get_close_matches(request, there, 1)
    hint = f"did you mean {close[0]}?" if close else f"known models: {', '.join(there)}"
    raise RequestError(f"unknown model {request!r}; {hint}")


def _at_hand(definition: Any) -> Entry:
    """The entry of a decorated function, whose place is the file or the cell it was read in."""
    if not known(getattr(definition, "method", "")):
        what = getattr(definition, "__name__", None) or type(definition).__name__
        raise RequestError(
            f"{what} is no model: give a registered name, a path, or a function decorated with "
            + " or ".join(f"@{word}(...)" for word in words())
        )
    title = (getattr(definition, "doc", "") or "").strip().split("\n")[0]
    file = definition.place.file
    errors.definitions.add(file)
    own = getattr(getattr(definition, "function", None), "__name__", definition.name)
    return Entry(definition.name, definition.method, title, Path(file), own, definition=definition)


def load(entry: Entry) -> Any:
    """Import the file and return the model; whatever it raises becomes a DefinitionError."""
    from derive.notation.common.mistakes import advice
    from derive.notation.common.options import choosing

    if entry.definition is not None:
        return entry.definition
    name = f"_derive_definition_{entry.file.stem}"
    errors.definitions.add(str(entry.file))
    loader = SourceFileLoader(name, str(entry.file))
    spec = importlib.util.spec_from_file_location(name, entry.file, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        with (
            choosing(entry.choice),
            contextlib.nullcontext() if entry.shipped else beside(entry.file.parent),
        ):
            loader.exec_module(module)
    except (DefinitionError, errors.OutOfTime, KeyboardInterrupt):
        raise
    except BaseException as problem:  # SystemExit and the like too: it is the definition's
        said, instead = errors.words(problem), advice(problem)
        raise DefinitionError(
            f"{instead} ({said})" if instead else said,
            errors.place_in(problem) or Place(str(entry.file), 1),
        ) from problem
    finally:
        sys.dont_write_bytecode = writes
        sys.modules.pop(name, None)
    model = getattr(module, entry.function or entry.name, None)
    if not known(getattr(model, "method", "")):
        raise DefinitionError(
            f"{entry.name} is no model once the file has run", Place(str(entry.file), 1)
        )
    return replace(model, name=entry.name)  # type: ignore[type-var]


def asked(requests: Sequence[str]) -> list[Entry]:
    """The entries of several requests; of a file alone, all that it defines."""
    found = []
    for request in requests:
        file = Path(request)
        own = entries(file.resolve()) if file.suffix == ".py" and file.is_file() else []
        found += own if len(own) > 1 else [find(request)]
    return found


def as_typed(entry: Entry, folder: Path | None = None, more: str = "") -> str:
    """What a command line takes for a model, from here, with `more` options, and with the folder
    of its kernels where that is not its own."""
    name = f":{entry.name}" if entry.among else ""
    fixed = entry.shipped or entry.typed
    words = (entry.argument if fixed else f"{shown(entry.file)}{name}") + more
    return words if folder in (None, entry.kernels()) else f"{words} --out {shown(str(folder))}"


def shown(file: Path | str) -> str:
    """A path as the user would write it: relative to here where that is shorter."""
    text = str(file)
    with contextlib.suppress(OSError, ValueError):  # no such folder any more; another drive
        relative = os.path.relpath(file)
        text = relative if len(relative) < len(text) else text
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def placed(problem: Exception) -> str:
    """What is wrong with a definition, behind the place as the user would write it."""
    place = getattr(problem, "place", None)
    message = getattr(problem, "message", str(problem))
    return f"{shown(place.file)}:{place.line}: {message}" if place else str(message)

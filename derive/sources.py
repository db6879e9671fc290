"""What a text of Python says, whatever its comments, docstrings and layout; and what it imports.

Nothing is run: all of it is read from syntax trees.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from importlib.util import decode_source
from pathlib import Path

RUNTIME = Path(__file__).parent / "runtime"


def meaning(text: str) -> str:
    """Sixteen digits over a text's statements.

    Comments, docstrings and layout change nothing, nor does the version of Python that reads it.
    """
    return hashlib.sha256("\0".join(_tokens(ast.parse(text))).encode()).hexdigest()[:16]


_LEFT_OUT = ("ctx", "type_ignores", "type_params", "kind", "type_comment")


def _tokens(node: ast.AST) -> Iterator[str]:
    """The tree in one line; fields that only some versions of Python have occur when they say
    something."""
    yield type(node).__name__
    for name in node._fields:
        value = getattr(node, name, None)
        if name in _LEFT_OUT and not (name == "type_params" and value):
            continue
        if name == "body" and isinstance(value, list):
            value = value[1:] if value and _is_docstring(value[0]) else value
        if value is None or value == []:
            if isinstance(node, ast.Constant):
                yield "None"
            continue
        yield name
        if isinstance(value, ast.AST):
            yield from _tokens(value)
        elif isinstance(value, list):
            for item in value:
                yield from _tokens(item) if isinstance(item, ast.AST) else [repr(item)]
        else:
            yield repr(value)
        yield ";"


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def reached(text: str) -> set[str]:
    """Modules of derive.runtime that a file imports, at its top or later, as folders/name."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("derive.runtime."):
            _, _, *parts = (node.module or "").split(".")
            place = "/".join(parts)
            folder = (RUNTIME / place).is_dir()
            found |= {f"{place}/{alias.name}" for alias in node.names} if folder else {place}
    return found


def needed(text: str) -> list[str]:
    """Every module of derive.runtime that a kernel needs, through other ones too."""
    return _closure(reached(text), lambda part: _imports_and_meaning(part)[0])


def runtime_meanings(parts: Iterable[str]) -> dict[str, str]:
    return {part: _imports_and_meaning(part)[1] for part in parts}


@cache
def _imports_and_meaning(part: str) -> tuple[frozenset[str], str]:
    file = RUNTIME / f"{part}.py"
    if not file.is_file():
        return frozenset(), "absent"
    text = file.read_text(encoding="utf-8")
    return frozenset(reached(text)), meaning(text)


def _closure(start: Iterable[str], following: Callable[[str], Iterable[str]]) -> list[str]:
    pending, done = set(start), set()
    while pending:
        part = pending.pop()
        done.add(part)
        pending |= set(following(part)) - done
    return sorted(done)


def definition(file: Path, theory: Path) -> dict[str, str]:
    """Meanings of a definition's file and of those that it imports, by module name.

    Those of `theory`, and those that lie beside the file; what is installed is not followed.
    """
    parts = {name: meaning(text) for name, _, text in _parts(file, theory)}
    return dict(sorted(parts.items()))


def says_all(file: Path, fixed: Collection[str]) -> bool:
    """Whether what a definition's file does follows from its text, and from those of `fixed` and
    of the files beside it that it imports."""
    tree = ast.parse(decode_source(file.read_bytes()))
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                return False
            names = [node.module or ""]
        elif isinstance(node, ast.Name) and node.id in _READS:
            return False
        for name in names:
            beside = "." not in name and (file.parent / f"{name}.py").is_file()
            if not beside and name.partition(".")[0] not in fixed:
                return False
    return True


_READS = {"open", "exec", "eval", "compile", "__import__", "input", "globals", "__builtins__"}


def files(file: Path, theory: Path) -> list[Path]:
    """A definition's file and those that it imports, in order of name."""
    return [place for _, place, _ in sorted(_parts(file, theory))]


def _parts(file: Path, theory: Path) -> Iterator[tuple[str, Path, str]]:
    """Module name, place and text of a definition's file and of those that it imports."""
    found: set[str] = set()
    pending = [(file.stem, file)]
    while pending:
        name, place = pending.pop()
        if name in found:
            continue
        found.add(name)
        text = decode_source(place.read_bytes())
        yield name, place, text
        for module in imported(text):
            stem = module.split(".")[-1]
            ours = module.startswith("derive.theory.")
            target = (theory if ours else file.parent) / f"{stem}.py"
            if (ours or "." not in module) and target.is_file():
                pending.append((stem, target))


def imported(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            if node.module == "derive.theory":
                yield from (f"derive.theory.{alias.name}" for alias in node.names)

"""Tell which terms of which equations changed.

Derives MODEL anew and compares with its generated module, or with --against.  Where the other side
is a definition too, terms are compared by value; where it is the text of a module, line by line.
Exit code 1 if an equation, a parameter or the signature differs.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import tempfile
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from derive.commands.options import add_kernels
from derive.derivation import add_limit, derived
from derive.entry import Entry
from derive.errors import RequestError
from derive.files import present, text_in
from derive.process import has_signs
from derive.registry import as_typed, find, shown
from derive.sources import imported

if TYPE_CHECKING:
    from derive.face.equations import Equations


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    add_limit(parser)
    add_kernels(parser)
    parser.add_argument(
        "--against",
        metavar="FILE|REV",
        help="a generated module, a theory file, or a git revision of the generated module "
        "(default: the generated module as it is)",
    )


class Other(NamedTuple):
    """What to compare with: how to call it, and what is there of it."""

    label: str
    equations: Equations | None = None
    text: str | None = None


class Content(NamedTuple):
    """What a generated module says: its equations in lines, parameters, signature."""

    lines: tuple[str, ...]
    params: tuple[str, ...]
    signature: str


def run(options: argparse.Namespace) -> int:
    entry = find(options.model)
    other = _other(entry, options.against, options.kernels, options.limit)
    new = _equations(entry, options.limit)
    fresh = new.code
    lines = [] if other.equations is None else by_value(other.equations, new)
    if not lines and other.text is not None:
        lines = differences(read(other.text, other.label), read(fresh, entry.source))
        if lines and other.equations is not None:
            lines.insert(0, "every term is equal by value; its module there shows other lines")
    if lines:
        print(f"--- {other.label}\n+++ {entry.source}, derived anew")
        from derive.emit.common.unicode import with_signs  # imports SymPy

        print("\n".join(map(with_signs, lines) if has_signs() else lines))
        return 1
    same = fresh == other.text or options.against
    note = "" if same else f"; its code is not: derive build {as_typed(entry)}"
    print(f"{entry.name}: every term of every equation is as in {other.label}{note}")
    return 0


def _equations(entry: Entry, limit: float) -> Equations:
    from derive.face.equations import Equations

    found = Equations(entry, derived(entry, limit))
    found.require_sound()
    return found


def _other(entry: Entry, against: str | None, kernels: Path | None, limit: float) -> Other:
    target = entry.kernels(kernels) / f"{entry.name}.py"
    if against is None:
        mend = f"run: derive build {as_typed(entry, kernels)}, or pass --against FILE"
        if not present(target):
            raise RequestError(f"{shown(target)} does not exist; {mend}")
        return Other(shown(target), text=_text(target, mend))
    file = Path(against)
    if file.is_dir():
        raise RequestError(f"--against {against}: is a folder; name a file in it")
    if file.is_file():
        text = _text(file, "name another file")
        if "EQUATIONS" in text:
            return Other(shown(file), text=text)
    if against.endswith(".py") or ".py:" in against:  # a theory file; says so if there is none
        return Other(against, _equations(find(against), limit))
    return _then(entry, target, against, limit)


def _then(entry: Entry, target: Path, revision: str, limit: float) -> Other:
    """The definition in a revision, and its module if that holds it too."""
    label = f"{entry.source} at {revision}"
    try:
        text = _at_revision(target, revision)
    except RequestError:
        return Other(label, _defined_at(entry, revision, limit))
    try:
        return Other(label, _defined_at(entry, revision, limit), text)
    except RequestError:
        return Other(f"{target.name} at {revision}", text=text)


def _defined_at(entry: Entry, revision: str, limit: float) -> Equations:
    """A definition as it was, with those it imports from its folder as they were."""
    with tempfile.TemporaryDirectory() as folder:
        pending, seen = [entry.file.name], set()
        while pending:
            name = pending.pop()
            seen.add(name)
            try:
                then = _at_revision(entry.file.with_name(name), revision)
            except RequestError:
                if name == entry.file.name:
                    raise
                continue  # of another package
            beside = _SHIPPED.sub("", then)
            (Path(folder) / name).write_text(beside, encoding="utf-8")
            pending += {f"{m}.py" for m in imported(beside) if "." not in m} - seen
        return _equations(find(f"{Path(folder) / entry.file.name}:{entry.name}"), limit)


_SHIPPED = re.compile(r"(?<=from )derive\.theory\.(?=\w+ import)")  # there, they lie side by side


def _text(file: Path, remedy: str) -> str:
    try:
        return text_in(file)
    except ValueError as problem:
        raise RequestError(f"{shown(file)} {problem}; {remedy}") from None


def _at_revision(target: Path, revision: str) -> str:
    """Text of a file in a revision of the repository around it."""
    if revision.startswith("-"):
        raise RequestError(f"--against {revision}: is neither a file nor a git revision")
    try:
        done = subprocess.run(
            ["git", "show", f"{revision}:./{target.name}"],
            cwd=target.parent,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, ValueError) as problem:
        raise RequestError(f"--against {revision}: git cannot be run ({problem})") from None
    if done.returncode:
        reason = done.stderr.strip().split("\n")[-1].removeprefix("fatal: ")
        raise RequestError(
            f"--against {revision}: no such file, and git finds no {target.name} there: {reason}"
        )
    return done.stdout


def read(text: str, label: str) -> Content:
    """What a generated module shows, read from its syntax tree; nothing is run."""
    try:
        tree = ast.parse(text)
        (signature,) = (
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "SIGNATURE"
        )
        shows = (ast.get_docstring(tree) or "").split("\nBody ", 1)[1].split("\n\n", 1)[1]
    except (SyntaxError, ValueError, IndexError, TypeError, RecursionError, MemoryError):
        raise RequestError(f"{label} is not a module that `derive build` wrote") from None
    params = next(
        (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Params"), None
    )
    described = " ".join((ast.get_docstring(params) or "").split()) if params else ""
    items = described.removeprefix("Parameters: ").rstrip(".").split("; ")
    lines = shows.partition("\nFacts:")[0].split("\n")
    return Content(tuple(x for x in lines if x), tuple(i for i in items if i), signature)


def by_value(old: Equations, new: Equations) -> list[str]:
    """Lines: an equation's name, then its terms that went (-) and that came (+)."""
    return [*old.compare(new).rows, *_declared(read(old.code, ""), read(new.code, ""))]


def differences(old: Content, new: Content) -> list[str]:
    """Lines of equations that went (-) and that came (+), under the line that they belong to."""
    out: list[str] = []
    told = ""
    for word, i, j, k, end in SequenceMatcher(None, old.lines, new.lines, False).get_opcodes():
        if word == "equal":
            continue
        lines, place = (new.lines, k) if end > k else (old.lines, i)
        if (head := _head(lines, place)) not in ("", told):
            out.append(head)
            told = head
        out += [f"-   {t.strip()}" for t in old.lines[i:j]]
        out += [f"+   {t.strip()}" for t in new.lines[k:end]]
    declared = _declared(old, new)
    if not out and old.params == new.params and declared:
        out = ["the equations are the same; the layer or the declarations are not"]
    return out + declared


def _head(lines: Sequence[str], place: int) -> str:
    """The nearest line above that is indented less."""
    depth = _indent(lines[place])
    return next((t for t in reversed(lines[:place]) if _indent(t) < depth), "").strip()


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _declared(old: Content, new: Content) -> list[str]:
    out: list[str] = []
    if old.params != new.params:
        out.append("parameters")
        out += [f"-   {p}" for p in old.params if p not in new.params]
        out += [f"+   {p}" for p in new.params if p not in old.params]
    if old.signature != new.signature:
        out += ["signature", f"-   {old.signature}", f"+   {new.signature}"]
    return out

"""Tell which terms of which equations changed.

Derives MODEL anew and compares with its generated module, or with --against.  Exit code 1 if an
equation, a parameter or the signature differs.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from derive.commands.options import add_kernels
from derive.derivation import add_limit
from derive.entry import Entry, theory_folder
from derive.errors import RequestError
from derive.face.kernel import text_of
from derive.files import present, text_in
from derive.registry import find, shown
from derive.sources import files


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


class Content(NamedTuple):
    """What a generated module says: terms by equation, parameters, signature."""

    equations: dict[str, Counter[str]]
    params: tuple[str, ...]
    signature: str


def run(options: argparse.Namespace) -> int:
    entry = find(options.model)
    label, old_text = _other(entry, options.against, options.kernels)
    old, fresh = read(old_text, label), text_of(entry, options.limit)
    new = read(fresh, entry.source)
    lines = differences(old, new)
    if lines:
        print(f"--- {label}\n+++ {entry.source}, derived anew")
        print("\n".join(lines))
        return 1
    same = fresh == old_text
    note = "" if same or options.against else f"; its code is not: derive build {entry.argument}"
    print(f"{entry.name}: every term of every equation is as in {label}{note}")
    return 0


def _other(entry: Entry, against: str | None, kernels: Path | None) -> tuple[str, str]:
    """What to compare with: how to call it, and its text."""
    target = entry.kernels(kernels) / f"{entry.name}.py"
    if against is None:
        if not present(target):
            raise RequestError(
                f"{shown(target)} does not exist; run derive build {entry.argument}, or pass "
                "--against FILE"
            )
        mend = f"run: derive build {entry.argument}, or pass --against FILE"
        return shown(target), _text(target, mend)
    file = Path(against)
    if file.is_dir():
        raise RequestError(f"--against {against}: is a folder; name a file in it")
    if file.is_file():
        text = _text(file, "name another file")
        if "EQUATIONS" in text:
            return shown(file), text
    if against.endswith(".py") or ".py:" in against:
        return against, text_of(find(against))  # a theory file; says so if there is none
    if not entry.shipped:
        return f"{entry.source} at {against}", _defined_at(entry, against)
    return f"{entry.name}.py at {against}", _at_revision(target, against)


def _defined_at(entry: Entry, revision: str) -> str:
    """The module of a definition as it was, with those it imports as they were."""
    with tempfile.TemporaryDirectory() as folder:
        for file in files(entry.file, theory_folder()):
            if file.parent == entry.file.parent:
                then = _at_revision(file, revision)
                (Path(folder) / file.name).write_text(then, encoding="utf-8")
        there = Path(folder) / entry.file.name
        return text_of(find(f"{there}:{entry.name}"))


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
    """The equations of a generated module, read from its syntax tree; nothing is run."""
    try:
        tree = ast.parse(text)
        constants = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id in ("EQUATIONS", "SIGNATURE")
        }
        equations, signature = constants["EQUATIONS"], constants["SIGNATURE"]
    except (SyntaxError, ValueError, KeyError, TypeError, RecursionError, MemoryError):
        raise RequestError(f"{label} is not a module that `derive build` wrote") from None
    params = next(
        (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Params"), None
    )
    described = " ".join((ast.get_docstring(params) or "").split()) if params else ""
    found: dict[str, Counter[str]] = {}
    for name, latex in equations.items():
        for left, terms in statements(latex):
            found[f"{name}: {left}" if left else name] = Counter(terms)
    items = described.removeprefix("Parameters: ").rstrip(".").split("; ")
    return Content(found, tuple(i for i in items if i), signature)


def statements(latex: str) -> list[tuple[str, list[str]]]:
    """`a = b + c,\\quad d = e` as [(a, [+ b, + c]), (d, [+ e])]."""
    out = []
    for part in re.split(r",\\quad ", latex):
        left, equals, right = part.partition(" = ")
        out.append((left, terms(right)) if equals else ("", terms(part)))
    return out


_OPEN, _CLOSE = "{([", "})]"


def terms(latex: str) -> list[str]:
    """A sum cut at its own signs, those outside every bracket; each term with its sign."""
    out, current, sign, depth = [], "", "+", 0
    for letter in latex:
        depth += (letter in _OPEN) - (letter in _CLOSE)
        # A sign after an operator or a command belongs to what follows: "a \\cdot - b" has none.
        if depth == 0 and letter in "+-" and not current.rstrip().endswith((r"\cdot", r"\odot")):
            if current.strip():
                out.append(f"{sign} {' '.join(current.split())}")
            current, sign = "", letter
        else:
            current += letter
    if current.strip():
        out.append(f"{sign} {' '.join(current.split())}")
    return out


def differences(old: Content, new: Content) -> list[str]:
    """Lines: an equation's name, then its terms that went (-) and that came (+)."""
    out: list[str] = []
    for name in dict.fromkeys([*old.equations, *new.equations]):
        before = old.equations.get(name, Counter())
        after = new.equations.get(name, Counter())
        if before == after:
            continue
        word = "" if before and after else "  (new)" if after else "  (gone)"
        out.append(f"{name}{word}")
        out += [f"-   {t}" for t in (before - after).elements()]
        out += [f"+   {t}" for t in (after - before).elements()]
    if old.params != new.params:
        out.append("parameters")
        out += [f"-   {p}" for p in old.params if p not in new.params]
        out += [f"+   {p}" for p in new.params if p not in old.params]
    if old.signature != new.signature:
        if not out:
            out.append("the equations are the same; the layer or the declarations are not")
        out += ["signature", f"-   {old.signature}", f"+   {new.signature}"]
    return out

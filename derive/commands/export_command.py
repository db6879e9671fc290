"""Copy a generated module into your own package, with the runtime files it needs.

The copy imports without derive: jax and numpy are all it depends on.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from pathlib import Path

from derive.commands.build_command import require_writable, text_of, write_whole
from derive.errors import RequestError
from derive.registry import Entry, find, generated_folder, shown
from derive.version import ENGINE

RUNTIME = "derive_runtime"  # name of the copy's folder of runtime files
NOTE = f"# Exported by derive {ENGINE} (MIT licence, the derive authors); imports rewritten.\n"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="folder of your package"
    )


def run(options: argparse.Namespace) -> int:
    entry, folder = find(options.model), options.to
    if folder.resolve() == generated_folder():
        raise RequestError(f"{shown(folder)} is where derive build writes; choose another folder")
    files = copies(entry.name, _text(entry))
    certificate = generated_folder() / f"{entry.name}.cert.json"
    if certificate.exists() and _signature(files[f"{entry.name}.py"]) == _signature(
        certificate.read_text(encoding="utf-8")
    ):
        files[certificate.name] = certificate.read_text(encoding="utf-8")
    # Whatever a later export may replace starts with the note; anything else is somebody's own.
    foreign = [
        folder / name
        for name, text in files.items()
        if (folder / name).exists()
        and name.endswith(".py")
        and not (folder / name).read_text(encoding="utf-8").startswith(NOTE.split(" derive ")[0])
    ]
    if foreign:
        raise RequestError(f"{shown(foreign[0])} is not of an export, and is left as it is")
    require_writable(folder)
    require_writable(folder / RUNTIME)
    for name, text in files.items():
        write_whole(folder / name, text)
    if not (folder / "__init__.py").exists():
        write_whole(folder / "__init__.py", "")
    print(f"{shown(folder / entry.name)}.py")
    print(f"{shown(folder / RUNTIME)}: {len(files) - 1} files", file=sys.stderr)
    package = folder.resolve().name
    print(f"from Python: from {package} import {entry.name}", file=sys.stderr)
    return 0


def _text(entry: Entry) -> str:
    """The generated module: as it is, or derived if it was never built (a file of the user's)."""
    file = generated_folder() / f"{entry.name}.py"
    shipped = entry.source != entry.file.name
    return file.read_text(encoding="utf-8") if shipped and file.exists() else text_of(entry)


def _signature(text: str) -> str:
    match = re.search(r'(?:SIGNATURE = |"signature": )"(\w+)"', text)
    return match.group(1) if match else ""


def copies(name: str, text: str) -> dict[str, str]:
    """Contents by path in the target folder: the module and every runtime file it reaches."""
    runtime = Path(__file__).parent.parent / "runtime"
    out = {f"{name}.py": NOTE + _certificate_beside(rewritten(text, f".{RUNTIME}"))}
    pending = {"__init__", *reached(text)}
    done: set[str] = set()
    while pending:
        part = pending.pop()
        done.add(part)
        source = (runtime / f"{part}.py").read_text(encoding="utf-8")
        out[f"{RUNTIME}/{part}.py"] = NOTE + rewritten(source, ".")
        pending |= reached(source) - done
    return out


def reached(text: str) -> set[str]:
    """Modules of derive.runtime that a file imports, at its top or later."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == "derive.runtime":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("derive.runtime."):
            found.add((node.module or "").split(".")[2])
    return found


def rewritten(text: str, package: str) -> str:
    """The file with derive.runtime taken from `package`, a relative name."""

    def relative(match: re.Match[str]) -> str:
        space, part = match.group(1), match.group(2) or ""
        return f"{space}from {(package + part).replace('..', '.')} import"

    text = re.sub(r"(?m)^(\s*)from derive\.runtime(\.\w+)? import", relative, text)
    for node in ast.walk(ast.parse(text)):
        named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        named += [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if any(name.split(".")[0] == "derive" for name in named) and not getattr(node, "level", 0):
            raise AssertionError(f"an import of derive is left: {ast.unparse(node)}")
    return text


def _certificate_beside(text: str) -> str:
    return re.sub(r'(?m)^CERTIFICATE = "generated/', 'CERTIFICATE = "', text)

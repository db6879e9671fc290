"""Copy a generated module into your own package, with the runtime files it needs.

The copy imports without derive: jax and numpy are all it depends on.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from pathlib import Path, PurePosixPath

from derive.certificate import verdict
from derive.commands.options import add_kernels
from derive.entry import Entry, generated_folder
from derive.errors import RequestError
from derive.face.kernel import text_of
from derive.files import present, require_writable, text_in, write_whole
from derive.kernels import kernel_text
from derive.registry import as_typed, find, shown
from derive.sources import needed
from derive.version import ENGINE

RUNTIME = "derive_runtime"  # name of the copy's folder of runtime files
NOTE = f"# Exported by derive {ENGINE} (MIT licence, the derive authors); imports rewritten.\n"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="folder of your package"
    )
    add_kernels(parser)


def run(options: argparse.Namespace) -> int:
    entry, folder = find(options.model), options.to
    if folder.resolve() == generated_folder():
        raise RequestError(f"{shown(folder)} is where derive build writes; choose another folder")
    kernels = entry.kernels(options.kernels)
    text = _text(entry, kernels)
    files = copies(entry.name, text)
    files |= _certificate(entry, text, kernels)
    # Whatever a later export may replace starts with the note; anything else is somebody's own.
    foreign = [folder / name for name in files if not _replaceable(folder / name)]
    if foreign:
        raise RequestError(f"{shown(foreign[0])} is not of an export, and is left as it is")
    require_writable(folder, "--to")
    for place in {str(Path(name).parent) for name in files}:
        require_writable(folder / place, "--to")
    for name, text in files.items():
        write_whole(folder / name, text)
    certificate = f"{entry.name}.cert.json"
    if certificate not in files:  # one of an earlier export vouches for another kernel
        (folder / certificate).unlink(missing_ok=True)
    if not (folder / "__init__.py").exists():
        write_whole(folder / "__init__.py", "")
    print(f"{shown(folder / entry.name)}.py")
    print(f"{shown(folder / RUNTIME)}: {len(files) - 1} files", file=sys.stderr)
    package = folder.resolve().name
    print(f"from Python: from {package} import {entry.name}", file=sys.stderr)
    return 0


def _replaceable(file: Path) -> bool:
    """Whether nothing is there, or what an export has written."""
    if not present(file):
        return True
    try:
        text = text_in(file)
    except ValueError:
        return False
    return file.suffix != ".py" or text.startswith(NOTE.split(" derive ")[0])


def _text(entry: Entry, kernels: Path) -> str:
    """The generated module: as it is, or derived if it was never built (a file of the user's)."""
    file = kernels / f"{entry.name}.py"
    return kernel_text(file, entry) if entry.shipped and present(file) else text_of(entry)


def _certificate(entry: Entry, text: str, kernels: Path) -> dict[str, str]:
    """The certificate, if it holds for what is exported; a word if it does not."""
    kernel = kernels / f"{entry.name}.py"
    file = kernel.with_suffix(".cert.json")
    found = verdict(kernels, entry)
    if found.holds and text_in(kernel) == text:
        return {file.name: text_in(file)}
    print(
        f"exported without a certificate ({found.state}: {found.why}); "
        f"derive verify {as_typed(entry, kernels)} makes one",
        file=sys.stderr,
    )
    return {}


def copies(name: str, text: str) -> dict[str, str]:
    """Contents by path in the target folder: the module and every runtime file it reaches."""
    runtime = Path(__file__).parent.parent / "runtime"
    out = {f"{name}.py": NOTE + _certificate_beside(rewritten(text, f".{RUNTIME}"))}
    parts = needed(text)
    folders = sorted({str(f) for part in parts for f in PurePosixPath(part).parents})
    for part in [*(str(PurePosixPath(f) / "__init__") for f in folders), *parts]:
        source = (runtime / f"{part}.py").read_text(encoding="utf-8")
        out[f"{RUNTIME}/{part}.py"] = NOTE + rewritten(source, "." * part.count("/"))
    return out


def rewritten(text: str, package: str) -> str:
    """The file with derive.runtime taken from `package`, a relative name."""

    def relative(match: re.Match[str]) -> str:
        return f"{match.group(1)}from {package}{match.group(2)} import"

    text = re.sub(r"(?m)^(\s*)from derive\.runtime((?:\.\w+)+) import", relative, text)
    for node in ast.walk(ast.parse(text)):
        named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        named += [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if any(name.split(".")[0] == "derive" for name in named) and not getattr(node, "level", 0):
            raise AssertionError(f"an import of derive is left: {ast.unparse(node)}")
    return text


def _certificate_beside(text: str) -> str:
    return re.sub(r'(?m)^CERTIFICATE = "generated/', 'CERTIFICATE = "', text)

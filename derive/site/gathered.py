"""What lies beside a report: the definition's file, its kernel, certificate and pictures."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from derive.dispatch import method
from derive.entry import Entry, generated_folder
from derive.files import present, text_in
from derive.notation.common.declared import symbols_of
from derive.notation.common.scalars import Dim, Param
from derive.registry import load
from derive.site.beside import Beside

RULES = "rules.md"  # which broken rules are noticed, as `derive mutate --rules` writes it
KINDS = ("svg", "png")


def beside(entry: Entry, kernels: Path | None = None) -> Beside:
    """All that there is of an entry, without properties, pictures and links."""
    folder = entry.kernels(kernels)
    kind = method(entry.method)
    return Beside(
        source=entry.source,
        definition="" if entry.typed else read(entry.file),
        kernel=read(folder / f"{entry.name}.py"),
        certificate=read(folder / f"{entry.name}.cert.json"),
        rules=read(generated_folder() / RULES),
        method=entry.method,
        notation=tuple(notation(entry)),
        computed=kind.computed,
    )


def notation(entry: Entry) -> Iterator[tuple[str, str]]:
    """Sizes and parameters that are declared around a definition, with what they are."""
    function = getattr(load(entry), "function", None)
    if function is None:
        return
    there = {id(v): v for v in function.__globals__.values() if isinstance(v, (Dim, Param))}
    if entry.typed:
        found = [*symbols_of(function, Dim).values(), *symbols_of(function, Param).values()]
    else:
        found = list(there.values())
    for symbol in found:
        own = symbol.range.text if isinstance(symbol, Param) else symbol.scaling or ""
        yield symbol.name, symbol.meaning or own


def read(file: Path) -> str:
    """A text, empty where there is none that can be read."""
    try:
        return text_in(file) if present(file) else ""
    except ValueError:
        return ""


def digest(found: Beside) -> str:
    """Digits over all that is shown."""
    return hashlib.sha256(repr(found).encode("utf-8", "surrogatepass")).hexdigest()[:20]


def cost(kernel: str) -> str:
    """How many operations of what size a kernel's functions take, as its head says it."""
    found = re.search(r"^Operations: (.*?)\n\s*\n", kernel, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()).rstrip(".") if found else ""


def pictures(entry: Entry, folder: Path) -> Iterator[tuple[str, Path]]:
    """Titles and files of the figures in a folder that draw a model of this name."""
    for name, figure in method(entry.method).figures().items():
        files = [f for kind in KINDS if (f := folder / f"{name}.{kind}").is_file()]
        if files and entry.name in _drawn(figure.module, figure.model):
            yield figure.title, files[0]


def _drawn(module: str, model: str) -> Sequence[str]:
    if model:
        return (model,)
    request: Mapping[str, object] = import_module(f"derive.figures.{module}").REQUEST
    models = request.get("models") or [request.get("model", "")]
    return [str(m) for m in models]  # type: ignore[attr-defined]


def with_properties(found: Beside, properties: Mapping[str, str]) -> Beside:
    """The properties of a derivation, and what its kernel costs."""
    said = {**properties, "cost": cost(found.kernel)}
    return replace(found, properties={k: v for k, v in said.items() if v})

"""Reference pages, made of docstrings: `make reference`, and part of `derive report`.

Input: what `import derive` offers with the classes that it returns, and built kernels.  Output:
pages of HTML, `derive.html` and `MODEL.html` for every kernel; they are written into the folder DIR
by `python -m derive.face.reference DIR [MODEL ...]`.
"""

from __future__ import annotations

import html
import inspect
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import derive
from derive.entry import generated_folder
from derive.face.ansatz import Ansatz, Rates
from derive.face.certified import Certificate
from derive.face.comparing import Difference
from derive.face.equation import Equation
from derive.face.equations import Equations
from derive.face.kernel import load
from derive.files import require_writable, write_whole
from derive.site.page import page as whole

RETURNED = (Equations, Equation, Ansatz, Rates, Difference, Certificate)


def public() -> Iterator[tuple[str, Any]]:
    """What `import derive` offers and returns, by name: functions, classes and their members."""
    for name in derive.__all__:
        value = getattr(derive, name)
        if not isinstance(value, type):
            yield f"derive.{name}", value
    for kind in RETURNED:
        yield kind.__name__, kind
        for name, member in vars(kind).items():
            if not name.startswith("_") and (
                isinstance(member, (FunctionType, property, cached_property))
            ):
                yield f"{kind.__name__}.{name}", member


def functions(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Public functions and named tuples that a kernel defines."""
    for name, value in vars(module).items():
        own = getattr(value, "__module__", "") == module.__name__
        if own and not name.startswith("_") and callable(value):
            yield name, value


def page(title: str, intro: str, members: Iterable[tuple[str, Any]]) -> str:
    """One page: each name with its arguments, and its docstring as it stands."""
    parts = [_as_it_stands(intro)]
    for name, value in members:
        head = html.escape(name + _arguments(value))
        parts += [
            f'<h2 id="{html.escape(name)}"><code>{head}</code></h2>',
            _as_it_stands(said(value)),
        ]
    return whole(title, "\n".join(parts))


def _as_it_stands(text: str) -> str:
    return f"<pre>{html.escape(text.strip())}</pre>"


def said(value: Any) -> str:
    """A docstring, or of a value how it is written."""
    if isinstance(value, (FunctionType, type, property, cached_property)) or callable(value):
        return inspect.getdoc(value) or ""
    return f"{value!r}, of type {type(value).__name__}"


def _arguments(value: Any) -> str:
    if isinstance(value, property | cached_property) or not callable(value):
        return ""
    signature = inspect.signature(value)
    own = [p.replace(annotation=p.empty) for n, p in signature.parameters.items() if n != "self"]
    return str(signature.replace(parameters=own, return_annotation=signature.empty))


def pages(models: Iterable[str] = ()) -> dict[str, str]:
    """Pages by file name.  Raises RequestError for a kernel that is not built."""
    kernels = list(models) or sorted(f.stem for f in generated_folder().glob("[!_]*.py"))
    out = {"derive.html": python_page()}
    for name in kernels:
        out[f"{name}.html"] = kernel_page(load(name))
    return out


def python_page() -> str:
    """The page of what `import derive` offers."""
    return page("derive", inspect.getdoc(derive) or "", public())


def kernel_page(module: ModuleType) -> str:
    """The page of one kernel: its head, and what it offers."""
    return page(module.MODEL, module.__doc__ or "", functions(module))


def write(folder: Path, models: Iterable[str] = ()) -> None:
    """Write the pages.  Raises RequestError for a folder that cannot be written."""
    require_writable(folder, "another DIR")
    for name, text in pages(models).items():
        write_whole(folder / name, text)


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2:])

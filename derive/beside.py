"""Imports of files that lie beside a definition, while the definition is run.

A definition may say `import parts` for the file parts.py in its own folder, as a script may.  What
it imported is forgotten afterwards: another folder may hold another parts.py, and an edit is seen.
A name of the standard library, or of what derive is made of, is never taken from that folder.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from derive import errors

MADE_OF = {"derive", "jax", "jaxlib", "jinja2", "markupsafe", "mpmath", "numpy", "scipy", "sympy"}


class _Beside(MetaPathFinder):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self.folder / f"{name}.py"
        if name in sys.stdlib_module_names or name in MADE_OF or not file.is_file():
            return None
        self.found.add(name)
        errors.definitions.add(str(file))
        return importlib.util.spec_from_file_location(name, file)


@contextmanager
def beside(folder: Path) -> Iterator[None]:
    """Within, modules of `folder` can be imported by name."""
    finder = _Beside(folder)
    hidden = {n: sys.modules.pop(n) for n in list(sys.modules) if _shadows(n, folder)}
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.found:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


def _shadows(name: str, folder: Path) -> bool:
    """Whether a loaded module has the name of a file here, of which the file is meant."""
    if name in sys.stdlib_module_names or name in MADE_OF or "." in name:
        return False
    return (folder / f"{name}.py").is_file()

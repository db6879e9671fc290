"""Modules that a test has built, imported from their files."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def imported(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"built_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

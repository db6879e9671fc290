"""Generated modules for figures."""

from __future__ import annotations

from types import ModuleType

from derive.errors import RequestError
from derive.registry import generated_folder, shown


def model(name: str) -> ModuleType:
    """The generated module of a registered model."""
    from derive.verify.ladder import load_module

    file = generated_folder() / f"{name}.py"
    if not file.exists():
        raise RequestError(f"{shown(file)} does not exist; run: derive build {name}")
    return load_module(file)

"""Generated modules for figures."""

from __future__ import annotations

from types import ModuleType

from derive.entry import generated_folder
from derive.kernels import kernel


def model(name: str) -> ModuleType:
    """The generated module of a registered model."""
    return kernel(generated_folder() / f"{name}.py", name)

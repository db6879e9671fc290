"""Generated modules for figures."""

from __future__ import annotations

from types import ModuleType

from derive.kernels import kernel
from derive.registry import generated_folder


def model(name: str) -> ModuleType:
    """The generated module of a registered model."""
    return kernel(generated_folder() / f"{name}.py", name)

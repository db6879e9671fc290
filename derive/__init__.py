"""Derive the limits of attention models from their definitions, with verified JAX kernels.

>>> import derive
>>> eq = derive.derive("shaped_attention")   # or a path, or a decorated function
>>> eq.drift                                 # shown as mathematics; .sympy(m=2), .subs, .limit, ...
>>> kernel = derive.compile(my_model)        # a generated module, gated, loaded, cached
>>> derive.load("shaped_attention")          # a kernel that comes with derive
>>> derive.verify(my_model)                  # the ladder, as a table

Importing this loads neither JAX nor SymPy nor NumPy; the first use of a name does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from derive.face.ansatz import Ansatz as Ansatz
    from derive.face.ansatz import equicorrelated as equicorrelated
    from derive.face.certified import verify as verify
    from derive.face.equations import derive as derive
    from derive.face.kernel import compile as compile
    from derive.face.kernel import load as load
    from derive.face.results import plot as plot
    from derive.face.results import to_xarray as to_xarray

_HOMES = {
    "Ansatz": "ansatz",
    "equicorrelated": "ansatz",
    "derive": "equations",
    "compile": "kernel",
    "load": "kernel",
    "plot": "results",
    "to_xarray": "results",
}

__all__ = [*_HOMES, "verify"]


def __getattr__(name: str) -> Any:
    if name == "verify":  # a stage's folder too, whose package is the function: see its __init__
        return import_module("derive.verify")
    if name not in _HOMES:
        raise AttributeError(f"module 'derive' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"derive.face.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

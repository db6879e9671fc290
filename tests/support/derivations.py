"""Derivations of the registered models, each made once for all tests of a process.

For tests that look at a derivation.  One that breaks the engine first derives anew.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from derive.derivation import derived
from derive.registry import find


@cache
def derivation(name: str) -> Any:
    return derived(find(name))

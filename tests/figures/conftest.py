"""What the tests of figures share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def small() -> Callable[[str], tuple[dict[str, Any], dict[str, Any]]]:
    """Request and arrays of a figure at its small size, computed once."""
    from small_figures import MODULES, SMALL

    kept: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}

    def find(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        if name not in kept:
            request = MODULES[name].REQUEST | SMALL[name]
            seen: list[float] = []
            arrays = MODULES[name].compute(request, seen.append)
            assert seen == sorted(seen) and seen[0] >= 0 and seen[-1] <= 1
            kept[name] = request, {k: np.asarray(v) for k, v in arrays.items()}
        return kept[name]

    return find

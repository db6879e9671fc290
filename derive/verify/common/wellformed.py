"""What is wrong with the scalars of a traced definition: an L0 for any method."""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp

from derive.notation.common.arrays import Array
from derive.notation.common.scalars import Share


def faults(nodes: Iterable[Array], declared: Iterable[sp.Symbol]) -> dict[str, list[str]]:
    """Symbols that nothing declares and numbers that are not exact, by kind; empty if there are
    none.  `nodes`: of the graph; `declared`: dimensions and parameters."""
    found = list(nodes)
    numbers = [sp.sympify(a.data) for a in found if a.op == "full"]
    sizes = [sp.sympify(d) for a in found for d in a.shape]
    symbols = {s for e in (*numbers, *sizes) for s in e.free_symbols}
    undeclared = {str(s) for s in symbols - set(declared) if not isinstance(s, Share)}
    inexact = [str(e) for e in numbers if e.has(sp.Float)]
    kinds = {"undeclared": sorted(undeclared), "inexact": inexact}
    return {kind: names for kind, names in kinds.items() if names}

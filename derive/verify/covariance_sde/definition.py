"""L0 of covariance SDEs: a well-formed definition."""

from __future__ import annotations

import sympy as sp

from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.common.arrays import walk
from derive.notation.common.scalars import Share
from derive.verify.common.rung import Rung


def definition(result: CovarianceSDE) -> Rung:
    """L0: the definition is well-formed."""
    nodes = walk(result.trace.output)
    numbers = [sp.sympify(a.data) for a in nodes if a.op == "full"]
    sizes = [sp.sympify(d) for a in nodes for d in a.shape]
    declared = {*result.model.dims, *result.model.params}
    found = {s for e in (*numbers, *sizes) for s in e.free_symbols}
    undeclared = sorted(str(s) for s in found - declared if not isinstance(s, Share))
    unused = [n for n, a in result.trace.weights if a not in nodes]
    inexact = [str(e) for e in numbers if e.has(sp.Float)]
    return Rung(
        "L0 definition",
        "every symbol is declared, every weight used, numbers are exact",
        not (undeclared or unused or inexact),
        {
            "nodes": len(nodes),
            "weights": {n: [str(d) for d in a.shape] for n, a in result.trace.weights},
            "parameters": {p.name: p.range.text for p in result.model.params},
            **{
                k: v
                for k, v in (("undeclared", undeclared), ("unused", unused), ("inexact", inexact))
                if v
            },
        },
    )

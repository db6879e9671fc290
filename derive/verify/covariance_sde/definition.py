"""L0 of covariance SDEs: a well-formed definition."""

from __future__ import annotations

from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.common.arrays import walk
from derive.verify.common.rung import Rung
from derive.verify.common.wellformed import faults


def definition(result: CovarianceSDE) -> Rung:
    """L0: the definition is well-formed."""
    traced, model = result.trace, result.model
    nodes = walk(traced.output)
    wrong = faults(nodes, (*model.dims, *model.params))
    unused = [n for n, a in traced.weights if a not in nodes]
    return Rung(
        "L0 definition",
        "every symbol is declared, every weight used, numbers are exact",
        not (wrong or unused),
        {
            "nodes": len(nodes),
            "weights": {n: [str(d) for d in a.shape] for n, a in traced.weights},
            "parameters": {p.name: p.range.text for p in model.params},
            **wrong,
            **({"unused": unused} if unused else {}),
        },
    )

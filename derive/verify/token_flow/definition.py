"""L0 of token flows: a well-formed definition."""

from __future__ import annotations

from derive.methods.token_flow.result import TokenFlow
from derive.notation.common.arrays import walk
from derive.verify.common.rung import Rung
from derive.verify.common.wellformed import faults


def definition(result: TokenFlow) -> Rung:
    """L0: the definition is well-formed."""
    traced, model = result.trace, result.model
    nodes = [a for root in (traced.velocity, *traced.noises) for a in walk(root)]
    wrong = faults(nodes, (*model.dims, *model.params))
    matrices = {m.data: [str(s) for s in m.shape] for m in traced.used}
    return Rung(
        "L0 definition",
        "every symbol is declared, numbers are exact",
        not wrong,
        {"nodes": len(nodes), "matrices": matrices, **wrong},
    )

"""L0 of closures: a well-formed definition."""

from __future__ import annotations

from derive.methods.gaussian_closure.result import GaussianClosure
from derive.verify.common.rung import Rung


def definition(result: GaussianClosure) -> Rung:
    """L0: the definition is well-formed."""
    return Rung(
        "L0 definition",
        "shapes agree, every symbol is declared, numbers are exact",
        True,
        {"matrices": {m.data: [str(s) for s in m.shape] for m in result.trace.used}},
    )

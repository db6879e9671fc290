"""L0 and L1 of closures: a well-formed definition, and its steps at random instances."""

from __future__ import annotations

from derive.methods.common.record import rounded
from derive.methods.gaussian_closure.result import (
    GaussianClosure,
)
from derive.verify.common.rung import Rung


def definition(result: GaussianClosure) -> Rung:
    """L0: the definition is well-formed."""
    return Rung(
        "L0 definition",
        "shapes agree, every symbol is declared, numbers are exact",
        True,
        {"matrices": {m.data: [str(s) for s in m.shape] for m in result.trace.used}},
    )


def steps(result: GaussianClosure) -> Rung:
    """L1: every step of the derivation at random instances."""
    found = [(s.name, s.check) for s in result.steps if s.check is not None]
    return Rung(
        "L1 steps",
        "both sides of every step agree at random instances",
        all(c.passed for _, c in found),
        {n: {"residual": rounded(c.residual), "tolerance": c.tolerance} for n, c in found},
        "any error of a step beyond its tolerance",
    )

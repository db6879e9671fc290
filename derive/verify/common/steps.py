"""L1, common to methods: the record of a derivation, each step with the residual of its check."""

from __future__ import annotations

from typing import Any

from derive.methods.common.record import rounded
from derive.verify.common.rung import Rung


def steps(result: Any) -> Rung:
    """L1: every step of the derivation at random instances."""
    found = [(s.name, s.check) for s in result.steps if s.check is not None]
    return Rung(
        "L1 steps",
        "both sides of every step agree at random instances",
        all(c.passed for _, c in found),
        {n: {"residual": rounded(c.residual), "tolerance": c.tolerance} for n, c in found},
        "any error of a step beyond its tolerance",
    )

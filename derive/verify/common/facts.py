"""L1, what is said in words: every fact of a derivation with the figures of its check."""

from __future__ import annotations

from typing import Any

from derive.methods.common.record import Fact, all_facts, rounded
from derive.verify.common.rung import Rung

NAME = "L1 facts"


def facts(result: Any) -> Rung:
    """The facts of a derivation by any method; one without a check is a failure."""
    found = all_facts(result.steps, result.facts)
    bare = [str(f) for f in found if not isinstance(f, Fact)]
    checked = [f for f in found if isinstance(f, Fact) and f.check is not None]
    figures: dict[str, Any] = {
        str(f): {"residual": rounded(f.check.residual), "tolerance": f.check.tolerance}
        for f in checked
        if f.check is not None
    }
    beyond = {str(f): f.unreached for f in found if isinstance(f, Fact) and f.check is None}
    if beyond:
        figures["not reached"] = beyond
    if bare:
        figures["without a check"] = bare
    return Rung(
        NAME,
        "what is said in words agrees with the text and the equations in numbers",
        not bare and all(f.check is None or f.check.passed for f in checked),
        figures,
        "any fact whose opposite moves its figure beyond the tolerance",
        "" if checked or bare else "nothing is said in words that can be compared",
    )

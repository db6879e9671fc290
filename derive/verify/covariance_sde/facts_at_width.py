"""L2, what is said of orders and of what drops out: against the text at finite widths.

The exact moments of a derivation hold these facts true by themselves (L1); here the definition is
run.  What is said to drop out is given another value, and the second route to the limit (see
`rungs`) must still find the derived drift and diffusion; the order of one layer's
move is the slope of its size over widths.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from derive.calculus.index.evaluate import evaluate
from derive.methods.common.record import Fact
from derive.methods.covariance_sde.block import Block
from derive.methods.covariance_sde.clock_checks import WIDTHS, Draws, exponents
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.verify.common.rung import Rung, digit
from derive.verify.covariance_sde.references import off_by, reference_of

# a seed other than that of L2's own rung: parameters have other values, too
_SEED, _SIZE = 5, 2
# twelve layers and more at each width: a slope's standard error is 0.04
_SLOPE = 0.2


def facts_at_width(result: CovarianceSDE) -> Rung:
    """The facts about widths of every block, by runs of the text."""
    figures: dict[str, Any] = {}
    missed: dict[str, str] = {}
    passed = True
    for number, block in enumerate(result.blocks, 1):
        mark = f"block {number}: " if len(result.blocks) > 1 else ""
        for fact in block.facts:
            if fact.kind == "clock":
                off = _order(fact, block)
                figures[f"{mark}{fact}: slope over widths off by"] = round(off, 2)
                passed &= off <= _SLOPE
        lost = [f for f in block.facts if f.kind == "drops out"]
        if not lost:
            continue
        found = reference_of(result, block, mark, _SIZE, _SEED)
        names = f"{mark}{'; '.join(str(f) for f in lost)}"
        if found.problem:
            missed[names] = found.problem
            passed &= not found.contradicts
        for name, expression, target, floor in found.pairs():
            value = evaluate(expression, {"V": found.at.V}, found.at.numbers)
            off = off_by(value, target, floor)
            figures[f"{names}: {name} off by"] = digit(off)
            passed &= off < found.bound
    if missed:
        figures["not reached"] = missed
    return Rung(
        "L2 facts at finite widths",
        "the text at other values of what is said to drop out has the same limit; one layer moves "
        "V by the order that is said",
        bool(passed),
        figures,
        f"orders wrong by {_SLOPE:g}, and any part of the limit that holds what is said to drop "
        "out",
        "" if set(figures) - {"not reached"} else "nothing of this kind is said, or can be run",
    )


def _order(fact: Fact, block: Block) -> float:
    """How far the slope of the size of V' - V over widths is from the exponent in words."""
    sizes = [
        float(np.sqrt(np.mean(np.square(Draws(block.trace, block.law, w)({}, ()))))) for w in WIDTHS
    ]
    slope = float(np.polyfit(np.log(WIDTHS), np.log(sizes), 1)[0])
    return abs(slope - float(exponents(fact, block.law.scaling.width)[0]))

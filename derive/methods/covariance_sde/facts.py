"""What may be said in words of a covariance SDE, and the check of each.

Input: words, and what they are about.  Output: `Fact`s.  The words are made where the finding is;
here they are read, so that a check is one of what the user reads.  Words that no check knows, and
that are not known to be beyond one, are refused.
"""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp

from derive.calculus.index.expressions import Expression
from derive.methods.common.record import Check, Fact, worst_of
from derive.methods.covariance_sde import clock_checks, explosion_checks
from derive.methods.covariance_sde.clock_checks import BlockMoments
from derive.methods.covariance_sde.one_dimension import Scalar
from derive.notation.layers.model import Trace

LIMITS_OF_DERIVE = "it says what derive does not derive, and nothing of the model"


def of_block(words: Iterable[str], moments: BlockMoments, traced: Trace) -> tuple[Fact, ...]:
    """Findings about one block."""
    return tuple(Fact(w, *_check(w, moments, traced)) for w in words)


def _check(words: str, moments: BlockMoments, traced: Trace) -> tuple[str, Check]:
    law, name = moments.law, words.partition(" ")[0]
    if words.startswith("one layer moves V by order"):
        return "clock", clock_checks.clock(words, moments)
    if words.startswith("it moves V too little"):
        return "too quiet", clock_checks.quiet_layer(traced, law)
    if " drops out of the limit" in words:
        symbol = _symbol(name, traced)
        check = clock_checks.independent(symbol, moments)
        if "subcritical" in words:
            check = worst_of((check, clock_checks.quiet_parameter(symbol, traced, law)))
        elif "one layer" in words:
            check = worst_of((check, clock_checks.same_in_law(symbol, traced, law)))
        return "drops out", check
    if " fluctuates too little" in words:
        return "too quiet", clock_checks.quiet_weight(name, traced, law)
    raise AssertionError(f"no check is known of these words: {words}")


def _symbol(name: str, traced: Trace) -> sp.Symbol:
    declared: list[sp.Symbol] = [*traced.model.dims, *traced.model.params]
    (found,) = [s for s in declared if s.name == name]
    return found


def of_scalar(scalar: Scalar, drift: Expression, diffusion: Expression) -> Fact:
    """A diffusion in one dimension: its equation, and whether it explodes."""
    words = scalar.text
    kind = "explosion" if scalar.decided else "scalar"
    return Fact(words, kind, explosion_checks.scalar(words, scalar, drift, diffusion))


def of_reduction(why: str) -> Fact:
    """Why there is no reduced chain."""
    return Fact(why, "reach", None, LIMITS_OF_DERIVE)

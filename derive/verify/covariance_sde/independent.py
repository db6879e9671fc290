"""L2 of covariance SDEs: the equations against a second route, and what it would catch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression, collect
from derive.verify.common.rung import Rung, digit
from derive.verify.covariance_sde.instance import CovarianceInstance
from derive.verify.covariance_sde.references import Reference, off_by


def independent(known: Sequence[Reference]) -> Rung:
    """L2: the definition on arrays, averaged exactly, with no calculus, for every block."""
    figures: dict[str, Any] = {}
    caught: list[float] = []
    passed = True
    for one in known:
        if one.problem:
            figures[f"{one.label}not reached"] = one.problem
            passed &= not one.contradicts
        for name, expression, target, floor in one.pairs():
            off = off_by(evaluate(expression, one.at.arrays, one.at.numbers), target, floor)
            figures[f"{one.label}{name}"] = digit(off)
            passed &= off < one.bound
            if name in ("drift", "diffusion"):
                caught += _caught(expression, one.at, target, floor, one.bound + off)
    return Rung(
        "L2 second route",
        "the definition run on arrays, averaged by exact cubature or Gauss rules between the "
        "kinks, the width taken to infinity by Cauchy's integral or a polynomial in 1/n",
        passed,
        figures,
        f"coefficient errors above {_up(max(caught))}" if caught else "",
        "" if caught or not passed else "; ".join(r.problem for r in known),
    )


def _caught(
    expression: Expression, at: CovarianceInstance, target: np.ndarray, floor: float, bound: float
) -> list[float]:
    """For every term, the smallest relative error of its coefficient that exceeds the bound."""
    scale = max(float(np.max(np.abs(target))), floor)
    values = [
        evaluate(collect(expression.free, [term]), at.arrays, at.numbers)
        for term in expression.terms
    ]
    shares = [float(np.max(np.abs(v))) / scale for v in values]
    return [bound / s for s in shares if s > 1e-12]


def _up(value: float) -> float:
    """One digit, not smaller than the value."""
    short = digit(value)
    return short if short >= value else digit(short + 10.0 ** np.floor(np.log10(value)))

"""Terms of a model's equations broken, and the rungs that notice.

Input: an entry.  Output: rows (equation, broken how, which rungs kill).  A term is dropped,
negated, doubled, scaled by 1.01, or has its legs or matrices swapped; mutants that are equal in
value are left out.  L2 compares with the text; L4 asks for the symmetry and the sign that any
drift, diffusion or rate of a covariance has.

Not supported: control problems (rung L6 of `derive verify` breaks their equations against L1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression
from derive.errors import RequestError
from derive.methods.gaussian_closure import instances, singular

RUNGS = ("L2", "L4")
_LEAST = 1e-10


@dataclass(frozen=True)
class Broken:
    """One mutant and whether each rung kills it."""

    equation: str
    how: str
    killed: dict[str, bool]


def of_sde(result: Any) -> Iterator[Broken]:
    from derive.verify.covariance_sde.mutants import broken
    from derive.verify.covariance_sde.references import off_by, references

    for one in references(result):
        arrays, numbers = {"V": one.at.V}, one.at.numbers
        for name, expression, target, floor in one.pairs():
            right = evaluate(expression, arrays, numbers)
            for how, mutant in broken(expression):
                found = evaluate(mutant, arrays, numbers)
                if not _differs(found, right):
                    continue
                killed = {"L2": off_by(found, target, floor) > one.bound, "L4": _misshapen(found)}
                yield Broken(f"{one.label}{name}", how, killed)


def of_closure(result: Any) -> Iterator[Broken]:
    from derive.methods.gaussian_closure import checks
    from derive.methods.gaussian_closure.result import CLOSED, cov_rate
    from derive.verify.gaussian_closure.mutants import broken
    from derive.verify.gaussian_closure.second_route import ON_GRIDS, TOLERANCE, by_gauss, by_grids

    model = result.model
    if result.route != CLOSED:
        raise RequestError(
            f"{model.name} has no closed rates whose terms could be broken ({result.route}); its "
            "velocity is broken by rung L6 of `derive verify`"
        )
    kinked = singular.has_kinks(model)
    one = instances.instance(model, 61, scale=0.7 if kinked else 0.25, size=1 if kinked else 2)
    text = (by_grids if kinked else by_gauss)(model, one)
    limit = ON_GRIDS if kinked else TOLERANCE
    equations: dict[str, tuple[Expression, np.ndarray]] = {
        "mean_rate": (result.mean_rate, text.mean),
        "cov_rate": (cov_rate(result), text.cov),
    }
    for name, (expression, target) in equations.items():
        right = instances.at(one, expression, result.book)
        for how, mutant in broken(expression):
            found = instances.at(one, mutant, result.book)
            if not _differs(found, right):
                continue
            shape = name == "cov_rate" and _differs(found, found.swapaxes(-1, -2))
            yield Broken(name, how, {"L2": checks.residual(found, target) > limit, "L4": shape})


def _differs(found: np.ndarray, right: np.ndarray) -> bool:
    return bool(np.max(np.abs(found - right)) > _LEAST * max(float(np.max(np.abs(right))), _LEAST))


def _misshapen(found: np.ndarray) -> bool:
    """Not symmetric, or, a diffusion, not positive semi-definite."""
    orders = ((1, 0),) if found.ndim == 2 else ((1, 0, 2, 3), (2, 3, 0, 1))
    if any(_differs(found, found.transpose(order)) for order in orders):
        return True
    if found.ndim == 2:
        return False
    values = np.linalg.eigvalsh(found.reshape(found.shape[0] ** 2, -1))
    return bool(values[0] < -_LEAST * max(abs(values[-1]), _LEAST))


def table(model: str, rows: list[Broken]) -> str:
    """The matrix term x rung."""
    head = "| equation | broken how | " + " | ".join(RUNGS) + " |\n|---|---|" + "---|" * len(RUNGS)
    lines = [
        f"| {r.equation} | {r.how} | {' | '.join('x' if r.killed[k] else '.' for k in RUNGS)} |"
        for r in rows
    ]
    killed = sum(any(r.killed.values()) for r in rows)
    return (
        f"# Terms of {model} broken, and the rungs that notice\n\n{killed} of {len(rows)} mutants "
        "are killed; `x` kills, `.` does not.\n\n" + "\n".join([head, *lines]) + "\n"
    )

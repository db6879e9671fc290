"""The ladder of a covariance SDE: each rung is a different way of being wrong.

Input: a definition, its generated module, the level.  Output: rungs, each with figures and its
power, the smallest relative error of a coefficient that it would catch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from derive.methods.covariance_sde.derivation import derive
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.layers.model import Model
from derive.verify.common.compare import load_module
from derive.verify.common.facts import facts
from derive.verify.common.rung import Rung
from derive.verify.common.steps import steps
from derive.verify.covariance_sde import monte_carlo
from derive.verify.covariance_sde.definition import definition
from derive.verify.covariance_sde.facts_at_width import facts_at_width
from derive.verify.covariance_sde.gate import gate
from derive.verify.covariance_sde.independent import independent
from derive.verify.covariance_sde.invariants import invariants
from derive.verify.covariance_sde.kernel import kernel
from derive.verify.covariance_sde.mutants import mutants
from derive.verify.covariance_sde.references import references
from derive.verify.covariance_sde.replay import replayed

SIZES = {
    "quick": {"samples": 4_000, "paths": 2**13, "widths": (8, 32)},
    "full": {"samples": 60_000, "paths": 2**17, "widths": (8, 16, 32, 64, 128)},
}


def climb(model: Model, file: Path, level: str) -> Iterator[tuple[CovarianceSDE, Rung]]:
    """The rungs one by one, for the generated module in `file`."""
    result = derive(model)
    module = load_module(file)
    size: Any = SIZES[level]
    known = cache(lambda: references(result))  # L2 and L6 compare with the same ones
    todo: list[Callable[[], Rung]] = [
        lambda: definition(result),
        lambda: steps(result),
        lambda: facts(result),
        lambda: independent(known()),
        lambda: facts_at_width(result),
        lambda: kernel(result, module),
        lambda: invariants(result, module),
        lambda: replayed(result, module),
        lambda: monte_carlo.one_layer(result, size["samples"]),
        lambda: monte_carlo.convergence(result, module, size["paths"], size["widths"]),
        lambda: mutants(known()),
    ]
    if result.reduction is not None:
        todo.insert(9, lambda: monte_carlo.same_law(result, module, size["paths"]))
    for rung in todo:
        yield result, rung()


def sharp(result: CovarianceSDE, module: ModuleType) -> Iterator[tuple[str, Callable[[], str]]]:
    """What rungs that take seconds find wrong, beside the gate; nothing where they pass."""
    yield "L2", lambda: independent(references(result)).complaint
    yield "L5", lambda: replayed(result, module).complaint


__all__ = ["SIZES", "climb", "gate", "sharp"]

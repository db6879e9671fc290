"""The whole ladder for one model, and its certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from derive.methods.covariance_sde.derivation import CovarianceSDE, derive
from derive.notation.layers.model import Model
from derive.verify.common.compare import load_module
from derive.verify.common.facts import facts
from derive.verify.common.rung import Rung
from derive.verify.covariance_sde import monte_carlo, rungs
from derive.verify.covariance_sde.facts_at_width import facts_at_width
from derive.verify.covariance_sde.kernel import gate
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
    todo: list[Callable[[], Rung]] = [
        lambda: rungs.definition(result),
        lambda: rungs.steps(result),
        lambda: facts(result),
        lambda: rungs.independent(result),
        lambda: facts_at_width(result),
        lambda: rungs.kernel(result, module),
        lambda: rungs.invariants(result, module),
        lambda: replayed(result, module),
        lambda: monte_carlo.one_layer(result, size["samples"]),
        lambda: monte_carlo.convergence(result, module, size["paths"], size["widths"]),
        lambda: rungs.mutants(result),
    ]
    if result.reduction is not None:
        todo.insert(9, lambda: monte_carlo.same_law(result, module, size["paths"]))
    for rung in todo:
        yield result, rung()


__all__ = ["SIZES", "climb", "gate"]

"""The ladder for control problems: six ways of being wrong, and mutants.

Input: a definition and its generated module.  Output: rungs with figures and power.  L1 compares
every step with the definition's text; L2 takes first and second derivatives from the text alone,
and from JAX; L3 evaluates the module beside the equations; L4 checks what a Hamiltonian system
must satisfy; L5 compares the derivative of the cost along controls, by the derived costate, with
that of a simulation of the text, and holds what `solve` returns to the text; L6 breaks the
equations one node at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from derive.methods.optimal_control.derivation import derive
from derive.methods.optimal_control.instances import inside
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.control.definition import ControlDefinition
from derive.verify.common.compare import load_module
from derive.verify.common.facts import facts
from derive.verify.common.rung import Rung
from derive.verify.optimal_control.gate import gate
from derive.verify.optimal_control.invariants import invariants
from derive.verify.optimal_control.kernel import kernel
from derive.verify.optimal_control.mutants import mutants
from derive.verify.optimal_control.second_route import independent
from derive.verify.optimal_control.solver import solver
from derive.verify.optimal_control.steps import definition, steps
from derive.verify.optimal_control.variation import variation

SIZES = {
    "quick": {"points": 1, "steps": (16, 32), "mutants": 120},
    "full": {"points": 3, "steps": (16, 32, 64), "mutants": 1500},
}


def climb(
    model: ControlDefinition, file: Path, level: str
) -> Iterator[tuple[OptimalControl, Rung]]:
    """The rungs one by one, for the generated module in `file`."""
    result = derive(model)
    size: Any = SIZES[level]
    with jax.enable_x64(True):
        module = load_module(file)
    points = [inside(model, 10 + k) for k in range(size["points"])]
    rungs: tuple[Callable[[], Rung], ...] = (
        lambda: definition(result),
        lambda: steps(result),
        lambda: facts(result),
        lambda: independent(result, module, points),
        lambda: kernel(result, module, points),
        lambda: invariants(result, module, points),
        lambda: variation(result, module, size["steps"]),
        lambda: solver(result, module),
        lambda: mutants(result, size["mutants"]),
    )
    for rung in rungs:
        with jax.enable_x64(True):
            yield result, rung()


def sharp(result: OptimalControl, module: ModuleType) -> Iterator[tuple[str, Callable[[], str]]]:
    """What rungs that take seconds find wrong, beside the gate; nothing where they pass."""
    points = [inside(result.model, 10)]

    def second() -> str:
        with jax.enable_x64(True):
            return independent(result, module, points).complaint

    def solved() -> str:
        """A solver that refuses every instance has noticed too: its own checks are a rung."""
        with jax.enable_x64(True):
            rung = solver(result, module)
        return rung.complaint or rung.unreached

    yield "L2", second
    yield "L5", solved


__all__ = ["SIZES", "climb", "gate", "sharp"]

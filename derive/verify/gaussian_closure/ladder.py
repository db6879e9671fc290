"""The ladder of a Gaussian closure: each rung is a different way of being wrong.

Input: a definition, its generated module, the level.  Output: rungs.  The second route is the
definition's text run on Gauss-Hermite points; it shares no code with the calculus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from derive.methods.gaussian_closure.derivation import derive
from derive.methods.gaussian_closure.result import GaussianClosure
from derive.notation.closures.model import ClosureModel
from derive.verify.common.compare import load_module
from derive.verify.common.facts import facts
from derive.verify.common.rung import Rung
from derive.verify.common.steps import steps
from derive.verify.gaussian_closure.definition import definition
from derive.verify.gaussian_closure.gate import gate
from derive.verify.gaussian_closure.invariants import invariants
from derive.verify.gaussian_closure.kernel import kernel
from derive.verify.gaussian_closure.mutants import mutants
from derive.verify.gaussian_closure.particles import particles
from derive.verify.gaussian_closure.second_route import second_route
from derive.verify.gaussian_closure.solver import solver, verdict


def climb(model: ClosureModel, file: Path, level: str) -> Iterator[tuple[GaussianClosure, Rung]]:
    """The rungs one by one, for the generated module in `file`."""
    result = derive(model)
    module = load_module(file)
    todo: list[Callable[[], Rung]] = [
        lambda: definition(result),
        lambda: steps(result),
        lambda: facts(result),
        lambda: second_route(result, module),
        lambda: kernel(result, module),
        lambda: invariants(result, module),
        lambda: verdict(result, module),
        lambda: solver(result, module),
    ]
    if hasattr(module, "particle_velocity"):
        todo.append(lambda: particles(result, module, 24 if level == "quick" else 160))
    todo.append(lambda: mutants(result))
    for rung in todo:
        yield result, rung()


def sharp(result: GaussianClosure, module: ModuleType) -> Iterator[tuple[str, Callable[[], str]]]:
    """What rungs that take seconds find wrong, beside the gate; nothing where they pass."""
    yield "L2", lambda: second_route(result, module).complaint
    yield "L5", lambda: solver(result, module).complaint


__all__ = ["climb", "gate", "second_route", "sharp"]

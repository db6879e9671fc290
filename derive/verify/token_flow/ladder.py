"""The ladder of a token flow: each rung is a different way of being wrong.

Input: a definition, its generated module, the level.  Output: rungs.  The other side is always the
definition's text run on tokens; it shares no code with the calculus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from derive.methods.token_flow.derivation import derive
from derive.methods.token_flow.result import Absent, TokenFlow
from derive.notation.flows.model import FlowDefinition
from derive.verify.common.compare import load_module
from derive.verify.common.facts import facts
from derive.verify.common.rung import Rung
from derive.verify.common.steps import steps
from derive.verify.token_flow.definition import definition
from derive.verify.token_flow.gate import gate
from derive.verify.token_flow.invariants import invariants
from derive.verify.token_flow.kernel import kernel
from derive.verify.token_flow.limit_objects import limit_objects
from derive.verify.token_flow.matching import matching
from derive.verify.token_flow.mutants import mutants
from derive.verify.token_flow.noisy import noisy
from derive.verify.token_flow.second_route import second_route
from derive.verify.token_flow.solver import reduced, solver


def climb(model: FlowDefinition, file: Path, level: str) -> Iterator[tuple[TokenFlow, Rung]]:
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
    ]
    if result.noise is None:
        todo += [lambda: solver(result, module), lambda: reduced(result, module)]
    else:
        todo.append(lambda: noisy(result, module))
    if "score" in result.equations:
        todo.append(lambda: limit_objects(result, module))
    if not isinstance(result.manoeuvres, Absent):
        todo.append(lambda: matching(result, module))
    todo.append(lambda: mutants(result))
    for rung in todo:
        yield result, rung()


def sharp(result: TokenFlow, module: ModuleType) -> Iterator[tuple[str, Callable[[], str]]]:
    """What rungs that take seconds find wrong, beside the gate; nothing where they pass."""
    yield "L2", lambda: second_route(result, module).complaint
    if result.noise is not None:
        yield "L5", lambda: noisy(result, module).complaint
    if result.noise is None:
        yield "L5", lambda: solver(result, module).complaint
        yield "reductions", lambda: reduced(result, module).complaint


__all__ = ["climb", "gate", "second_route", "sharp"]

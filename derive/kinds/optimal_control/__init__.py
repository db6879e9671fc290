"""Optimal control: conditions of optimality, static optima and turnpikes of controlled tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from derive.contract import Figure, Method
from derive.kinds.optimal_control.starter import STARTER


class OptimalControls(Method):
    word = "optimal_control"
    starter = STARTER

    def trace(self, definition: Any) -> Any:
        from derive.notation.control.problem import trace_problem

        return trace_problem(definition)

    def derive(self, definition: Any) -> Any:
        from derive.methods.optimal_control.derivation import derive

        return derive(definition)

    def render(self, result: Any, source: str, argument: str) -> str:
        from derive.emit.optimal_control.module import render

        return render(result, source, argument)

    def document(self, result: Any, steps: bool = False, view: str = "") -> Any:
        from derive.emit.optimal_control.report import document

        return document(result, steps)

    def gate(self, result: Any, module: ModuleType) -> Sequence[Any]:
        from derive.verify.optimal_control.gate import gate

        return gate(result, module)

    def climb(self, definition: Any, file: Path, level: str) -> Iterator[Any]:
        from derive.verify.optimal_control.ladder import climb

        return climb(definition, file, level)

    def sharp(self, result: Any, module: ModuleType) -> Iterator[tuple[str, Callable[[], str]]]:
        from derive.verify.optimal_control.ladder import sharp

        return sharp(result, module)

    def figures(self) -> Mapping[str, Figure]:
        from derive.figures.instances import TITLES

        return {f"turnpike_{k}": Figure(v, "turnpike", k) for k, v in TITLES.items()}

    def instead(self, name: str) -> str:
        return f"From Python: derive.generated.{name}.solve(...) and .turnpike(...)"


METHOD = OptimalControls()

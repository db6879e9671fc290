"""Optimal control: conditions of optimality, static optima and turnpikes of controlled tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from derive.contract import Figure
from derive.kinds.optimal_control import simulation, sweep
from derive.kinds.optimal_control.starter import STARTER
from derive.kinds.rooms import InRooms


class OptimalControls(InRooms):
    word = "optimal_control"
    starter = STARTER
    simulation = simulation
    sweep = sweep

    def trace(self, definition: Any) -> Any:
        from derive.notation.control.problem import trace_problem

        return trace_problem(definition)

    def state(self, definition: Any) -> str:
        words = (("state", definition.states), ("control", definition.controls))
        return ", ".join(
            f"{word} {s.name}[{', '.join(d.name for d in s.shape)}]{f' {s.kind}' * bool(s.kind)}"
            for word, slots in words
            for s in slots
        )

    def properties(self, result: Any) -> Mapping[str, str]:
        return {
            "clock": "depth, up to T",
            "structure": "sparse law of the control"
            if result.law.sparse
            else "explicit law"
            if result.law.expressions is not None
            else "law by minimisation",
        }

    def figures(self) -> Mapping[str, Figure]:
        from derive.figures.instances import TITLES

        return {f"turnpike_{k}": Figure(v, "turnpike", k) for k, v in TITLES.items()}

    def instead(self, name: str) -> str:
        return f"From Python: derive.generated.{name}.solve(...) and .turnpike(...)"


METHOD = OptimalControls()

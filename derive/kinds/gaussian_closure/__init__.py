"""Gaussian closures: mean and covariance of tokens that a velocity field moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from derive.contract import Figure, Method
from derive.kinds.gaussian_closure.starter import STARTER


class GaussianClosures(Method):
    word = "gaussian_closure"
    starter = STARTER

    def trace(self, definition: Any) -> Any:
        from derive.notation.closures.model import trace_closure

        return trace_closure(definition)

    def derive(self, definition: Any) -> Any:
        from derive.methods.gaussian_closure.derivation import derive

        return derive(definition)

    def render(self, result: Any, source: str, argument: str) -> str:
        from derive.emit.gaussian_closure.module import render

        return render(result, source, argument)

    def document(self, result: Any, steps: bool = False, view: str = "") -> Any:
        from derive.emit.gaussian_closure.report import document

        return document(result, steps)

    def gate(self, result: Any, module: ModuleType) -> Sequence[Any]:
        from derive.verify.gaussian_closure.gate import gate

        return gate(result, module)

    def climb(self, definition: Any, file: Path, level: str) -> Iterator[Any]:
        from derive.verify.gaussian_closure.ladder import climb

        return climb(definition, file, level)

    def sharp(self, result: Any, module: ModuleType) -> Iterator[tuple[str, Callable[[], str]]]:
        from derive.verify.gaussian_closure.ladder import sharp

        return sharp(result, module)

    def broken_terms(self, result: Any, argument: str) -> Iterator[Any]:
        from derive.mutants.terms import of_closure

        return of_closure(result)

    def figures(self) -> Mapping[str, Figure]:
        return {
            "limiting_rank": Figure(
                "rank of the limit covariance: adaptive solver and clipped Euler", "limiting_rank"
            ),
            "cone": Figure(
                "covariances in the plane settle on a ray or blow up: softmax, heads, L2, Sinkhorn",
                "cone",
            ),
        }

    def instead(self, name: str) -> str:
        return f"From Python: derive.generated.{name}.solve(...) and .particles(...)"


METHOD = GaussianClosures()

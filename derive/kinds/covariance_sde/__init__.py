"""Covariance SDEs: the limit of the token covariance of a network in depth over width."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from derive.contract import Figure, Method
from derive.kinds.covariance_sde import simulation
from derive.kinds.covariance_sde.starter import STARTER


class CovarianceSDEs(Method):
    word = "covariance_sde"
    starter = STARTER
    simulation = simulation
    views = {
        "finite-width": "what one layer of finite width does beyond the limit: L_1, the corrected "
        "SDE, L_2"
    }

    def trace(self, definition: Any) -> Any:
        from derive.notation.layers.model import trace

        return trace(definition)

    def derive(self, definition: Any) -> Any:
        from derive.methods.covariance_sde.derivation import derive

        return derive(definition)

    def render(self, result: Any, source: str, argument: str) -> str:
        from derive.emit.covariance_sde.module import render

        return render(result, source, argument)

    def document(self, result: Any, steps: bool = False, view: str = "") -> Any:
        from derive.emit.covariance_sde import finite_width_report, report

        if view:
            return finite_width_report.document(result)
        return report.document(result, steps)

    def gate(self, result: Any, module: ModuleType) -> Sequence[Any]:
        from derive.verify.covariance_sde.gate import gate

        return gate(result, module)

    def climb(self, definition: Any, file: Path, level: str) -> Iterator[Any]:
        from derive.verify.covariance_sde.ladder import climb

        return climb(definition, file, level)

    def sharp(self, result: Any, module: ModuleType) -> Iterator[tuple[str, Callable[[], str]]]:
        from derive.verify.covariance_sde.ladder import sharp

        return sharp(result, module)

    def broken_terms(self, result: Any, argument: str) -> Iterator[Any]:
        from derive.mutants.terms import of_sde

        return of_sde(result)

    def figures(self) -> Mapping[str, Figure]:
        return {
            name: Figure(title, name)
            for name, title in {
                "correlation": "correlation against depth: shaped, Pre-LN and unshaped attention",
                "densities": "densities of variance, covariance and correlation: network and SDE",
                "sweeps": "correlation against gamma and tau_0",
                "explosion": "share of exploded paths, gamma^2 below and above 1/2",
                "finite_width": "weak error against the width: the limit's SDE and the SDE at that "
                "width",
            }.items()
        }


METHOD = CovarianceSDEs()

"""Covariance SDEs: the limit of the token covariance of a network in depth over width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from derive.contract import Figure
from derive.kinds.covariance_sde import simulation, sweep
from derive.kinds.covariance_sde.starter import STARTER
from derive.kinds.rooms import InRooms

FIGURES = {
    "correlation": "correlation against depth: shaped, Pre-LN and unshaped attention",
    "densities": "densities of variance, covariance and correlation: network and SDE",
    "sweeps": "correlation against gamma and tau_0",
    "explosion": "share of exploded paths, gamma^2 below and above 1/2",
    "finite_width": "weak error against the width: the limit's SDE and the SDE at that width",
}


class CovarianceSDEs(InRooms):
    word = "covariance_sde"
    starter = STARTER
    simulation = simulation
    sweep = sweep
    views = {
        "finite-width": "what one layer of finite width does beyond the limit: L_1, the corrected "
        "SDE, L_2"
    }

    def trace(self, definition: Any) -> Any:
        from derive.notation.layers.model import trace

        return trace(definition)

    def broken_terms(self, result: Any, argument: str) -> Iterator[Any]:
        from derive.mutants.terms import of_sde

        return of_sde(result)

    def state(self, definition: Any) -> str:
        tokens, width = definition.state_dims
        ball = " on the sphere" if definition.unit_rows else ""
        return (
            f"V over {tokens} tokens of width {width}{ball}, on the clock layer / "
            f"{definition.clock_text}"
        )

    def properties(self, result: Any) -> Mapping[str, str]:
        noise = "an SDE" if result.diffusion.terms else "an ODE"
        said = [f for f in result.facts if f.kind == "explosion"]
        return {
            "clock": f"layer / {result.model.clock_text}",
            "exactness": f"the limit is {noise}",
            "explosion": "; ".join(f.rpartition("; ")[2] for f in said),
        }

    def figures(self) -> Mapping[str, Figure]:
        return {name: Figure(title, name) for name, title in FIGURES.items()}


METHOD = CovarianceSDEs()

"""Token flows: tokens that move among each other, on the sphere or in R^d."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from derive.contract import Figure
from derive.kinds.rooms import InRooms
from derive.kinds.token_flow import matching, simulation, sweep
from derive.kinds.token_flow.starter import STARTER

FIGURES = {
    "consensus": "share of pairs that agree over time and temperature, and the derived curve",
    "staircase": "metastable clusters on the circle: the energy climbs in steps (has a film)",
    "metastability": "caps of tokens close and stay: how soon and how long, and the bounds",
    "energy": "energy along the flow, and its dissipation identity",
    "harmonics": "growth of the uniform law's harmonics, derived and of tokens",
    "angle_tails": "how equal angles close, by scheme of normalisation",
    "limit_objects": "in space: polytope, hyperplanes and leaders in 1, 2, 3 and 128 dimensions",
    "match": "one theta(t) that sends three overlapping clouds to three rings (has a film)",
    "blow_up": "in space: tokens that go to infinity, and the times that are told",
}


class TokenFlows(InRooms):
    word = "token_flow"
    starter = STARTER
    simulation = simulation
    sweep = sweep
    matching = matching
    computed = {
        "two_cluster_rate": "cluster_rate",
        "frame": "frame_matrix",
        "score": "score_matrix",
        "noise": "noise_rate",
        "radius_rate": "equal_angle_rate",
    }

    def trace(self, definition: Any) -> Any:
        from derive.notation.flows.model import trace_flow

        return trace_flow(definition)

    def state(self, definition: Any) -> str:
        where = "on the sphere of" if definition.sphere else "in"
        places = ", in order" if definition.positional else ""
        return f"tokens {where} R^{definition.state_dim}{places}"

    def properties(self, result: Any) -> Mapping[str, str]:
        there = result.equations
        found = {
            "a gradient": "energy" in there,
            "inner products close": "gram_rate" in there,
            "equal angles stay": "equal_angle_rate" in there,
        }
        where = "on the sphere" if result.model.sphere else "in space"
        return {
            "clock": "depth",
            "structure": "; ".join([where, *(words for words, holds in found.items() if holds)]),
        }

    def figures(self) -> Mapping[str, Figure]:
        return {name: Figure(title, name) for name, title in FIGURES.items()}

    def instead(self, name: str) -> str:
        return f"From Python: derive.generated.{name}.solve(...)"


METHOD = TokenFlows()

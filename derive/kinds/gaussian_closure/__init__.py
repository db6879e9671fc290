"""Gaussian closures: mean and covariance of tokens that a velocity field moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from derive.contract import Figure
from derive.kinds.gaussian_closure import simulation, sweep
from derive.kinds.gaussian_closure.starter import STARTER
from derive.kinds.rooms import InRooms

FIGURES = {
    "limiting_rank": "rank of the limit covariance: adaptive solver and clipped Euler",
    "cone": "covariances in the plane settle on a ray or blow up: softmax, heads, L2, Sinkhorn",
}


class GaussianClosures(InRooms):
    word = "gaussian_closure"
    starter = STARTER
    sweep = sweep
    simulation = simulation

    def trace(self, definition: Any) -> Any:
        from derive.notation.closures.model import trace_closure

        return trace_closure(definition)

    def broken_terms(self, result: Any, argument: str) -> Iterator[Any]:
        from derive.mutants.terms import of_closure

        return of_closure(result)

    def state(self, definition: Any) -> str:
        keys = f" among keys in R^{definition.key_dim} of their own law" if definition.cross else ""
        if definition.second:
            keys = f", two of them keys at once{keys}" if not keys else f" and{keys}"
        places = " with positions" if definition.positional else ""
        places = " under a mixture of Gaussian laws" if definition.mixture else places
        return f"tokens in R^{definition.state_dim}{places}{keys}"

    def properties(self, result: Any) -> Mapping[str, str]:
        return {
            "clock": "depth",
            "exactness": "exact" if result.exact else f"projected, by {result.route}",
        }

    def figures(self) -> Mapping[str, Figure]:
        return {name: Figure(title, name) for name, title in FIGURES.items()}

    def instead(self, name: str) -> str:
        return f"From Python: derive.generated.{name}.solve(...) and .particles(...)"


METHOD = GaussianClosures()

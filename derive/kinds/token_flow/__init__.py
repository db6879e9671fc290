"""Token flows: tokens that move among each other, on the sphere or in R^d."""

from __future__ import annotations

from typing import Any

from derive.kinds.rooms import InRooms
from derive.kinds.token_flow import simulation
from derive.kinds.token_flow.starter import STARTER


class TokenFlows(InRooms):
    word = "token_flow"
    starter = STARTER
    simulation = simulation

    def trace(self, definition: Any) -> Any:
        from derive.notation.flows.model import trace_flow

        return trace_flow(definition)

    def state(self, definition: Any) -> str:
        where = "on the sphere of" if definition.sphere else "in"
        places = ", in order" if definition.positional else ""
        return f"tokens {where} R^{definition.state_dim}{places}"

    def instead(self, name: str) -> str:
        return f"From Python: derive.generated.{name}.solve(...)"


METHOD = TokenFlows()

"""Tokens that move among each other are an object: a velocity and where the tokens live.

Input: a velocity written as for a closure, and `on=sphere` or `on=space`.  Output:
`FlowDefinition`; its graph is that of the velocity (`derive.notation.closures.model`).

>>> @token_flow(state="x[d]", on=sphere)
... def self_attention(x, y):
...     return average(y, exp(beta * (x @ y)))
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from derive.errors import DefinitionError, Place
from derive.notation.closures.model import ClosureModel, ClosureTrace, model_of, trace_closure
from derive.notation.common.declared import place_of


@dataclass(frozen=True)
class Domain:
    """Where tokens live."""

    name: str


sphere = Domain("sphere")
space = Domain("space")

TAKEN = frozenset(
    """
    R G n masses mass rho radius degree energy gram_rate equal_angle_rate growth solve
    solve_clusters cluster_rate flow attention_matrix limit_object gram
    frame_matrix score_matrix rescaled_velocity g r t k E mu other degrees m_a m_b
    """.split()  # noqa: SIM905
)
_MADE = re.compile(r"[AM]_\d+$")


@dataclass(frozen=True)
class FlowDefinition(ClosureModel):
    """Tokens x_a' = velocity(x_a) among all tokens; on the sphere, its tangential part."""

    sphere: bool = False


def token_flow(*, state: str, on: Domain = space) -> Callable[[Callable[..., Any]], FlowDefinition]:
    """Declare how tokens move: x' = f(x, law of all tokens).

    **Arguments:** `state`: name and dimension of a token, ``"x[d]"``.  `on`: `sphere`, where
    tokens are unit vectors and the velocity is projected on their tangents, or `space`, R^d.  The
    function takes (x, y), or (x, y, s, tau) where tokens are ordered: a mask compares the place
    tau of the key with the place s of the query.  Token x_a is averaged over all tokens, itself
    included.  `noise(G)` moves every token apart from the others; on the sphere dx = P_x (v dt +
    G dB) in Stratonovich's sense: noise that is the same in all directions is Brownian motion.
    Raises DefinitionError with the place.
    """

    def decorate(function: Callable[..., Any]) -> FlowDefinition:
        place = place_of(function)
        if not isinstance(on, Domain):
            raise DefinitionError(f"on={on!r} is neither sphere nor space", place)
        base = model_of(function, state, None, place, "token_flow")
        _require_free(base, place)
        given = {f.name: getattr(base, f.name) for f in fields(ClosureModel)}
        return FlowDefinition(**given, sphere=on == sphere)

    return decorate


def _require_free(model: ClosureModel, place: Place) -> None:
    names = [*(m.data for m in model.matrices), *(p.name for p in model.params)]
    taken = [given for given in names if given in TAKEN or _MADE.match(given)]
    taken += [dim.name for dim in model.dims if dim.name == "n"]
    if taken:
        raise DefinitionError(
            f"the name {taken[0]} is taken: equations and kernels of token flows use it; rename it",
            place,
        )


def trace_flow(model: FlowDefinition) -> ClosureTrace:
    """Run the definition once on symbols.  Raises DefinitionError with the place."""
    return trace_closure(model)

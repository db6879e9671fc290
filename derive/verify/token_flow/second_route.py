"""L2 of token flows: the definition's text on many systems of tokens against the module."""

from __future__ import annotations

from types import ModuleType

import jax
import numpy as np

from derive.methods.common.record import rounded
from derive.methods.token_flow import checks, instances
from derive.methods.token_flow.result import Absent, TokenFlow
from derive.verify.common.rung import Rung
from derive.verify.token_flow.gate import params_of

TOLERANCE = 1e-10
DRAWS = ((2, 2), (3, 5), (40, 3), (17, 8))  # tokens, dimensions


def second_route(result: TokenFlow, module: ModuleType) -> Rung:
    """L2: few and many tokens, in few and many dimensions, with generic masses."""
    figures: dict[str, float] = {}

    def met(name: str, found: object, wanted: np.ndarray) -> None:
        error = checks.residual(np.asarray(found), wanted)
        figures[name] = max(figures.get(name, 0.0), error)

    with jax.enable_x64(True):
        for seed, (n, d) in enumerate(DRAWS):
            one = instances.instance(result.model, 60 + seed, n, d, equal=True)
            met("velocity", module.velocity(one.x, params_of(module, one)), instances.tangent(one))
            if isinstance(result.gram_rate, Absent):
                continue
            one = instances.instance(result.model, 70 + seed, n, d)
            p, G = params_of(module, one), one.x @ one.x.T
            wanted = instances.text_gram_rate(one)
            met("cluster_rate", module.cluster_rate(G, one.mass, p), wanted)
    return Rung(
        "L2 second route",
        "the text run on tokens: velocity, rates of inner products of clusters with masses",
        max(figures.values()) < TOLERANCE,
        {k: rounded(v) for k, v in figures.items()},
        f"relative errors above {TOLERANCE:.0e}",
    )

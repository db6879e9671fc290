"""L4 of token flows: order, rotations, tangents."""

from __future__ import annotations

from types import ModuleType

import jax
import numpy as np

from derive.draws import generator
from derive.methods.common.record import rounded
from derive.methods.token_flow import checks, instances
from derive.methods.token_flow.equivariance import Direction, turned, turned_arrays
from derive.methods.token_flow.result import TokenFlow
from derive.verify.common.rung import Rung
from derive.verify.token_flow.gate import params_of


def invariants(result: TokenFlow, module: ModuleType) -> Rung:
    """L4: tokens exchanged, everything turned, velocities tangent to the sphere."""
    model = result.model
    one = instances.instance(model, 95, 6, 3, equal=True)
    p = params_of(module, one)
    figures: dict[str, float] = {}
    with jax.enable_x64(True):
        v = np.asarray(module.velocity(one.x, p))
        if model.sphere:
            figures["along the token"] = float(np.max(np.abs((v * one.x).sum(1))))
        if not model.positional:
            order = generator(96).permutation(len(one.x))
            exchanged = np.asarray(module.velocity(one.x[order], p))
            figures["exchange"] = checks.residual(exchanged, v[order])
        else:
            moved = one.x.copy()
            moved[-1] = one.x[0]
            first = np.asarray(module.velocity(moved, p))[:-1]
            masks = {n.data for n in _nodes(result) if n.op == "mask"}
            if masks <= {"<=", "<"}:
                figures["a later token is not seen"] = checks.residual(first, v[:-1])
        try:
            arrays = turned_arrays(result.velocity, result.names, result.book)
        except Direction:
            arrays = None
        if arrays is not None:
            d = one.x.shape[1]
            rotation = np.linalg.qr(generator(97, d).standard_normal((d, d)))[0]
            shapes = {m.data: m.shape for m in model.matrices}
            changed = {
                name: turned(np.asarray(getattr(p, name)), shapes[name], model.state_dim, rotation)
                for name in arrays
            }
            other = np.asarray(module.velocity(one.x @ rotation.T, p._replace(**changed)))
            figures["rotation"] = checks.residual(other, v @ rotation.T)
    return Rung(
        "L4 invariants",
        "exchanged tokens exchange their velocities, turned ones turn them, as the facts say",
        max(figures.values(), default=0.0) < 1e-10,
        {k: rounded(v) for k, v in figures.items()},
        unreached="" if figures else "nothing is invariant",
    )


def _nodes(result: TokenFlow):  # type: ignore[no-untyped-def]
    from derive.notation.common.arrays import walk

    return walk(result.trace.velocity)

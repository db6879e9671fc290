"""What the rungs of control problems share: a point's arrays as arguments, moves, pairings."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

from derive.methods.optimal_control.instances import Point
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.arrays import Array, walk
from derive.verify.optimal_control.text import text_facts


def arguments(module: ModuleType, result: OptimalControl, at: Point) -> dict[str, Any]:
    """Arguments of the module's functions at a point."""

    def pick(leaves: Sequence[Array]) -> list[Any]:
        return [jnp.asarray(at.arrays[leaf.data]) for leaf in leaves]

    params = [jnp.asarray(at.params[q.name]) for q in result.model.params] + pick(result.data)
    return {
        "x": module.State(*pick(result.x)),
        "p": module.Costate(*pick(result.p)),
        "u": module.Control(*pick(result.u)),
        "params": module.Params(*params),
        "dx": module.State(*pick(result.dx)),
        "du": module.Control(*pick(result.du)),
    }


def moved(
    leaves: Sequence[Array], at: Point, rng: np.random.Generator, result: OptimalControl
) -> dict[str, Any]:
    out = {}
    symmetric = text_facts(result.model, at).symmetric
    for leaf in leaves:
        d = rng.standard_normal(at.arrays[leaf.data].shape)
        out[leaf.data] = (d + d.T) / 2 if leaf.data in symmetric else d
    return out


def inner_product(a: Any, b: Any) -> np.ndarray:
    return np.asarray(sum(np.sum(np.asarray(v) * np.asarray(w)) for v, w in zip(a, b, strict=True)))


def hamiltonian_nodes(result: OptimalControl) -> list[Array]:
    return walk(result.equations["hamiltonian"][0])

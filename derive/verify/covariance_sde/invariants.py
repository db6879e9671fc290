"""L4 of covariance SDEs: what the text promises of drift, diffusion and paths."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.draws import seed
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.verify.common.compare import apart
from derive.verify.common.rung import Rung, digit
from derive.verify.covariance_sde.instance import instance
from derive.verify.covariance_sde.text_layer import keeps_equal, permutes

ROUNDING, NODES = 1e-10, 0.05


def invariants(result: CovarianceSDE, module: ModuleType) -> Rung:
    """L4: symmetry, PSD, equivariance, equal tokens, singular states, one token."""
    figures: dict[str, float] = {}
    limits: dict[str, float] = {}
    means = any(block.moments for block in result.blocks)
    one = instance(result, 4, 30)
    V, params = one.V, tuple(one.params[n] for n in module.Params._fields)
    params = module.Params(*params)
    with jax.enable_x64(True):
        drift = np.asarray(module.drift(jnp.asarray(V), params))
        sigma = np.asarray(module.diffusion(jnp.asarray(V), params))
        figures["drift symmetric"] = apart(drift, drift.T)
        figures["diffusion symmetric"] = max(
            apart(sigma, sigma.transpose(order)) for order in ((1, 0, 2, 3), (2, 3, 0, 1))
        )
        least = np.linalg.eigvalsh(sigma.reshape(16, 16))[0]
        largest = max(float(np.max(np.abs(sigma))), 1e-300)  # an ODE has no diffusion
        figures["diffusion PSD"] = max(0.0, -least / largest)
        order = np.array([2, 0, 3, 1])
        if permutes(result, order):
            moved = np.asarray(module.drift(jnp.asarray(V[np.ix_(order, order)]), params))
            # nodes of means over normals are not those of permuted tokens
            name = (
                "permutation of tokens, by means over nodes" if means else "permutation of tokens"
            )
            figures[name] = apart(moved, drift[np.ix_(order, order)])
            limits[name] = NODES if means else ROUNDING
        twin = V.copy()
        twin[1], twin[:, 1] = twin[0], twin[:, 0]
        twin[1, 1] = twin[0, 0]
        equal = keeps_equal(result, 4)
        if equal:
            figures |= _equal_tokens(module, twin, params)
    paths = module.simulate(twin, params, t1=0.1, paths=64, seed=seed(5))
    last = paths.V[:, -1]
    if equal:
        figures["equal tokens stay equal (paths)"] = float(
            np.max(np.abs(last[:, 0] - last[:, 1])) / np.max(np.abs(last))
        )
    eigen = np.linalg.eigvalsh(last)
    figures["paths PSD"] = float(np.max(np.maximum(0, -eigen[:, 0]) / eigen[:, -1]))
    return Rung(
        "L4 invariants",
        "symmetry, positive semi-definiteness, singular states; equivariance and equal tokens "
        "where the text has them",
        all(v < limits.get(k, ROUNDING) for k, v in figures.items()),
        {k: digit(v) for k, v in figures.items()},
    )


def _equal_tokens(module: ModuleType, twin: np.ndarray, params: Any) -> dict[str, float]:
    """Rows of equal tokens in drift and diffusion."""
    pulled = np.asarray(module.drift(jnp.asarray(twin), params))
    spread = np.asarray(module.diffusion(jnp.asarray(twin), params))
    return {
        "equal tokens stay equal (drift)": apart(pulled[0], pulled[1], 1e-12),
        "equal tokens stay equal (noise)": float(np.max(np.abs(spread[0] - spread[1])))
        / max(float(np.max(np.abs(spread))), 1e-300),
    }

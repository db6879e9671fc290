"""Numbers at which a covariance SDE is evaluated: a generic covariance, parameters in range."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy as sp

from derive.calculus.index.factors import UNIT
from derive.draws import generator
from derive.emit.covariance_sde.names import parameters
from derive.methods.common.parameters import sample
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.common.arrays import walk

_SEED = 41


@dataclass(frozen=True)
class CovarianceInstance:
    """Numbers at which a rung is evaluated; `given`: functions of V that are held, by name."""

    V: np.ndarray
    params: dict[str, Any]
    numbers: dict[sp.Symbol, float]
    given: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {"V": self.V, **self.given}


def instance(result: CovarianceSDE, m: int, seed: int, heads: float = 2.0) -> CovarianceInstance:
    """A generic covariance and parameters inside their ranges; fixed dimensions are `heads`."""
    rng = generator(_SEED, seed)
    root = rng.standard_normal((m, m + 1))
    if result.law.gram.meaning == UNIT:
        root *= np.sqrt(m + 1) / np.linalg.norm(root, axis=1, keepdims=True)
    params: dict[str, Any] = {p.name: float(sample(p, rng)) for p in result.model.params}
    numbers: dict[sp.Symbol, float] = {p: params[p.name] for p in result.model.params}
    params |= given_patterns(result, m)
    for symbol in parameters(result):
        if symbol not in numbers and symbol.name not in params:
            # dimensions of which the limit hangs, and ratios to the width
            size = m + 1.0 if symbol == result.model.width else heads
            params[symbol.name] = size if symbol in result.model.dims else 1.0
            numbers[symbol] = params[symbol.name]
    numbers[result.law.gram.dims[0]] = float(m)
    return CovarianceInstance(root @ root.T / (m + 1), params, numbers)


def given_patterns(result: CovarianceSDE, m: int) -> dict[str, Any]:
    """Generic instances of the base patterns that come with the parameters."""
    nodes = walk(result.trace.output)
    return {a.data.name: a.data.sample(m) for a in nodes if a.op == "constant" and a.data.given}

"""The exact mean of one layer of a finite network, as a function on arrays.

Input: a model.  Output: n E[V' - V] at any width, from the step "average" of its
derivation: for layers whose increment is a polynomial of the weights and their magnitudes it is
exact, otherwise up to what the expansion in n^(-1/2) leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from derive.calculus.index.evaluate import evaluate
from derive.methods.covariance_sde.derivation import derive
from derive.notation.layers.model import Model


def layer_mean(model: Model) -> Callable[[np.ndarray, Mapping[str, float], int], np.ndarray]:
    """`rate(V, params, n)`: V (paths, m, m) to n E[V' - V] of the same shape."""
    result = derive(model)
    (mean,) = [s.results["n E[V' - V]"] for s in result.steps if s.name == "average"]
    token, width = result.model.state_dims

    def rate(V: np.ndarray, params: Mapping[str, float], n: int) -> np.ndarray:
        numbers = {p: params[p.name] for p in result.model.params}
        return evaluate(mean, {"V": V}, {**numbers, token: float(V.shape[-1]), width: float(n)})

    return rate

"""One layer of a definition's text, run by NumPy on one draw of its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from derive.draws import generator
from derive.emit.covariance_sde.names import parameters
from derive.methods.common.parameters import sample
from derive.methods.covariance_sde.instances import divisible
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.common import numeric
from derive.notation.common.scalars import size
from derive.verify.covariance_sde.instance import given_patterns

_SEED = 41


@dataclass(frozen=True)
class TextLayer:
    """Sizes, parameters, weights and a state X (m, width) for one run of the text."""

    result: CovarianceSDE
    dims: dict[str, float]
    params: dict[str, Any]
    weights: list[np.ndarray]
    X: np.ndarray

    def __call__(self) -> np.ndarray:
        model = self.result.model
        found = numeric.run(
            model.function, self.X, dims=self.dims, params=self.params, weights=self.weights
        )
        return np.asarray(found)

    def on(self, X: np.ndarray) -> np.ndarray:
        """The layer on another state, weights and parameters the same."""
        return replace(self, X=X)()


def text_layer(result: CovarianceSDE, m: int) -> TextLayer:
    """A generic draw at m tokens and small unequal dimensions."""
    rng = generator(_SEED + m)
    symbols = {d: float(4 + k) for k, d in enumerate(result.model.dims)}
    symbols[result.law.gram.dims[0]] = float(m)
    divisible(result.trace, symbols)
    dims = {d.name: n for d, n in symbols.items()}
    params = {p.name: sample(p, rng) for p in result.model.params} | given_patterns(result, m)
    params |= {s.name: dims.get(s.name, 1.0) for s in parameters(result) if s.name not in params}
    X = rng.standard_normal((m, int(dims[result.model.width.name])))
    if result.model.unit_rows:
        X *= np.sqrt(X.shape[1]) / np.linalg.norm(X, axis=1, keepdims=True)
    weights = [
        rng.standard_normal([size(d, symbols) for d in a.shape]) for _, a in result.trace.weights
    ]
    return TextLayer(result, dims, params, weights, X)


def permutes(result: CovarianceSDE, order: np.ndarray) -> bool:
    """Whether the text commutes with this permutation of the tokens."""
    text = text_layer(result, len(order))
    return _same(text.on(text.X[order]), text()[order])


def keeps_equal(result: CovarianceSDE, m: int) -> bool:
    """Whether the text keeps two equal first tokens of m equal, whatever the weights."""
    text = text_layer(result, m)
    twin = text.X.copy()
    twin[1] = twin[0]
    out = text.on(twin)
    return _same(out[1], out[0])


def _same(left: np.ndarray, right: np.ndarray) -> bool:
    return bool(np.max(np.abs(left - right)) <= 1e-10 * np.max(np.abs(right)))

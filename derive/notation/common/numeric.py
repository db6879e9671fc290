"""The second reading of a layer runs the same text on numbers and NumPy arrays.

Input: a definition, numbers for its dimensions and parameters, a state, the weights (or a
generator to draw them).  Output: the layer's value.  Nothing of the graph or the calculus takes
part: the text's global names are bound to numbers and NumPy functions and the function is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from derive.notation.common.arrays import Array
from derive.notation.common.patterns import Pattern, causal_matrix, declared
from derive.notation.common.rebinding import rebound
from derive.notation.common.scalars import Dim, Param
from derive.notation.common.words.word import WORDS


def run(
    function: Callable[..., Any],
    state: np.ndarray,
    *,
    dims: Mapping[str, float],
    params: Mapping[str, float],
    weights: Sequence[np.ndarray] | np.random.Generator,
) -> np.ndarray:
    """Value of the definition at `state` (m, n).

    `weights` are taken in the order in which the text asks for them; a generator draws them.
    For many readings at once pass `derive.notation.common.batch.Batch` arrays; complex values are
    legal wherever the functions are analytic.
    """
    return bound(function, dims, params, vocabulary(_source(weights), params))(state)


def _source(
    weights: Sequence[np.ndarray] | np.random.Generator,
) -> Callable[..., np.ndarray]:
    if isinstance(weights, np.random.Generator):
        return lambda *shape: weights.standard_normal([int(s) for s in shape])
    left: Iterator[np.ndarray] = iter(weights)
    return lambda *shape: next(left)


def bound(
    function: Callable[..., Any],
    dims: Mapping[str, float],
    params: Mapping[str, Any],
    words: Mapping[str, Any],
) -> Callable[..., Any]:
    """The definition's function on numbers; `params` holds given patterns too, by name."""
    known = {**dims, **params}  # a file may declare more, for its other definitions
    declared = [v for v in function.__globals__.values() if isinstance(v, (Dim, Param))]

    def own(value: Any) -> Any:
        if isinstance(value, (Dim, Param)):
            return known.get(value.name, value)
        # a matrix of a velocity field has a name alone, and is bound by its own reading
        if isinstance(value, Array) and value.op == "constant" and isinstance(value.data, Pattern):
            return _pattern(value.data, dims[value.shape[0].name], params)
        return value

    symbols = {v: float(known[v.name]) for v in declared if v.name in known}
    return rebound(function, own, words, symbols)


def _pattern(data: Pattern, size: float, given: Mapping[str, Any]) -> np.ndarray:
    """A declared base pattern: as given, or a generic instance."""
    return np.asarray(given[data.name]) if data.name in given else data.sample(int(size))


def vocabulary(
    draw: Callable[..., np.ndarray], given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """NumPy meanings of the notation's words; every word must have one (tested).

    `given`: the base patterns by name.
    """

    def pattern(declaration: str, m: float) -> np.ndarray:
        return _pattern(declared(declaration), m, given or {})

    def constant(declaration: str, m: float) -> np.ndarray:
        return _pattern(declared(declaration, rows=False), m, given or {})

    return {
        "constant": constant,
        "gaussian": draw,
        "eye": lambda m: np.eye(int(m)),
        "causal": lambda m: causal_matrix(int(m)),
        "pattern": pattern,
        "ones": lambda *shape: np.ones([int(s) for s in shape]),
        "gaussian_mean": gaussian_mean,
        **{name: word.value for name, word in WORDS.items()},
    }


def gaussian_mean(function: Callable[[np.ndarray], np.ndarray]) -> float:
    """E f(g), panels of Gauss-Legendre with an edge at zero, where functions may have a kink."""
    nodes, weights = _panels()
    return float(np.sum(weights * function(nodes)))


@cache
def _panels() -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(64)
    panels = ((-14, -5), (-5, 0), (0, 5), (5, 14))
    nodes = np.concatenate([(a + b) / 2 + (b - a) / 2 * x for a, b in panels])
    weights = np.concatenate([(b - a) / 2 * w for a, b in panels])
    return nodes, weights * np.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi)

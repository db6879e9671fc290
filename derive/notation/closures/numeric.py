"""The second reading of a velocity field runs the same text on arrays of points.

Input: a definition, arrays for its matrices, numbers for its parameters, query points and a
weighted cloud of key points.  Output: the velocity at the queries.  Nothing of the calculus takes
part: the text's global names are bound to numbers and to the words below.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import sympy as sp

from derive.notation.closures.model import ClosureModel
from derive.notation.closures.words import Matrix
from derive.notation.common.numeric import vocabulary
from derive.notation.common.rebinding import rebound
from derive.notation.common.scalars import Dim, Param


class Points:
    """A number or vector for each (query, key) pair: shape (queries or 1, keys or 1, ...)."""

    __array_ufunc__ = None

    def __init__(self, values: np.ndarray) -> None:
        self.values = np.asarray(values)

    def _with(self, other: Any, op: Callable[..., Any]) -> Points:
        a, b = self.values, other.values if isinstance(other, Points) else np.asarray(other)
        if not b.ndim:
            return Points(op(a, b))
        if not isinstance(other, Points):  # the same vector for every pair
            b = b[None, None]
        while a.ndim < b.ndim:
            a = a[..., None]
        while b.ndim < a.ndim:
            b = b[..., None]
        return Points(op(a, b))

    def __add__(self, other: Any) -> Points:
        return self._with(other, np.add)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Points:
        return self._with(other, np.subtract)

    def __rsub__(self, other: Any) -> Points:
        return self._with(other, lambda a, b: b - a)

    def __mul__(self, other: Any) -> Points:
        return self._with(other, np.multiply)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Points:
        return self._with(other, np.divide)

    def __rtruediv__(self, other: Any) -> Points:
        return self._with(other, lambda a, b: b / a)

    def __neg__(self) -> Points:
        return Points(-self.values)

    def __abs__(self) -> Points:
        return Points(np.abs(self.values))

    def __pow__(self, power: Any) -> Points:
        return Points(self.values**power)

    def __matmul__(self, other: Any) -> Points:
        if np.ndim(other) == 2:  # a matrix from the right
            return Points(self.values @ np.asarray(other))
        other = other if isinstance(other, Points) else Points(np.asarray(other)[None, None])
        return Points(np.einsum("xyk,xyk->xy", *np.broadcast_arrays(self.values, other.values)))

    def __rmatmul__(self, matrix: Any) -> Points:
        matrix = np.asarray(matrix)
        if matrix.ndim == 1:
            return Points(self.values @ matrix)
        return Points(self.values @ matrix.T)

    def sum(self, axis: int | None = None) -> Points:
        return Points(self.values.sum(axis=-1))

    def mean(self, axis: int | None = None) -> Points:
        return Points(self.values.mean(axis=-1))

    @property
    def T(self) -> Points:
        return self

    def __le__(self, other: Any) -> Points:
        return self._compared(other, np.less_equal)

    def __lt__(self, other: Any) -> Points:
        return self._compared(other, np.less)

    def __ge__(self, other: Any) -> Points:
        return self._compared(other, np.greater_equal)

    def __gt__(self, other: Any) -> Points:
        return self._compared(other, np.greater)

    def _compared(self, other: Any, relation: Callable[..., Any]) -> Points:
        """One where the relation holds, else zero."""
        return self._with(other, lambda a, b: relation(a, b).astype(float))


@dataclass(frozen=True)
class Cloud:
    """Weighted points: `at` (N, d), `weight` (N,) of sum one, `position` (N,), `second` or None."""

    at: np.ndarray
    weight: np.ndarray
    position: np.ndarray | None = None
    second: np.ndarray | None = None  # the other key of each pair of keys


def run(
    model: ClosureModel,
    queries: Cloud,
    keys: Cloud,
    *,
    arrays: Mapping[str, np.ndarray],
    params: Mapping[str, float],
    sinkhorn_sweeps: int = 2000,
) -> np.ndarray:
    """Velocity at the queries (n, d); their weights matter to bistochastic weights alone."""
    words = _words(queries, keys, sinkhorn_sweeps)
    function = _bound(model, words, arrays, params, _home(model, queries, keys))
    out = function(*_arguments(model, queries, keys))
    value = np.asarray(out.values if isinstance(out, Points) else out)
    return np.broadcast_to(value[:, 0] if value.ndim == 3 else value, queries.at.shape)


def weights_of_averages(
    model: ClosureModel,
    queries: Cloud,
    keys: Cloud,
    *,
    arrays: Mapping[str, np.ndarray],
    params: Mapping[str, float],
) -> list[np.ndarray]:
    """The weights that the text normalises, (queries, keys) each, in the order of its averages."""
    found: list[np.ndarray] = []
    words = _words(queries, keys, 1)
    plain = words["average"], words["bistochastic"]

    def average(value: Any, weight: Any) -> Points:
        found.append(np.asarray(weight.values if isinstance(weight, Points) else weight))
        return plain[0](value, weight)

    def bistochastic(kernel: Points) -> Points:
        found.append(kernel.values)
        return plain[1](kernel)

    names = {**words, "average": average, "bistochastic": bistochastic}
    with np.errstate(all="ignore"):
        home = _home(model, queries, keys)
        _bound(model, names, arrays, params, home)(*_arguments(model, queries, keys))
    return found


def noise_rate(
    model: ClosureModel, *, arrays: Mapping[str, np.ndarray], params: Mapping[str, float]
) -> np.ndarray:
    """Sum of G G^T over the factors G that the text gives to `noise`; zero if there are none."""
    total = [np.zeros(())]

    def noise(factor: Any) -> float:
        found = np.asarray(factor)
        total.append(found @ found.T)
        return 0.0

    x, y = (at[None] for at in _tokens(model, arrays))
    query = Cloud(x, np.ones(1), np.zeros(1))
    key = Cloud(x if model.second else y, np.ones(1), np.zeros(1), y)
    words = {**_words(query, key, 1), "noise": noise}
    _bound(model, words, arrays, params, _home(model, query, key))(*_arguments(model, query, key))
    return sum(total, np.zeros(()))


def _tokens(model: ClosureModel, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the sizes of a query and of a key."""
    sizes = dimensions(model, arrays)
    for dim, mean in ((model.state_dim, "m"), (model.key_dim, "key_mean")):
        if mean in arrays:
            sizes.setdefault(dim.name, np.shape(arrays[mean])[-1])
    return np.ones(sizes[model.state_dim.name]), np.ones(sizes[model.key_dim.name])


def _arguments(model: ClosureModel, queries: Cloud, keys: Cloud) -> list[Points]:
    arguments = [Points(queries.at[:, None, :]), Points(keys.at[None, :, :])]
    if model.positional and not model.mixture:
        assert queries.position is not None and keys.position is not None
        arguments += [Points(queries.position[:, None]), Points(keys.position[None, :])]
    if model.second:
        assert keys.second is not None
        arguments.append(Points(keys.second[None, :, :]))
    return arguments


def _words(queries: Cloud, keys: Cloud, sweeps: int) -> dict[str, Any]:
    def over_keys(value: Any, weight: Any) -> np.ndarray:
        product = value * weight
        values = product.values if isinstance(product, Points) else np.asarray(product)[None, None]
        shape = (values.shape[0], len(keys.weight), *values.shape[2:])
        return np.einsum("xy...,y->x...", np.broadcast_to(values, shape), keys.weight)[:, None]

    def integral(value: Any, weight: Any = 1) -> Points:
        return Points(over_keys(value, weight))

    def average(value: Any, weight: Any) -> Points:
        one = Points(np.ones((1, len(keys.weight))))
        return Points(over_keys(value, weight)) / Points(over_keys(one, weight))

    def bistochastic(kernel: Points) -> Points:
        """Sinkhorn's iterations until both marginals are one."""
        k = kernel.values
        b = np.ones(k.shape[1])
        for _ in range(sweeps):
            a = 1 / (k @ (b * keys.weight))
            new = 1 / ((a * queries.weight) @ k)
            if np.max(np.abs(new / b - 1)) < 1e-15:
                b = new
                break
            b = new
        a = 1 / (k @ (b * keys.weight))
        return Points(a[:, None] * k * b[None, :])

    def entrywise(word: Callable[..., Any]) -> Callable[..., Any]:
        def apply(value: Any) -> Any:
            return Points(word(value.values)) if isinstance(value, Points) else word(value)

        return apply

    plain = vocabulary(_no_draw)
    out = {n: entrywise(f) for n, f in plain.items() if n not in ("gaussian", "eye", "ones")}
    return out | {
        "eye": plain["eye"],
        "ones": plain["ones"],
        "average": average,
        "integral": integral,
        "bistochastic": bistochastic,
        "dot": lambda a, b: a @ b,
        "inner": lambda a, b: a @ b,
        "squared_norm": lambda v: v @ v,
        "l2_norm": lambda v: (v @ v) ** 0.5,
        "l1_norm": lambda v: abs(v).sum(),
        "sum_over": lambda count, term: reduce(operator.add, map(term, range(int(count)))),
        "noise": lambda factor: 0.0,
    }


def _no_draw(*_: Any) -> np.ndarray:
    raise AssertionError("a velocity field draws no weights")


def _home(model: ClosureModel, queries: Cloud, keys: Cloud) -> dict[str, int]:
    """Sizes of the tokens, which no matrix need have."""
    key = keys.at if keys.second is None else keys.second
    return {model.key_dim.name: key.shape[-1], model.state_dim.name: queries.at.shape[-1]}


def _bound(
    model: ClosureModel,
    words: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    params: Mapping[str, float],
    home: Mapping[str, int],
) -> Callable[..., Any]:
    sizes = {**dimensions(model, arrays), **home}

    def own(value: Any) -> Any:
        if isinstance(value, Matrix):
            return np.asarray(arrays[value.data]) if value.data in arrays else value
        if isinstance(value, Dim):
            return sizes.get(value.name, value)
        # a parameter that the module declares after this definition is none of its own
        return params.get(value.name, value) if isinstance(value, Param) else value

    symbols: dict[sp.Symbol, float] = {v: float(params[v.name]) for v in model.params}
    symbols |= {v: float(sizes[v.name]) for v in model.dims if v.name in sizes}
    return rebound(model.function, own, words, symbols)


def dimensions(model: ClosureModel, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Sizes of the dimensions, read off the arrays."""
    sizes: dict[str, int] = {}
    for matrix in model.matrices:
        if matrix.data in arrays:
            for dim, size in zip(matrix.shape, np.shape(arrays[matrix.data]), strict=True):
                sizes.setdefault(dim.name, size)
    return sizes

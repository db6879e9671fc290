"""Evaluates a traced graph on NumPy arrays, to check that a trace is the text it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy as sp

from derive.notation.common.arrays import Array, walk
from derive.notation.common.normal_nodes import nodes, psd_root
from derive.notation.common.scalars import extent, number, size
from derive.notation.common.visitor import Visitor
from derive.notation.common.words.elementwise import compiled
from derive.notation.common.words.word import WORDS


def _aligned(value: np.ndarray, own: int, wanted: int) -> np.ndarray:
    """Axes of size one between batch and array axes, as broadcasting of ranks asks for."""
    if value.ndim <= own or wanted <= own:
        return value
    batch = value.ndim - own
    return value.reshape(value.shape[:batch] + (1,) * (wanted - own) + value.shape[batch:])


@dataclass
class _Values(Visitor):
    """Values of nodes, whose arguments have theirs in `done`."""

    numbers: Mapping[sp.Symbol, float]
    done: dict[Array, np.ndarray] = field(default_factory=dict)
    batch: int = 0  # axes of the leaves in front of their own

    def args(self, array: Array) -> list[np.ndarray]:
        wanted = max(array.ndim, *(a.ndim for a in array.args))
        return [_aligned(self.done[a], a.ndim, wanted) for a in array.args]

    def op_eye(self, array: Array) -> Any:
        return np.eye(size(array.shape[0], self.numbers))

    def op_constant(self, array: Array) -> Any:
        return array.data.sample(int(self.numbers[array.shape[0]]))

    def op_full(self, array: Array) -> Any:
        shape = [int(number(extent(s), self.numbers)) for s in array.shape]
        return np.full(shape, number(array.data, self.numbers))

    def op_add(self, array: Array) -> Any:
        return np.add(*self.args(array))

    def op_multiply(self, array: Array) -> Any:
        return np.multiply(*self.args(array))

    def op_matmul(self, array: Array) -> Any:
        """Vectors count as a row or a column behind the batch axes, which is then left out."""
        sides = zip(array.args, (-2, -1), strict=True)
        left, right = (
            np.expand_dims(self.done[a], axis) if a.ndim == 1 else self.done[a] for a, axis in sides
        )
        ranks = [max(a.ndim, 2) for a in array.args]
        both = zip((left, right), ranks, strict=True)
        out = np.matmul(*(_aligned(x, rank, max(ranks)) for x, rank in both))
        gone = tuple(axis for a, axis in zip(array.args, (-2, -1), strict=True) if a.ndim == 1)
        return np.squeeze(out, axis=gone) if gone else out

    def op_transpose(self, array: Array) -> Any:
        return self.done[array.args[0]].swapaxes(-1, -2)

    def op_sum(self, array: Array) -> Any:
        (inner,), (axis, keepdims) = array.args, array.data
        return self.done[inner].sum(axis=axis - inner.ndim, keepdims=keepdims)

    def op_expand(self, array: Array) -> Any:
        return np.expand_dims(self.done[array.args[0]], array.data - array.ndim)

    def op_function(self, array: Array) -> Any:
        (x,), body = array.data[1].variables, array.data[1].expr
        scalars = {s: sp.Float(self.numbers[s], 30) for s in body.free_symbols if s != x}
        with np.errstate(divide="ignore"):  # the logarithm of a masked entry
            return compiled(x, body.xreplace(scalars))(self.done[array.args[0]])

    def op_psd_root(self, array: Array) -> Any:
        return psd_root(self.done[array.args[0]])

    def op_over_nodes(self, array: Array) -> Any:
        return self.done[array.args[0]][None]

    def op_normals(self, array: Array) -> Any:
        number_, count = array.data
        m = size(array.shape[0], self.numbers)
        drawn = nodes(count * m * m).reshape(-1, count, *(1,) * self.batch, m, m)
        return drawn[:, number_]

    def op_normal_mean(self, array: Array) -> Any:
        return self.done[array.args[0]].mean(axis=0)

    def op_word(self, array: Array) -> Any:
        name, *more = array.data
        return WORDS[name].value(*(self.done[a] for a in array.args), *more)

    op_concatenate = op_word

    def op_composite(self, array: Array) -> Any:
        return self.done[array.args[-1]]


def value(
    root: Array, leaves: Mapping[Array, np.ndarray], numbers: Mapping[sp.Symbol, float]
) -> np.ndarray:
    """Evaluate a graph; `leaves` gives the state and the weights, `numbers` every symbol.

    Leaves may carry a common leading batch axis.
    """
    return values(root, leaves, numbers)[root]


def values(
    root: Array, leaves: Mapping[Array, np.ndarray], numbers: Mapping[sp.Symbol, float]
) -> dict[Array, np.ndarray]:
    """The same for every part of the graph."""
    batch = max((np.ndim(v) - a.ndim for a, v in leaves.items()), default=0)
    found = _Values(numbers, batch=batch)
    for array in walk(root):
        found.done[array] = np.asarray(leaves[array] if array in leaves else found.of(array))
    return found.done

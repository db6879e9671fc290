"""Exact entries of an array graph at given dimensions, as SymPy expressions.

Input: a graph, sizes by name, entries of leaves that are more than symbols.  Output: a NumPy array
of SymPy expressions.  A leaf is an array of symbols named after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import sympy as sp

from derive.errors import RequestError
from derive.face.symbols import named, plain
from derive.notation.common.arrays import Array, walk
from derive.notation.common.normal_nodes import OPERATIONS
from derive.notation.common.scalars import Share
from derive.notation.common.words.word import given, word_of


class Graph:
    """Evaluates graphs at fixed sizes; `symmetric`: leaves with one symbol for both halves."""

    def __init__(
        self,
        sizes: Mapping[str, int],
        leaves: Mapping[Array, np.ndarray] | None = None,
        symmetric: Collection[Array] = (),
    ) -> None:
        self.sizes, self.symmetric = sizes, symmetric
        self.done: dict[Array, np.ndarray] = dict(leaves or {})

    def of(self, root: Array) -> np.ndarray:
        for array in walk(root):
            if array not in self.done:
                build = getattr(self, f"_of_{array.op}", None)
                if build is None:
                    if array.op in OPERATIONS:
                        raise RequestError(
                            "a mean over normals has no entries in closed form; the kernel has it"
                        )
                    raise RequestError(f"entries of {array.op} are not known here")
                self.done[array] = np.asarray(build(array), dtype=object)
        return self.done[root]

    def _args(self, array: Array) -> list[np.ndarray]:
        return [self.done[a] for a in array.args]

    def _shape(self, array: Array) -> list[int]:
        return [int(d) if d.is_Integer else size_of(d, self.sizes) for d in array.shape]

    def _of_leaf(self, array: Array) -> np.ndarray:
        shape = self._shape(array)
        out = np.empty(shape, dtype=object)
        for at in np.ndindex(*shape):
            key = tuple(sorted(at)) if array in self.symmetric else at
            out[at] = named(str(array.data), key)
        return out

    _of_state = _of_leaf

    def _of_eye(self, array: Array) -> np.ndarray:
        return identity(self._shape(array)[0])

    def _of_constant(self, array: Array) -> np.ndarray:
        return pattern(array.data, self._shape(array), array.data.name)

    def _of_full(self, array: Array) -> np.ndarray:
        return np.full(self._shape(array), plain(array.data, self.sizes), dtype=object)

    def _of_add(self, array: Array) -> Any:
        first, second = self._args(array)
        return first + second

    def _of_multiply(self, array: Array) -> Any:
        first, second = self._args(array)
        return first * second

    def _of_matmul(self, array: Array) -> Any:
        first, second = self._args(array)
        return np.dot(first, second) if first.ndim < 3 and second.ndim < 3 else first @ second

    def _of_transpose(self, array: Array) -> Any:
        return self._args(array)[0].swapaxes(-1, -2)

    def _of_sum(self, array: Array) -> Any:
        axis, keepdims = array.data
        return self._args(array)[0].sum(axis=axis, keepdims=keepdims)

    def _of_expand(self, array: Array) -> Any:
        return np.expand_dims(self._args(array)[0], array.data)

    def _of_composite(self, array: Array) -> Any:
        return self._args(array)[-1]

    def _of_function(self, array: Array) -> Any:
        body = array.data[1]
        return np.frompyfunc(lambda v: plain(body(v), self.sizes), 1, 1)(self._args(array)[0])

    def _of_word(self, array: Array) -> Any:
        return word_of(array).exact(*self._args(array), *given(array))

    _of_concatenate = _of_word


def size_of(dim: sp.Symbol, sizes: Mapping[str, int]) -> int:
    """The size of a dimension by name; RequestError for one that is not given."""
    if isinstance(dim, Share):
        return dim.of(size_of(dim.whole, sizes), size_of(dim.count, sizes))
    if dim.name not in sizes:
        raise RequestError(f"the size of {dim.name} is missing: .sympy({dim.name}=2)")
    return sizes[dim.name]


def identity(size: int) -> np.ndarray:
    out = np.full((size, size), sp.Integer(0), dtype=object)
    np.fill_diagonal(out, sp.Integer(1))
    return out


def pattern(meaning: Any, shape: list[int], name: str) -> np.ndarray:
    """A base pattern: symbols, where it is given with the parameters; even over the past."""
    out = np.full(shape, sp.Integer(0), dtype=object)
    for a, b in np.ndindex(*shape):
        if meaning.given:
            out[a, b] = named(name, (a, b))
        elif b <= a:
            out[a, b] = sp.Rational(1, a + 1)
    return out

"""Which axes of a definition's arrays run over the same units.

Input: the trace of a block.  Output: a class for every axis; axes that are joined by a product,
a sum or a broadcast share one.  Only shapes and operations are read, no mathematics.
"""

from __future__ import annotations

from derive.notation.common.arrays import Array, walk
from derive.notation.layers.model import Trace

Axis = tuple[Array, int]


class Axes:
    """Classes of axes: `of(array, k)` is equal for two axes iff they run over one set of units."""

    def __init__(self, traced: Trace) -> None:
        self._above: dict[Axis, Axis] = {}
        for array in walk(traced.output):
            self._join(array)
        # the new state takes the old one's place
        self._same((traced.output, traced.output.ndim - 1), (traced.state, traced.state.ndim - 1))

    def of(self, array: Array, axis: int) -> Axis:
        here = (array, axis % array.ndim)
        while here in self._above:
            here = self._above[here]
        return here

    def _same(self, one: Axis, two: Axis) -> None:
        first, second = self.of(*one), self.of(*two)
        if first != second:
            self._above[first] = second

    def _join(self, array: Array) -> None:
        args, rank = array.args, array.ndim
        if array.op in ("add", "multiply", "function", "composite"):
            for arg in args[-1:] if array.op == "composite" else args:
                for k in range(1, arg.ndim + 1):
                    if arg.shape[-k] != 1:
                        self._same((arg, arg.ndim - k), (array, rank - k))
        elif array.op == "transpose":
            (arg,) = args
            for k in range(rank):
                moved = {rank - 1: rank - 2, rank - 2: rank - 1}.get(k, k)
                self._same((arg, k), (array, moved))
        elif array.op == "sum":
            (arg,), (axis, keepdims) = args, array.data
            kept = [k for k in range(arg.ndim) if keepdims or k != axis]
            for position, k in enumerate(kept):
                if k != axis:
                    self._same((arg, k), (array, position))
        elif array.op == "expand":
            (arg,) = args
            kept = [k for k in range(rank) if k != array.data]
            for k, position in enumerate(kept):
                self._same((arg, k), (array, position))
        elif array.op == "matmul":
            self._product(array)

    def _product(self, array: Array) -> None:
        left, right = array.args
        inner = right.ndim - 2 if right.ndim > 1 else 0
        self._same((left, left.ndim - 1), (right, inner))
        columns = int(right.ndim > 1)
        if columns:
            self._same((right, right.ndim - 1), (array, array.ndim - 1))
        for k in range(2, left.ndim + 1):
            self._same((left, left.ndim - k), (array, array.ndim - columns - k + 1))
        for k in range(3, right.ndim + 1):
            self._same((right, right.ndim - k), (array, array.ndim - k))

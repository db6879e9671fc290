"""An array graph in matrix form, as SymPy matrix expressions of symbolic sizes.

Input: a graph, and the forms of leaves that are more than symbols.  Output: a scalar expression for
an array without axes, a matrix of one column for a vector, a `MatrixExpr` for a matrix.

Refused, by name: arrays of more axes, and words without a matrix form.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import sympy as sp
from sympy.matrices.expressions.applyfunc import ElementwiseApplyFunction

from derive.calculus.arrays import broadcasting
from derive.calculus.arrays.broadcasting import Part, Product, Way, role
from derive.errors import RequestError
from derive.face.symbols import plain
from derive.notation.common.arrays import Array, Shape, show_shape, walk
from derive.notation.common.normal_nodes import OPERATIONS
from derive.notation.common.scalars import extent
from derive.notation.common.words.word import given, word_of


class GraphMatrices:
    """The matrix forms of the nodes of graphs; `symmetric`: leaves that are their transposes."""

    def __init__(
        self, leaves: Mapping[Array, Any] | None = None, symmetric: Collection[Array] = ()
    ) -> None:
        self.done: dict[Array, Any] = dict(leaves or {})
        self.symmetric = {self._of_leaf(a) for a in symmetric}

    def of(self, root: Array) -> Any:
        for array in walk(root):
            if array not in self.done:
                build = getattr(self, f"_of_{array.op}", None)
                if array.op in OPERATIONS:
                    raise RequestError("a mean over normals has no matrix form; the kernel has it")
                if build is None or array.ndim > 2:
                    raise RequestError(
                        f"{array.op} of shape {show_shape(array.shape)} has no matrix form; "
                        "entries at given sizes: .sympy(...)"
                    )
                self.done[array] = build(array)
        return self.done[root]

    def _args(self, array: Array) -> list[Any]:
        return [self.done[a] for a in array.args]

    def _of_leaf(self, array: Array) -> Any:
        name = str(array.data)
        if not array.ndim:
            return sp.Symbol(name, real=True)
        return sp.MatrixSymbol(name, *_sides(array.shape))

    _of_state = _of_leaf

    def _of_eye(self, array: Array) -> Any:
        return sp.Identity(_sides(array.shape)[0])

    def _of_constant(self, array: Array) -> Any:
        return pattern(array.data, _sides(array.shape), array.data.name)

    def _of_full(self, array: Array) -> Any:
        value = plain(array.data)
        if not array.ndim:
            return value
        return times(value, sp.OneMatrix(*_sides(array.shape))) if value else _zero(array.shape)

    def _of_add(self, array: Array) -> Any:
        first, second = (self._spread(a, array.shape) for a in array.args)
        return plus(first, second)

    def _spread(self, array: Array, shape: Shape) -> Any:
        """The array at a larger shape."""
        if array.shape == shape:
            return self.done[array]
        rows, columns = _sides(shape)
        if not array.ndim:
            return times(self.done[array], sp.OneMatrix(rows, columns))
        if role(array.shape, len(shape)) == "number":
            return times(sp.OneMatrix(rows, 1), self.done[array], sp.OneMatrix(1, columns))
        return self._product(broadcasting.spread(array, shape), rows, columns)

    def _product(self, parts: Product, rows: Any = None, columns: Any = None) -> Any:
        """`rows`, `columns`: the lengths of a column and of a row of ones."""
        return times(*(self._part(p, rows, columns) for p in parts))

    def _part(self, part: Part, rows: Any, columns: Any) -> Any:
        way, array = part
        if array is None:
            return sp.OneMatrix(rows, 1) if way is Way.ONES else sp.OneMatrix(1, columns)
        value = self.done[array]
        lies = way is Way.DIAGONAL and value.shape[0] == 1
        upright = self._turned(value) if way is Way.TURNED or lies else value
        return sp.DiagMatrix(upright) if way is Way.DIAGONAL else upright

    def _turned(self, value: Any) -> Any:
        return value if value in self.symmetric else transposed(value)

    def _of_multiply(self, array: Array) -> Any:
        (first, a), (second, b) = ((x, self.done[x]) for x in array.args)
        if not first.ndim or not second.ndim:
            return times(a, b)
        parts = broadcasting.multiplied(array)
        if parts is not None:
            return self._product(parts)
        return sp.HadamardProduct(*(self._spread(x, array.shape) for x in array.args))

    def _of_matmul(self, array: Array) -> Any:
        if not array.ndim:
            return inner(*self._args(array))
        return self._product(broadcasting.contracted(array))

    def _of_transpose(self, array: Array) -> Any:
        return self._turned(self._args(array)[0])

    def _of_sum(self, array: Array) -> Any:
        (summed,), (axis, _) = array.args, array.data
        value = self.done[summed]
        rows, columns = value.shape
        if array.ndim:
            length = columns if axis == 1 else rows
            return self._product(broadcasting.summed(array), length, length)
        product = _sum_of_product(summed)
        if product is not None:
            return inner(*(self.done[a] for a in product))
        return inner(sp.OneMatrix(rows, 1), value)

    def _of_expand(self, array: Array) -> Any:
        (value,) = self._args(array)
        if array.ndim == 1:
            return times(value, sp.OneMatrix(1, 1))
        return self._turned(value) if array.data in (0, -2) else value

    def _of_composite(self, array: Array) -> Any:
        return self._args(array)[-1]

    def _of_function(self, array: Array) -> Any:
        return elementwise(lambda x: plain(array.data[1](x)), self._args(array)[0])

    def _of_word(self, array: Array) -> Any:
        return word_of(array).matrix(*self._args(array), *given(array))


def _sides(shape: Shape) -> list[sp.Expr]:
    """Rows and columns; a vector stands upright."""
    return [*(plain(extent(d)) for d in shape), sp.Integer(1)][:2]


def _zero(shape: Shape) -> Any:
    return sp.ZeroMatrix(*_sides(shape))


def _sum_of_product(inner: Array) -> tuple[Array, ...] | None:
    """Two arrays of one shape whose product is summed over all entries: a trace."""
    if inner.op == "sum" and inner.data == (0, False):
        (inner,) = inner.args
    equal = inner.op == "multiply" and inner.args[0].shape == inner.args[1].shape
    return inner.args if equal else None


def pattern(meaning: Any, sizes: list[sp.Expr], name: str) -> Any:
    """A base pattern: a symbol, where it is given with the parameters; even over the past."""
    if meaning.given:
        return sp.MatrixSymbol(name, *sizes)
    i, j = sp.symbols("i j", integer=True)
    return sp.FunctionMatrix(
        *sizes, sp.Lambda((i, j), sp.Piecewise((1 / (i + 1), j <= i), (0, True)))
    )


# SymPy's own + and * bring all that is below into a normal form, which takes minutes


def plus(*terms: Any) -> Any:
    if not terms[0].is_Matrix:
        return sp.Add(*terms)
    parts = [p for t in terms for p in (t.args if isinstance(t, sp.MatAdd) else [t])]
    kept = [p for p in parts if not isinstance(p, sp.ZeroMatrix)]
    return sp.MatAdd(*kept) if len(kept) > 1 else (kept or parts)[0]


def times(*factors: Any) -> Any:
    scalars = [f for f in factors if not f.is_Matrix]
    matrices: list[Any] = []
    for factor in factors:
        if isinstance(factor, sp.MatMul):
            front, inside = factor.as_coeff_matrices()
            scalars.append(front)
            matrices += inside
        elif factor.is_Matrix:
            matrices.append(factor)
    front = sp.Mul(*scalars)
    if not matrices:
        return front
    if front == 0 or any(isinstance(m, sp.ZeroMatrix) for m in matrices):
        return sp.ZeroMatrix(matrices[0].shape[0], matrices[-1].shape[1])
    kept = [m for m in matrices if not isinstance(m, sp.Identity)] or matrices[:1]
    out = [*([] if front == 1 else [front]), *kept]
    return sp.MatMul(*out) if len(out) > 1 else out[0]


def transposed(value: Any) -> Any:
    return value.arg if isinstance(value, sp.Transpose) else sp.Transpose(value)


def inner(left: Any, right: Any) -> Any:
    """left^T right, summed over all entries."""
    return sp.Trace(times(transposed(left), right))


def elementwise(function: Callable[[Any], Any], value: Any) -> Any:
    """A function of a scalar, or of every entry."""
    if not value.is_Matrix:
        return function(value)
    x = sp.Symbol("x", real=True)
    return ElementwiseApplyFunction(sp.Lambda(x, function(x)), value)

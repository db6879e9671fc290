"""What NumPy broadcasts, multiplies and sums, as products of matrices in which vectors are columns.

Input: a node of an array graph of at most two axes.  Output: the parts of a product in their order,
each an argument in one of the ways below, or a vector of ones.  Whoever writes matrices, as text
or as SymPy's objects, writes the parts; the rules stand here alone.
"""

from __future__ import annotations

from enum import Enum, auto

import sympy as sp

from derive.notation.common.arrays import Array, Shape


class Way(Enum):
    PLAIN = auto()
    TURNED = auto()  # its transpose
    DIAGONAL = auto()  # the diagonal matrix of a row or a column
    ONES = auto()  # no argument: a column of ones
    ONES_ROW = auto()  # its transpose


Part = tuple[Way, Array | None]
Product = tuple[Part, ...]
ONES: Part = (Way.ONES, None)
ONES_ROW: Part = (Way.ONES_ROW, None)
#: what a number is multiplied by to fill an array of a role
FILLED: dict[str, Product] = {
    "number": (),
    "column": (ONES,),
    "row": (ONES_ROW,),
    "matrix": (ONES, ONES_ROW),
}


def role(shape: Shape, within: int) -> str:
    """What an array is beside one of `within` axes: a vector lies along the last of two."""
    full = (*[sp.Integer(1)] * (within - len(shape)), *shape)
    if all(s == 1 for s in full):
        return "number"
    if len(full) == 2 and full[0] == 1:
        return "row"
    return "column" if len(full) == 1 or full[1] == 1 else "matrix"


def lying(array: Array) -> Part:
    """An array that is a row: a vector is turned, since it stands as a column."""
    return (Way.PLAIN if array.ndim == 2 else Way.TURNED, array)


def spread(array: Array, shape: Shape) -> Product:
    """An array that is repeated along the axes that it lacks."""
    is_, wanted = role(array.shape, len(shape)), role(shape, len(shape))
    if is_ == wanted:
        return ((Way.PLAIN, array),)
    if is_ == "number":
        return ((Way.PLAIN, array), *FILLED[wanted])
    return ((Way.PLAIN, array), ONES_ROW) if is_ == "column" else (ONES, lying(array))


def multiplied(array: Array) -> Product | None:
    """A product entry by entry as one of matrices, where its factors have two shapes; else None."""
    roles = {role(a.shape, array.ndim): a for a in array.args}
    if len(roles) == 1 or "number" in roles:
        return None
    columns, rows = roles.get("column"), roles.get("row")
    if columns is not None and rows is not None:
        return ((Way.PLAIN, columns), lying(rows))
    matrix = (Way.PLAIN, roles["matrix"])
    return (
        ((Way.DIAGONAL, columns), matrix) if columns is not None else (matrix, (Way.DIAGONAL, rows))
    )


def contracted(array: Array) -> Product:
    """A matrix product; a vector on the left of a matrix is a column as all vectors are."""
    left, right = array.args
    if left.ndim == 1 and right.ndim == 2:
        return ((Way.TURNED, right), (Way.PLAIN, left))
    return ((Way.TURNED if left.ndim == 1 else Way.PLAIN, left), (Way.PLAIN, right))


def summed(array: Array) -> Product:
    """A sum along one axis."""
    (inner,), (axis, keepdims) = array.args, array.data
    is_ = role(inner.shape, inner.ndim)
    if is_ == "number" or is_ == "column" and axis == 1 or is_ == "row" and axis == 0:
        return ((Way.PLAIN if keepdims or is_ != "row" else Way.TURNED, inner),)
    if axis == 1:
        return ((Way.PLAIN, inner), ONES)
    if keepdims or is_ == "column":
        return (ONES_ROW, (Way.PLAIN, inner))
    return ((Way.TURNED, inner), ONES)

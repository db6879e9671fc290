"""A product of two placed arrays as words of matrices: `@`, `.mT`, `matvec`."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

from derive.calculus.index.factors import Index
from derive.emit.common.merging import Placed

# text, legs, and both factors with whether they are transposed
Matmul: TypeAlias = tuple[str, tuple[Index, ...], tuple[tuple[str, bool], tuple[str, bool]]]


def matmul(
    group: list[Placed],
    dummies: Collection[Index],
    legs: tuple[Index, ...],
    symmetric: Collection[str],
    shared: Collection[str] = (),
) -> Matmul | None:
    """A product of two matrices in the order that transposes least; None for other products.

    A transposed matrix on the left is the dear one: batched products then leave the fast path.
    One that all paths share (`shared`) stands better on the right: then it is one large product.
    """
    if len(group) != 2 or len(dummies) != 1 or any(len(ix) != 2 for _, ix in group):
        return None
    (dummy,) = dummies
    if len(legs) != 2 or any(dummy not in ix for _, ix in group):
        return None  # a sum within one of the two is no product of matrices
    found: list[tuple[tuple[int, int], Matmul]] = []
    for (first, ix), (second, jx) in (group, group[::-1]):
        outer = tuple(next(i for i in pair if i != dummy) for pair in (ix, jx))
        left = ix[1] != dummy and first not in symmetric
        right = jx[0] != dummy and second not in symmetric
        text = f"{turned(first, left)} @ {turned(second, right)}"
        dear = 16 * left + 4 * right + 3 * (first in shared) + 2 * (outer != legs)
        cost = (dear, len(found))
        found.append((cost, (text, outer, ((first, left), (second, right)))))
    return min(found)[1]


def matvec(
    group: list[Placed], dummies: Collection[Index], symmetric: Collection[str]
) -> str | None:
    """A matrix times a vector, the matrix being the first of the group."""
    (first, ix), (second, jx) = group
    if len(ix) != 2 or len(jx) != 1 or {*dummies} != {*jx} or jx[0] not in ix:
        return None
    return f"matvec({turned(first, ix[1] != jx[0] and first not in symmetric)}, {second})"


def turned(name: str, flip: bool = True) -> str:
    return f"{name}.mT" if flip else name

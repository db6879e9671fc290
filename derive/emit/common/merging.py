"""Products with a common factor, added before they are multiplied: A C + B C = (A + B) C.

Input: terms whose arrays are named products.  Output: the same sum with fewer products.  Only
products that nothing else uses are merged, so that none is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from derive.calculus.index.factors import Index

Placed = tuple[str, tuple[Index, ...]]  # a named array and its indices


@dataclass(frozen=True)
class Recipe:
    """A product of a matrix with a matrix or a vector: names, and whether each is transposed."""

    left: str
    left_turned: bool
    right: str
    right_turned: bool = False


@dataclass(frozen=True)
class Split:
    """A named product with one factor set apart: `common` on `leg`, the rest on the others.

    `side`: where the common factor stands; `rest` "": a row of ones.
    """

    side: str
    common: str
    turned: bool
    leg: Index | None
    rest: str
    rest_turned: bool
    rest_leg: Index | None

    @property
    def key(self) -> tuple[Any, ...]:
        return self.side, self.common, self.turned, self.leg and self.leg.name


def splits(placed: Placed, recipe: Recipe, symmetric: bool) -> Iterator[Split]:
    """The ways to take one factor off a product; a symmetric one may be read transposed."""
    r, indices = recipe, placed[1]
    if len(indices) == 1:
        yield Split("left", r.left, r.left_turned, indices[0], r.right, False, None)
        return
    x, y = indices
    readings = [(r, x, y)]
    if symmetric:
        turned = Recipe(r.right, not r.right_turned, r.left, not r.left_turned)
        readings.append((turned, x, y))
    for one, first, last in readings:
        yield Split("right", one.right, one.right_turned, last, one.left, one.left_turned, first)
        yield Split("left", one.left, one.left_turned, first, one.right, one.right_turned, last)


def placed_matrix(name: str, turned: bool, row: Index, column: Index) -> Placed:
    return name, (column, row) if turned else (row, column)

"""Which rotations of all tokens commute with a definition.

Input: the velocity.  Output: the arrays of the definition with an axis of the tokens' dimension:
turning tokens and these arrays turns the velocity, so that a rotation commutes with the definition
where it leaves them as they are; with none, every rotation does.
"""

from __future__ import annotations

import numpy as np
import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import indices_of
from derive.methods.token_flow.names import Names


class Direction(Exception):
    """A coordinate is singled out by a number, which no array's turning undoes."""


def turned_arrays(velocity: Expression, names: Names, book: Book) -> tuple[str, ...]:
    """Names of the arrays that hold directions.  Raises Direction."""
    found: set[str] = set()
    _gather(velocity, names, book, found, set())
    return tuple(sorted(found))


def _gather(
    expression: Expression, names: Names, book: Book, found: set[str], seen: set[str]
) -> None:
    d = names.model.state_dim
    for _, factors in expression.terms:
        present = indices_of(factors)
        lone = [i for i in expression.free if i.dim == d and i not in present]
        uses = [i for f in factors for i in f.indices if i.dim == d]
        if lone or any(i not in expression.free and uses.count(i) != 2 for i in uses):
            raise Direction("coordinates are added up, which singles out a direction")
        for f in factors:
            meaning = book.of.get(f.tensor)
            if meaning is not None:
                if any(i.dim == d for i in meaning.indices):
                    raise Direction("a function acts on each coordinate by itself")
                if f.tensor.name not in seen:
                    seen.add(f.tensor.name)
                    for body in meaning.bodies:
                        _gather(body, names, book, found, seen)
            elif f.tensor.kind == "constant" and d in f.tensor.dims:
                found.add(f.tensor.name)


def turned(
    array: np.ndarray, shape: tuple[sp.Symbol, ...], d: sp.Symbol, rotation: np.ndarray
) -> np.ndarray:
    """An array with every axis of size d turned."""
    for axis, size in enumerate(shape):
        if size == d:
            array = np.moveaxis(np.tensordot(rotation, array, (1, axis)), 0, axis)
    return array

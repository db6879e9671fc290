"""Compares two derivations term by term: terms of equal value are equal, however written.

Index expressions are in normal form, so their difference is exact; what a defined tensor means
decides, not what it is called.  Array graphs have no normal form: their summands are compared by
value, at random arguments of several sizes.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from derive.calculus.arrays.algebra import Algebra
from derive.calculus.index.defined import Book, placed
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Index, Tensor
from derive.calculus.written.short_form import short_form
from derive.emit.common.array_written import line
from derive.emit.common.unicode import with_signs
from derive.errors import RequestError
from derive.face.symbols import plain
from derive.notation.common.arrays import Array, scale, walk
from derive.notation.common.graph import value as value_at
from derive.notation.common.scalars import Param
from derive.process import has_signs


@dataclass(frozen=True)
class Difference:
    """Terms by equation: (of the first alone, of the second alone).  False where there are none."""

    names: tuple[str, str]
    terms: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __repr__(self) -> str:
        first, second = self.names
        if not self.terms:
            return f"{first} and {second}: every term of every equation is equal"
        return "\n".join([f"--- {first}", f"+++ {second}", *self.rows])

    @property
    def rows(self) -> list[str]:
        """An equation's name, then its terms that the first has alone (-), and the second (+)."""
        lines = []
        for name, (gone, come) in self.terms.items():
            lines += [name, *(f"-   {t}" for t in gone), *(f"+   {t}" for t in come)]
        return lines

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text("..." if cycle else with_signs(repr(self)) if has_signs() else repr(self))

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


Side = tuple[Any, Book, str]  # a value, its book, what to call it


def differences(
    first: Mapping[str, Side], second: Mapping[str, Side], symmetric: Collection[str] = ()
) -> dict[str, Any]:
    """Both sides of every equation that differs; `symmetric`: arrays that both declare so."""
    book = Book()
    out = {}
    for name in dict.fromkeys([*first, *second]):
        sides = [
            _translated(side[name], book) if name in side else None for side in (first, second)
        ]
        texts = _apart(sides[0], sides[1], symmetric)
        if any(texts):
            out[name] = texts
    return out


def _apart(
    one: Any, other: Any, symmetric: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    for mine, yours, turn in ((one, other, 1), (other, one, -1)):
        if yours is None:
            texts = _all(mine)
            return (texts, ()) if turn == 1 else ((), texts)
    if isinstance(one, Expression) and isinstance(other, Expression):
        return _of_expressions(one, other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return _of_graphs(one, other, symmetric)
    if isinstance(one, sp.Expr) and isinstance(other, sp.Expr):
        same = sp.simplify(one - other) == 0
        return ((), ()) if same else ((str(one),), (str(other),))
    raise RequestError("the two sides are not of one form and cannot be compared")


def _all(value: Any) -> tuple[str, ...]:
    if isinstance(value, Expression):
        return _written(value)
    return tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)


def _of_expressions(one: Expression, other: Expression) -> Any:
    if [i.dim.name for i in one.free] != [i.dim.name for i in other.free]:
        raise RequestError("the two sides have indices over other dimensions")
    other = placed(other, dict(zip(other.free, one.free, strict=True)))
    left = {factors for _, factors in (one - other).terms}
    sides = (tuple(t for t in side.terms if t[1] in left) for side in (one, other))
    return tuple(_written(Expression(one.free, terms)) for terms in sides)


def _written(terms: Expression) -> tuple[str, ...]:
    """Terms in their shortest form, in lines."""
    if terms.is_zero:
        return ()
    indices = {*terms.free, *(i for _, factors in terms.terms for f in factors for i in f.indices)}
    sizes = {plain(i.dim): i.dim for i in indices}  # as they stand in the indices
    form = short_form(terms.map_coefficients(lambda c: c.xreplace(sizes)))
    where = (f"    where {'; '.join(form.where)}",) if form.where else ()
    return (*form.lines, *where)


def _translated(side: Side, book: Book) -> Any:
    """A value whose defined tensors are those of a common book, and its parameters plain."""
    value, own, _ = side
    if isinstance(value, Expression):
        return _in_common(value, own, book, {})
    return value


def _in_common(value: Expression, own: Book, book: Book, known: dict[Tensor, Tensor]) -> Expression:
    terms = []
    for coefficient, factors in value.terms:
        moved = tuple(_common(f.tensor, own, book, known)[f.indices] for f in factors)
        terms.append((plain(coefficient), moved))
    return collect(value.free, terms)


def _common(tensor: Tensor, own: Book, book: Book, known: dict[Tensor, Tensor]) -> Tensor:
    if tensor not in own.of:
        return tensor
    if tensor not in known:
        meaning = own.of[tensor]
        names = [Index(f"at{k}", i.dim) for k, i in enumerate(meaning.indices)]
        rename = dict(zip(meaning.indices, names, strict=True))
        bodies = []
        for body in meaning.bodies:
            more = [i for i in body.free if i not in rename]
            ends = {i: Index(f"row{k}", i.dim) for k, i in enumerate(more)}
            bodies.append(placed(_in_common(body, own, book, known), rename | ends))
        dims = tensor.dims[len(names) :]
        known[tensor] = book.tensor(meaning.kind, names, bodies, meaning.data, dims)
    return known[tensor]


# Sizes of the first dimension, and whether leaves are positive and matrices near the identity, so
# that logarithms and inverses have values; else they have both signs.
POINTS = ((2, True), (3, True), (2, False), (3, False), (4, False))
SAME = 1e-11  # of the largest entry


def _of_graphs(one: tuple[Array, ...], other: tuple[Array, ...], symmetric: Collection[str]) -> Any:
    """Summands of equal value at random arguments are one; the rest differs."""
    sides: tuple[list[str], list[str]] = ([], [])
    if len(one) != len(other):
        raise RequestError("the two sides have other numbers of parts")
    for mine, yours in zip(one, other, strict=True):
        points = [_Point(*kind, (mine, yours), symmetric) for kind in POINTS]
        if _close(_print(mine, points), _print(yours, points)):
            continue
        first, second = (_summands(side, points) for side in (mine, yours))
        for text, found in first:
            match = next((k for k, (_, v) in enumerate(second) if _close(v, found)), None)
            if match is None:
                sides[0].append(text)
            else:
                second.pop(match)
        sides[1].extend(text for text, _ in second)
    return tuple(map(tuple, sides))


class _Point:
    """Random arguments for the leaves of two graphs, one for one name."""

    def __init__(
        self, size: int, positive: bool, roots: tuple[Array, ...], symmetric: Collection[str]
    ) -> None:
        nodes = [a for root in roots for a in walk(root)]
        dims = sorted({d for a in nodes for s in a.shape for d in s.free_symbols}, key=str)
        # no two dimensions are of one size: x @ W and x @ W.T would be told apart by shape alone
        self.numbers: dict[sp.Symbol, float] = {d: float(size + k) for k, d in enumerate(dims)}
        self.seed, self.positive = [size, int(positive)], positive
        for symbol in sorted(_scalars(nodes) - set(dims), key=lambda s: s.name):
            rng = np.random.default_rng([*self.seed, *symbol.name.encode()])
            self.numbers[symbol] = _inside(symbol, rng.uniform(0.3, 0.7))
        self.leaves = {a: self._value(a, str(a.data) in symmetric) for a in nodes if a.op == "leaf"}

    def _value(self, leaf: Array, symmetric: bool) -> np.ndarray:
        """Of order one, so that no function saturates and no term is lost beside another."""
        rng = np.random.default_rng([*self.seed, *str(leaf.data).encode()])
        shape = [int(d.xreplace(self.numbers)) for d in leaf.shape]
        found = rng.uniform(0.1, 0.6, shape) if self.positive else rng.normal(0, 0.5, shape)
        if symmetric:  # definite, as covariances are
            return found @ found.T + np.eye(shape[0])
        square = len(shape) == 2 and leaf.shape[0] == leaf.shape[1]
        return found + np.eye(shape[0]) if square and self.positive else found


def _scalars(nodes: list[Array]) -> set[sp.Symbol]:
    found: set[sp.Symbol] = set()
    for array in nodes:
        if array.op == "full":
            found |= array.data.free_symbols
        elif array.op == "function":
            found |= array.data[1].free_symbols
    return found


def _inside(symbol: sp.Symbol, share: float) -> float:
    """A value in a parameter's range."""
    if not isinstance(symbol, Param):
        return share
    low, high = max(symbol.range.low, -2.0), min(symbol.range.high, 2.0)
    return low + share * (high - low)


Values = list[np.ndarray]  # one array a point


def _print(root: Array, points: list[_Point]) -> Values:
    with np.errstate(all="ignore"):
        return [np.ravel(value_at(root, p.leaves, p.numbers)) for p in points]


def _summands(root: Array, points: list[_Point]) -> list[tuple[str, Values]]:
    """Text and value of every summand, opened through scalars."""
    out = []
    for core, coefficient in Algebra().terms(root).items():
        factor = [
            float(sp.N(coefficient.xreplace({s: sp.Float(v) for s, v in p.numbers.items()})))
            for p in points
        ]
        with np.errstate(all="ignore"):
            parts = [
                f * np.ravel(value_at(core, p.leaves, p.numbers))
                for f, p in zip(factor, points, strict=True)
            ]
        out.append((line(scale(coefficient, core)), parts))
    return out


def _close(left: Values, right: Values) -> bool:
    """Equal at every point where both have values; an infinite value is one, nan is none.

    Raises RequestError where there are not two such points.
    """
    compared = 0
    for one, other in zip(left, right, strict=True):
        if one.shape != other.shape:
            return False
        if np.isnan(one).any() or np.isnan(other).any():  # outside of a domain: log(a) + log(b)
            continue
        bounded = np.isfinite(one) & np.isfinite(other)
        if not np.array_equal(one[~bounded], other[~bounded]):
            return False
        if not bounded.any() and one.size:
            continue
        compared += 1
        one, other = one[bounded], other[bounded]
        size = max(np.max(np.abs(one), initial=0.0), np.max(np.abs(other), initial=0.0))
        if np.max(np.abs(one - other), initial=0.0) > SAME * size:
            return False
    if compared < 2:
        raise RequestError("the two sides have no finite values where they are compared")
    return True

"""Groups the terms of an expression as a reader would: common factors, named parts, partners.

Input: an expression (in means and centred parts, see `derive.calculus.index.means`).  Output: a
`Grouped` of lines with a common coefficient, each a sum of products of connected components.
Products that differ in one component alone become one product with a *named part*; terms that an
exchange of free indices makes of each other are written once, with the exchanges.  `expanded`
takes it all back, and `grouped` proves with it that nothing was lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import sympy as sp

from derive.calculus.index.canonical import canonical, components
from derive.calculus.index.diagonals_off import Operator, split
from derive.calculus.index.exchanges import Way, exchanged, symmetries
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factor, Factors, Index, Tensor, Terms, apart
from derive.errors import CheckFailed

PART = "part"  # kind of the tensor that stands for a named part
SAVED = 3  # terms that an operator must save: its definition has as many
MOST_TERMS = 400  # beyond which nobody reads them, and the search takes minutes


@dataclass(frozen=True)
class Piece:
    """coefficient * product of connected components, plus what exchanges make of it."""

    coefficient: sp.Expr
    parts: tuple[Factors, ...]
    exchanges: tuple[Way, ...] = ()


@dataclass(frozen=True)
class Line:
    """coefficient * sum of pieces."""

    coefficient: sp.Expr
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Grouped:
    """Lines that add up to the expression, and the named parts in them by their tensors.

    `inside`: lines that the `operator` acts on, which are added to the others.
    """

    free: tuple[Index, ...]
    lines: tuple[Line, ...]
    named: Mapping[Tensor, Expression]
    operator: Operator | None = None
    inside: tuple[Line, ...] = ()

    @property
    def count(self) -> int:
        """Terms as written: a piece and each of its partners."""
        return sum(1 + len(p.exchanges) for p in self.pieces)

    @property
    def pieces(self) -> list[Piece]:
        return [piece for line in (*self.inside, *self.lines) for piece in line.pieces]


def grouped(expression: Expression) -> Grouped:
    """Raises CheckFailed if the groups do not add up to the expression."""
    named: dict[Tensor, Expression] = {}
    found = Grouped(expression.free, _grouped(expression, named), named)
    few = found.count > SAVED and len(expression.terms) <= MOST_TERMS
    if few and (parted := split(expression)) is not None:
        operator, inner, rest = parted
        named = {}
        inside, lines = _grouped(inner, named), _grouped(rest, named)
        other = Grouped(expression.free, lines, named, operator, inside)
        if other.count + SAVED <= found.count:
            found = other
    left = len((expanded(found) - expression).map_coefficients(_settled).terms)
    if left:
        raise CheckFailed(f"the groups of an equation's terms leave {left} terms against it")
    return found


def _settled(coefficient: sp.Expr) -> sp.Expr:
    """Zero where it vanishes: sqrt(r^2 + r)/r is sqrt(r + 1)/sqrt(r) for a positive r."""
    return sp.simplify(sp.expand_power_base(sp.factor(coefficient, deep=True)))


def _grouped(expression: Expression, named: dict[Tensor, Expression]) -> tuple[Line, ...]:
    free, dims = expression.free, sizes(expression)
    pieces = [
        Piece(c, tuple(canonical(part, free)[1] for part in components(factors, free)))
        for c, factors in expression.terms
    ]
    if len(pieces) <= MOST_TERMS:
        while (joined := _joined(pieces, free, dims, named)) is not None:
            pieces = joined
        pieces = _partners(pieces, expression, named)
    return _lines(pieces, dims)


def sizes(expression: Expression) -> frozenset[sp.Symbol]:
    """The dimensions that an expression runs over, and other whole numbers in its coefficients."""
    dims = {i.dim for _, factors in expression.terms for f in factors for i in f.indices}
    symbols = {s for c, _ in expression.terms for s in c.free_symbols}
    return frozenset(dims | {s for s in symbols if s.is_integer})


def expanded(found: Grouped) -> Expression:
    """The sum of all lines, with the named parts and the operator written out."""
    total = _summed(found.lines, found)
    return (
        total if found.operator is None else total + found.operator.on(_summed(found.inside, found))
    )


def _summed(lines: Iterable[Line], found: Grouped) -> Expression:
    products: Terms = []
    for line in lines:
        for piece in line.pieces:
            whole = written_out(piece, found.free, found.named).scaled(line.coefficient)
            for way in (found.free, *piece.exchanges):
                products.extend(exchanged(whole, way).terms)
    return collect(found.free, products)


def written_out(
    piece: Piece, free: tuple[Index, ...], named: Mapping[Tensor, Expression]
) -> Expression:
    """A piece without its partners, as an expression."""
    products: Terms = [(piece.coefficient, ())]
    for part in piece.parts:
        own: Terms = [(sp.Integer(1), part)]
        if part[0].tensor in named:
            own = named[part[0].tensor].placed(part[0].indices)
        products = [(c * c2, f + apart(f2, free)) for c, f in products for c2, f2 in own]
    return collect(free, products)


# named parts


def _joined(
    pieces: Sequence[Piece],
    free: tuple[Index, ...],
    dims: frozenset[sp.Symbol],
    named: dict[Tensor, Expression],
) -> list[Piece] | None:
    """The largest set of products that differ in one component, as one; None where there is none.

    Only products with the same parameters in front are joined: others belong to different effects.
    """
    groups: dict[tuple[object, ...], dict[int, int]] = {}  # places by number of the piece
    for number, piece in enumerate(pieces):
        for place, key in _fronts(piece, free, dims):
            groups.setdefault(key, {}).setdefault(number, place)
    group = max(groups.values(), key=len, default={})
    if len(group) < 2:
        return None
    inner = [(pieces[n].coefficient, pieces[n].parts[place]) for n, place in group.items()]
    scale = _common([c for c, _ in inner], dims)
    first, place = next(iter(group.items()))
    ends = _ends(pieces[first].parts[place], free)
    slots = tuple(Index(f"slot{k}", i.dim) for k, i in enumerate(ends))
    names = dict(zip(ends, slots, strict=True))
    meaning = collect(slots, [(c / scale, tuple(f.rename(names) for f in p)) for c, p in inner])
    front = _others(pieces[first].parts, place)
    whole = Piece(
        scale, (*front, (_name_of(meaning, named).rename(dict(zip(slots, ends, strict=True))),))
    )
    return [
        whole if n == first else p for n, p in enumerate(pieces) if n == first or n not in group
    ]


@lru_cache(maxsize=4096)
def _fronts(
    piece: Piece, free: tuple[Index, ...], dims: frozenset[sp.Symbol]
) -> list[tuple[int, tuple[object, ...]]]:
    """What a product has beside each of its components that may be joined with others."""
    parameters, _ = _taken_apart(piece.coefficient, dims)
    fronts = [(place, part, _others(piece.parts, place)) for place, part in enumerate(piece.parts)]
    return [
        (place, (front, _ends(part, free), parameters))
        for place, part, front in fronts
        if front and part[0].tensor.kind != PART
    ]


def _name_of(meaning: Expression, named: dict[Tensor, Expression]) -> Factor:
    """The tensor that stands for a part: one of those there are, with its slots in some order."""
    slots = meaning.free
    for tensor, other in named.items():
        for order in itertools.permutations(slots):
            if tensor.dims == tuple(i.dim for i in order) and exchanged(other, order) == meaning:
                return Factor(tensor, order)
    tensor = Tensor(f"part {len(named) + 1}", tuple(i.dim for i in slots), PART)
    named[tensor] = meaning
    return Factor(tensor, slots)


def _others(parts: tuple[Factors, ...], place: int) -> tuple[Factors, ...]:
    return tuple(sorted((p for k, p in enumerate(parts) if k != place), key=repr))


def _ends(part: Factors, free: tuple[Index, ...]) -> tuple[Index, ...]:
    present = {i for f in part for i in f.indices}
    return tuple(i for i in free if i in present)


# partners


def _partners(
    pieces: Sequence[Piece], expression: Expression, named: Mapping[Tensor, Expression]
) -> list[Piece]:
    """Pieces that an exchange of free indices makes of each other, written once."""
    ways, free = symmetries(expression), expression.free
    waiting = {written_out(p, free, named): p for p in pieces}
    if len(waiting) < len(pieces):  # two pieces of equal value: whose partner is whose is open
        return list(pieces)
    out = []
    while waiting:
        whole = next(iter(waiting))
        piece, exchanges = waiting.pop(whole), []
        for way in ways:
            if waiting.pop(exchanged(whole, way), None) is not None:
                exchanges.append(way)
        out.append(replace(piece, exchanges=tuple(exchanges)))
    return out


# coefficients


def _lines(pieces: Iterable[Piece], dims: frozenset[sp.Symbol]) -> tuple[Line, ...]:
    """Pieces with the same parameters in front on one line, in order of appearance."""
    found: dict[sp.Expr, list[Piece]] = {}
    for piece in pieces:
        found.setdefault(_taken_apart(piece.coefficient, dims)[0], []).append(piece)
    out = []
    for group in found.values():
        scale = _common([p.coefficient for p in group], dims)
        rest = tuple(replace(p, coefficient=sp.cancel(p.coefficient / scale)) for p in group)
        out.append(Line(scale, rest))
    return tuple(out)


@cache
def _taken_apart(coefficient: sp.Expr, dims: frozenset[sp.Symbol]) -> tuple[sp.Expr, sp.Expr]:
    """A coefficient as parameters times (number and sizes)."""
    parameters, measure = sp.Integer(1), sp.Integer(1)
    for factor in sp.Mul.make_args(sp.factor(coefficient)):
        if factor.free_symbols <= dims and factor.is_real:
            measure *= factor
        else:
            parameters *= factor
    if parameters.could_extract_minus_sign():
        parameters, measure = -parameters, -measure
    return parameters, measure


def _common(coefficients: Sequence[sp.Expr], dims: frozenset[sp.Symbol]) -> sp.Expr:
    """What is taken out of a sum: its parameters, a size to the largest power that occurs, so that
    means stay means, and a number or a sign that all have."""
    split = [_taken_apart(c, dims) for c in coefficients]
    powers = [m.as_powers_dict() for _, m in split]
    out = split[0][0]
    for size in sorted({s for p in powers for s in p if s.is_Symbol}, key=str):
        out *= size ** max(p[size] for p in powers)
    numbers = [sp.Mul(*(a for a in sp.Mul.make_args(m) if a.is_number)) for _, m in split]
    if len({abs(n) for n in numbers}) == 1:
        out *= abs(numbers[0])
    return -out if all(n.is_negative for n in numbers) else out

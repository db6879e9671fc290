"""The canonical form of a product of factors makes equality of index expressions decidable.

Input: factors and the free indices.  Output: a sortable key and the same product written with
canonical dummy names and factor order.  Two products get one key iff one becomes the other by
renaming dummies, reordering factors and permuting the slots of symmetric tensors.

Method: components joined by dummies; within each, colour refinement on the graph of dummies and
factors, then individualisation of ties, the smallest resulting description winning; ties that an
automorphism explains are tried once.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import sympy as sp

from derive.calculus.index.factors import Factor, Factors, Index

Key = tuple[Any, ...]


def canonical(factors: Factors, free: tuple[Index, ...]) -> tuple[Key, Factors]:
    """Key and canonical product; `free` indices keep their names."""
    place = {index: position for position, index in enumerate(free)}
    assert not any(index.name.startswith("$") for index in free), "$ names canonical dummies"
    parts = [_component(part, place, free) for part in components(factors, place)]
    parts.sort(key=lambda item: item[0])
    out: list[Factor] = []
    counter = 0
    for _, part in parts:
        names: dict[Index, Index] = {}
        for factor in part:
            for index in factor.indices:
                if index not in place and index not in names:
                    names[index] = _dummy(f"${counter}", index.dim)
                    counter += 1
        out.extend(f.rename(names) for f in part)
    return tuple(k for k, _ in parts), tuple(out)


def components(factors: Factors, fixed: Container[Index] = ()) -> list[Factors]:
    """Split factors into groups that share no index outside `fixed`."""
    groups: list[tuple[set[Index], list[Factor]]] = []
    for factor in factors:
        bound = {i for i in factor.indices if i not in fixed}
        touching = [g for g in groups if g[0] & bound]
        merged: tuple[set[Index], list[Factor]] = (bound, [])
        for g in touching:
            merged[0].update(g[0])
            merged[1].extend(g[1])
            groups.remove(g)
        merged[1].append(factor)
        groups.append(merged)
    return [tuple(g[1]) for g in groups]


@cache
def _dummy(name: str, dim: sp.Symbol) -> Index:
    return Index(name, dim)


def _component(
    factors: Factors, place: dict[Index, int], free: tuple[Index, ...]
) -> tuple[Key, Factors]:
    """Canonical order of one component, cached on a name-free description of it."""
    names: dict[Index, Index] = {}
    for factor in factors:
        for index in factor.indices:
            if index not in names:
                own = index in place
                names[index] = index if own else _dummy(f"%{len(names)}", index.dim)
    return _cached(tuple(f.rename(names) for f in factors), free)


@dataclass(frozen=True)
class _Numbered:
    """A component on whole numbers: its free indices come first, from `bound` on its dummies.

    `factors`: the rank of the tensor's name, that of name and kind, whether its slots may be
    permuted, and the slots.
    """

    bound: int
    factors: tuple[tuple[int, int, bool, tuple[int, ...]], ...]

    def refined(self, colours: list[int]) -> list[int]:
        """Colour refinement: the stable colours."""
        count = len(set(colours))
        while True:
            seen: list[list[Any]] = [[] for _ in colours]
            for name, _, symmetric, slots in self.factors:
                around = [colours[i] for i in slots]
                whole = tuple(sorted(around) if symmetric else around)
                for position, i in enumerate(slots):
                    if i >= self.bound:
                        seen[i].append((name, 0 if symmetric else position, whole))
            colours = _levels([(c, sorted(s)) for c, s in zip(colours, seen, strict=True)])
            found = len(set(colours))
            if found == count:
                return colours
            count = found

    def described(self, colours: list[int]) -> Key:
        """What a discrete colouring makes of the factors."""
        out = []
        for _, head, symmetric, slots in self.factors:
            around = [colours[i] for i in slots]
            out.append((head, tuple(sorted(around) if symmetric else around)))
        return tuple(sorted(out))

    def tied(self, colours: list[int]) -> list[int]:
        """The first cell of more than one dummy."""
        cells: dict[int, list[int]] = {}
        for i in range(self.bound, len(colours)):
            cells.setdefault(colours[i], []).append(i)
        return next((cells[c] for c in sorted(cells) if len(cells[c]) > 1), [])

    def first(self, colours: list[int]) -> Key:
        """The description of the first leaf below a colouring."""
        while True:
            colours = self.refined(colours)
            cell = self.tied(colours)
            if not cell:
                return self.described(colours)
            colours = _split(colours, cell, cell[0])

    def smallest(self, colours: list[int]) -> tuple[Key, list[int], Key]:
        """The smallest description below a colouring, its colours, and that of the first leaf.

        Members of a cell whose first leaves are described alike go into each other by an
        automorphism that keeps the colours, and so do all leaves below them: one is enough.
        """
        colours = self.refined(colours)
        cell = self.tied(colours)
        if not cell:
            own = self.described(colours)
            return own, colours, own
        best = self.smallest(_split(colours, cell, cell[0]))
        known = {best[2]}
        for chosen in cell[1:]:
            below = _split(colours, cell, chosen)
            start = self.first(below)
            if start not in known:
                known.add(start)
                found = self.smallest(below)
                if found[0] < best[0]:
                    best = (*found[:2], best[2])
        return best


def _split(colours: list[int], cell: list[int], chosen: int) -> list[int]:
    """One member of a cell before the others."""
    out = [2 * c for c in colours]
    for i in cell:
        out[i] += i != chosen
    return out


def _levels(values: list[Any]) -> list[int]:
    """The rank of each among the distinct ones."""
    order = sorted(range(len(values)), key=values.__getitem__)
    out, level = [0] * len(values), 0
    for before, now in zip(order, order[1:], strict=False):
        level += values[before] != values[now]
        out[now] = level
    return out


@lru_cache(maxsize=200_000)
def _cached(factors: Factors, free: tuple[Index, ...]) -> tuple[Key, Factors]:
    place = {index: position for position, index in enumerate(free)}
    held = {i for f in factors for i in f.indices}
    fixed, dummies = sorted(held & place.keys(), key=place.__getitem__), sorted(held - place.keys())
    number = {index: k for k, index in enumerate((*fixed, *dummies))}
    heads = [(f.tensor.name, f.tensor.kind) for f in factors]
    shapes = zip(
        _levels([name for name, _ in heads]),
        _levels(heads),
        (f.tensor.symmetric for f in factors),
        (tuple(number[i] for i in f.indices) for f in factors),
        strict=True,
    )
    start = [*range(len(fixed)), *(len(fixed) + k for k in _levels([i.dim.name for i in dummies]))]
    _, colours, _ = _Numbered(len(fixed), tuple(shapes)).smallest(start)
    ranks = {index: colours[number[index]] for index in held}

    def order(factor: Factor) -> Key:
        return _describe_factor(factor, place, ranks)

    ordered = tuple(sorted((_sort_slots(f, place, ranks) for f in factors), key=order))
    return tuple(order(f) for f in ordered), ordered


def _sort_slots(factor: Factor, place: dict[Index, int], ranks: dict[Index, int]) -> Factor:
    if not factor.tensor.symmetric:
        return factor
    return Factor(
        factor.tensor,
        tuple(sorted(factor.indices, key=lambda i: _index_key(i, place, ranks))),
    )


def _index_key(index: Index, place: dict[Index, int], ranks: dict[Index, int]) -> tuple[Any, ...]:
    if index in place:
        return (0, place[index], "")
    return (1, ranks[index], index.dim.name)


def _describe_factor(
    factor: Factor, place: dict[Index, int], ranks: dict[Index, int]
) -> tuple[Any, ...]:
    slots = [_index_key(i, place, ranks) for i in factor.indices]
    return (
        factor.tensor.name,
        factor.tensor.kind,
        tuple(sorted(slots)) if factor.tensor.symmetric else tuple(slots),
    )

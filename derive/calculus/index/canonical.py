"""The canonical form of a product of factors makes equality of index expressions decidable.

Input: factors and the free indices.  Output: a sortable key and the same product written with
canonical dummy names and factor order.  Two products get one key iff one becomes the other by
renaming dummies, reordering factors and permuting the slots of symmetric tensors.

Method: components joined by dummies; within each, colour refinement on the graph of dummies and
factors, then individualisation of ties, the smallest resulting description winning.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from functools import lru_cache
from typing import Any

from derive.calculus.index.factors import Factor, Factors, Index

Key = tuple[Any, ...]


def canonical(factors: Factors, free: tuple[Index, ...]) -> tuple[Key, Factors]:
    """Key and canonical product; `free` indices keep their names."""
    place = {index: position for position, index in enumerate(free)}
    assert not any(index.name.startswith("$") for index in free), "$ names canonical dummies"
    found = [_component(part, place, free) for part in components(factors, place)]
    found.sort(key=lambda item: item[0])
    out: list[Factor] = []
    counter = 0
    for _, part, known in found:
        names: dict[Index, Index] = {}
        for factor in part:
            for index in factor.indices:
                if index in known and index not in names:
                    names[index] = Index(f"${counter}", known[index].dim)
                    counter += 1
        out.extend([f.rename(names) for f in part])
    return tuple(k for k, _, _ in found), tuple(out)


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


def _component(
    factors: Factors, place: Container[Index], free: tuple[Index, ...]
) -> tuple[Key, Factors, dict[Index, Index]]:
    """Canonical form of one component, cached on a name-free description of it; what its dummies
    stand for."""
    names: dict[Index, Index] = {}
    for factor in factors:
        for index in factor.indices:
            if index not in place and index not in names:
                names[index] = Index(f"%{len(names)}", index.dim)
    key, ordered = _cached(tuple([f.rename(names) for f in factors]), free)
    return key, ordered, {new: old for old, new in names.items()}


@lru_cache(maxsize=200_000)
def _cached(factors: Factors, free: tuple[Index, ...]) -> tuple[Key, Factors]:
    place = {index: position for position, index in enumerate(free)}
    dummies = sorted({i for f in factors for i in f.indices if i not in place})
    colour: dict[Index, tuple[Any, ...]] = {
        i: (0, place[i]) for f in factors for i in f.indices if i in place
    }
    colour.update({i: (1, i.dim.name) for i in dummies})
    best: tuple[Key, dict[Index, int]] | None = None
    for ranks in _leaves(factors, dummies, colour):
        description = _describe(factors, place, ranks)
        if best is None or description < best[0]:
            best = (description, ranks)
    assert best is not None
    key, ranks = best

    def order(factor: Factor) -> tuple[Any, ...]:
        return _describe_factor(factor, place, ranks)

    ordered = tuple(sorted((_sort_slots(f, place, ranks) for f in factors), key=order))
    return key, ordered


def _leaves(
    factors: Factors, dummies: list[Index], colour: dict[Index, tuple[Any, ...]]
) -> Iterator[dict[Index, int]]:
    """All discrete colourings of the dummies that individualisation reaches."""
    ranks = _refine(factors, dummies, colour)
    cells: dict[int, list[Index]] = {}
    for index in dummies:
        cells.setdefault(ranks[index], []).append(index)
    tied = [c for c in sorted(cells) if len(cells[c]) > 1]
    if not tied:
        yield ranks
        return
    for chosen in cells[tied[0]]:
        split = {i: c for i, c in colour.items() if i not in ranks}
        split.update({i: (1, ranks[i], i != chosen) for i in dummies})
        yield from _leaves(factors, dummies, split)


def _refine(
    factors: Factors, dummies: list[Index], colour: dict[Index, tuple[Any, ...]]
) -> dict[Index, int]:
    """Colour refinement: the stable ranks of the dummies."""
    ranks = _ranks(colour)
    while True:
        seen: dict[Index, list[Any]] = {i: [] for i in dummies}
        for factor in factors:
            tensor = factor.tensor
            slots = [ranks[i] for i in factor.indices]
            whole = tuple(sorted(slots)) if tensor.symmetric else tuple(slots)
            for position, index in enumerate(factor.indices):
                if index in seen:
                    slot = 0 if tensor.symmetric else position
                    seen[index].append((tensor.name, slot, whole))
        refined = {
            i: ((0, r) if i not in seen else (1, r, tuple(sorted(seen[i]))))
            for i, r in ranks.items()
        }
        new = _ranks(refined)
        if len(set(new.values())) == len(set(ranks.values())):
            return {i: new[i] for i in dummies}
        ranks = new


def _ranks(colour: dict[Index, tuple[Any, ...]]) -> dict[Index, int]:
    levels = {c: r for r, c in enumerate(sorted(set(colour.values())))}
    return {i: levels[c] for i, c in colour.items()}


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


def _describe(
    factors: Factors, place: dict[Index, int], ranks: dict[Index, int]
) -> tuple[Any, ...]:
    return tuple(sorted(_describe_factor(f, place, ranks) for f in factors))

"""A product of tensors as arrays: pair by pair, in the order of least cost.

The one way from index expressions to arrays, whoever writes them: each lowering says what a
diagonal, a sum and a product of two are in its words (`Lowering`).

A pairing costs the product of the sizes of all indices in it; sizes are symbols in an equation, so
that orders are compared at nominal ones.  The order is the cheapest there is for up to `EXACT`
operands; beyond, each pairing is the cheapest next one.  Of equally cheap orders the one that joins
earlier operands first is taken: callers choose by the order of their operands.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Protocol, TypeAlias, TypeVar

from derive.calculus.index.factors import Index

EXACT = 8  # operands; the search visits every split of every subset
NOMINAL = {"H": 4, "B": 4, "queries": 100, "keys": 100}  # of other sizes: 8

T = TypeVar("T")
Placed: TypeAlias = tuple[T, tuple[Index, ...]]  # an operand and its indices
Sets = tuple[frozenset[int], ...]
Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Pairing:
    """Two operands and the indices of their product; products are numbered on as operands."""

    first: int
    second: int
    legs: tuple[Index, ...]


def contraction_order(
    operands: Sequence[tuple[Index, ...]], output: tuple[Index, ...]
) -> list[Pairing]:
    """Pairings, in order, that leave one array on those of the indices of `output` that are there.

    An index that is in one operand alone and not in `output` is taken to be summed beforehand.
    """
    numbers: dict[Index, int] = {}
    for index in itertools.chain.from_iterable(operands):
        numbers.setdefault(index, len(numbers))
    sets = tuple(frozenset(numbers[i] for i in indices) for indices in operands)
    kept = frozenset(numbers[i] for i in output if i in numbers)
    pairs = _cheapest(sets, kept, tuple(map(nominal, numbers)))
    left, out = dict(enumerate(operands)), list[Pairing]()
    for first, second in pairs:
        own = (*left.pop(first), *left.pop(second))
        still = {*output, *itertools.chain.from_iterable(left.values())}
        legs = tuple(dict.fromkeys(i for i in (own if left else output) if i in still and i in own))
        out.append(Pairing(first, second, legs))
        left[len(operands) + len(out) - 1] = legs
    return out


class Lowering(Protocol[T]):
    """How a lowering says what arrays do: as statements of code, or as nodes of a graph."""

    def diagonal(self, placed: Placed[T]) -> Placed[T]:
        """An array that has an index twice, on each of its indices once."""

    def total(self, placed: Placed[T], lone: frozenset[Index]) -> Placed[T]:
        """An array summed over `lone`, indices that no other one has."""

    def product(
        self, first: Placed[T], second: Placed[T], legs: tuple[Index, ...], last: bool
    ) -> Placed[T]:
        """The product of two arrays on `legs`, summed over their other indices."""


def contracted(
    operands: Sequence[Placed[T]],
    output: tuple[Index, ...],
    arrays: Lowering[T],
    ordered: Callable[[Sequence[Placed[T]], tuple[Index, ...]], list[Placed[T]]] | None = None,
) -> Placed[T]:
    """The product of tensors: diagonals, sums over lone indices, then pair by pair.

    `ordered`: which operands meet first where that costs the same; as a chain if None.
    """
    work = [arrays.diagonal(p) if len(set(p[1])) < len(p[1]) else p for p in operands]
    held = Counter(i for _, indices in work for i in indices)
    held.update(output)
    for position, placed in enumerate(work):
        lone = frozenset(i for i in placed[1] if held[i] == 1)
        work[position] = arrays.total(placed, lone) if lone else placed
    work = (ordered or chained)(work, output)
    order = contraction_order([indices for _, indices in work], output)
    for number, pairing in enumerate(order, 1):
        pair = work[pairing.first], work[pairing.second]
        work.append(arrays.product(*pair, pairing.legs, number == len(order)))
    return work[-1]


def chained(operands: Sequence[Placed[T]], output: Sequence[Index]) -> list[Placed[T]]:
    """Operands as a chain from the output's first index where that is possible."""
    left, out = list(operands), []
    at = output[0] if output else None
    while left:
        hit = next((o for o in left if at is not None and at in o[1]), left[0])
        left.remove(hit)
        out.append(hit)
        onward = [i for i in hit[1] if i not in output and any(i in o[1] for o in left)]
        at = onward[0] if onward else None
    return out


def nominal(index: Index) -> int:
    """The size at which the costs of orders are compared."""
    name = str(index.dim)
    return NOMINAL.get(name, 5 if name.startswith("d_") else 8)


@lru_cache(maxsize=4096)
def _cheapest(sets: Sets, output: frozenset[int], sizes: tuple[int, ...]) -> Pairs:
    """Pairs of operand numbers; vectors on one index meet first, which never costs more."""
    groups = _alike(sets, output)
    choose = _best if len(groups) <= EXACT else _greedy
    out: list[tuple[int, int]] = []

    def joined(first: int, second: int) -> int:
        out.append((min(first, second), max(first, second)))
        return len(sets) + len(out) - 1

    numbers: list[int] = []
    for pair in choose(tuple(sets[g[0]] for g in groups), output, sizes):
        ends = [
            reduce(joined, groups[p]) if p < len(groups) else numbers[p - len(groups)] for p in pair
        ]
        numbers.append(joined(*ends))
    if len(groups) == 1:
        reduce(joined, groups[0])
    return tuple(out)


def _alike(sets: Sets, output: frozenset[int]) -> list[list[int]]:
    """Operands in groups: vectors on an index that other arrays have too, and each of the rest."""
    groups: dict[object, list[int]] = {}
    for p, own in enumerate(sets):
        shared = len(own) == 1 and (own <= output or any(own < other for other in sets))
        groups.setdefault(own if shared else p, []).append(p)
    return list(groups.values())


def _best(sets: Sets, output: frozenset[int], sizes: tuple[int, ...]) -> Pairs:
    """A dynamic programme over subsets of the operands."""
    n = len(sets)
    everything = (1 << n) - 1
    keep = [_kept(sets, output, subset) for subset in range(everything + 1)]
    cost = {1 << p: 0.0 for p in range(n)}
    split: dict[int, int] = {}
    for subset in sorted(range(1, everything + 1), key=lambda s: (s.bit_count(), s)):
        if subset in cost:
            continue
        best = math.inf
        half = (subset - 1) & subset
        while half:
            other = subset ^ half
            if half < other:
                own = cost[half] + cost[other]
                if own < best:
                    own += math.prod(sizes[i] for i in keep[half] | keep[other])
                if own < best:
                    best, split[subset] = own, half
            half = (half - 1) & subset
        cost[subset] = best
    return _numbered(split, everything, n)


def _kept(sets: Sets, output: frozenset[int], subset: int) -> frozenset[int]:
    """Indices of the product of a subset."""
    inside, outside = set[int](), set(output)
    for p, own in enumerate(sets):
        (inside if subset >> p & 1 else outside).update(own)
    return frozenset(inside & outside)


def _numbered(split: dict[int, int], everything: int, n: int) -> Pairs:
    """The tree of splits as pairs, halves before wholes, the lower number first."""
    numbers = {1 << p: p for p in range(n)}
    out: list[tuple[int, int]] = []

    def visit(subset: int) -> int:
        if subset not in numbers:
            pair = sorted((visit(split[subset]), visit(subset ^ split[subset])))
            out.append((pair[0], pair[1]))
            numbers[subset] = n + len(out) - 1
        return numbers[subset]

    if n:
        visit(everything)
    return tuple(out)


def _greedy(sets: Sets, output: frozenset[int], sizes: tuple[int, ...]) -> Pairs:
    """The cheapest next pair, one after the other; arrays that share an index come first."""
    left, out = dict(enumerate(sets)), list[tuple[int, int]]()

    def price(pair: tuple[int, int]) -> tuple[bool, int, tuple[int, int]]:
        one, other = left[pair[0]], left[pair[1]]
        return not one & other, math.prod(sizes[i] for i in one | other), pair

    while len(left) > 1:
        first, second = min(itertools.combinations(left, 2), key=price)
        whole = left.pop(first) | left.pop(second)
        left[len(sets) + len(out)] = whole & output.union(*left.values())
        out.append((first, second))
    return tuple(out)

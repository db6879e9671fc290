"""Finds the largest number of sums that a pairing of Gaussian factors leaves.

Input: groups of factors that pair among themselves, each factor a tuple of index numbers.  Pairing
two factors joins their indices slot by slot; what is joined is one class, one sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Group = list[tuple[int, ...]]
Classes = tuple[int, ...]


def most_sums(
    groups: list[Group],
    swaps: list[bool],
    worth: list[int],
    legs: list[int],
    pinned: list[tuple[int, int]],
) -> int:
    """Largest total worth of index classes that a pairing within the groups leaves.

    `swaps`: whether a group's factors are symmetric.  `worth`: of a sum over each index.  `legs`:
    indices that are not summed.  `pinned`: indices of which one determines the other (columns of a
    part and of the whole).
    """
    classes = tuple(range(len(worth)))
    for a, b in pinned:
        classes = _merged(classes, a, b)
    search = _Search(worth, legs)
    search.go(groups, swaps, classes)
    return search.best


def _merged(classes: Classes, a: int, b: int) -> Classes:
    """The classes of the indices a and b made one."""
    old, new = classes[a], classes[b]
    return classes if old == new else tuple(new if c == old else c for c in classes)


@dataclass
class _Search:
    """Every pairing merges classes, so the worth only falls: what cannot beat `best` is cut."""

    worth: list[int]
    legs: list[int]
    best: int = -1

    def go(self, groups: list[Group], swaps: list[bool], classes: Classes) -> None:
        now = self._total(classes)
        if not groups:
            self.best = max(self.best, now)
            return
        if now - self._least_loss(groups, classes) <= self.best:
            return
        moves = list(_moves(groups[0], swaps[0], classes))
        for rest, joined in sorted(moves, key=lambda move: -self._total(move[1])):
            if rest:
                self.go([rest, *groups[1:]], swaps, joined)
            else:
                self.go(groups[1:], swaps[1:], joined)

    def _total(self, classes: Classes) -> int:
        fixed = {classes[k] for k in self.legs}
        seen: dict[int, int] = {}
        for position, root in enumerate(classes):
            if root not in fixed:
                seen[root] = max(seen.get(root, 0), self.worth[position])
        return sum(seen.values())

    def _least_loss(self, groups: list[Group], classes: Classes) -> int:
        """A class that one factor of a group holds alone merges with one of its partner's.

        Each such class counts once, in however many groups: one merger serves them all.
        """
        fixed = {classes[k] for k in self.legs}
        merging = set()
        for group in groups:
            holders: dict[int, int] = {}
            for factor in group:
                for root in {classes[k] for k in factor}:
                    holders[root] = holders.get(root, 0) + 1
            merging |= {
                classes[k]
                for factor in group
                for k in factor
                if self.worth[k] and holders[classes[k]] == 1 and classes[k] not in fixed
            }
        return (len(merging) + 1) // 2


def _moves(group: Group, swap: bool, classes: Classes) -> Iterator[tuple[Group, Classes]]:
    """The first factor paired with each of the others: what is left, and the classes then."""
    first, *others = group
    for position, partner in enumerate(others):
        rest = others[:position] + others[position + 1 :]
        for ends in (partner, partner[::-1]) if swap else (partner,):
            joined = classes
            for a, b in zip(first, ends, strict=True):
                joined = _merged(joined, a, b)
            yield rest, joined

"""The order of a core is the largest number of sums that any pairing leaves, by trying them all."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from derive.calculus.gaussian.pairings import pairings
from derive.calculus.limit.most_sums import most_sums


def by_all_pairings(
    groups: list[list[tuple[int, ...]]], swaps: list[bool], worth: list[int], legs: list[int]
) -> int:
    """The same number from every pairing of every group, the classes joined one by one."""

    def outcomes(group: list[tuple[int, ...]], swap: bool) -> list[list[tuple[int, int]]]:
        found = []
        for pairing in pairings(len(group)):
            for turned in itertools.product((False, True) if swap else (False,), repeat=len(group)):
                joined = []
                for (p, q), turn in zip(pairing, turned, strict=False):
                    ends = group[q][::-1] if turn else group[q]
                    joined += list(zip(group[p], ends, strict=True))
                found.append(joined)
        return found

    best = -1
    per_group = [outcomes(g, s) for g, s in zip(groups, swaps, strict=True)]
    for choice in itertools.product(*per_group):
        root = list(range(len(worth)))
        for a, b in itertools.chain(*choice):
            old, new = root[a], root[b]
            root = [new if r == old else r for r in root]
        fixed = {root[k] for k in legs}
        kept = {r for r in root if r not in fixed}
        best = max(
            best, sum(max(w for w, r in zip(worth, root, strict=True) if r == k) for k in kept)
        )
    return best


@pytest.mark.parametrize("seed", range(120))
def test_branch_and_bound_finds_the_best_pairing(seed: int) -> None:
    """Chains of matrices twice over, as second moments have them, and loose factors."""
    rng = np.random.default_rng(seed)
    names = rng.integers(0, 3, size=rng.integers(2, 5))
    groups: dict[int, list[tuple[int, ...]]] = {}
    size = 0
    for _ in range(2):
        for name in names:
            groups.setdefault(int(name), []).append((size, size + 1))
            size += 1
        size += 1
    joins = {int(k): int(rng.integers(size)) for k in rng.integers(size, size=rng.integers(0, 3))}
    placed = [[tuple(joins.get(i, i) for i in f) for f in g] for g in groups.values()]
    worth = [1] * size  # indices that can join are of one dimension
    legs = [int(k) for k in rng.integers(size, size=rng.integers(0, 3))]
    swaps = [bool(s) for s in rng.integers(0, 2, size=len(placed))]
    found = most_sums(placed, swaps, worth, legs, [])
    assert found == by_all_pairings(placed, swaps, worth, legs)

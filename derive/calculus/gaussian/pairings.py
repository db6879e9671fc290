"""Isserlis' theorem sums over pairings of the entries of a Gaussian tensor, pair by pair.

Entries of a tensor of kind "gaussian" are iid N(0, 1); those of a symmetric one have the law of
(G + G^T)/sqrt(2): covariance delta delta + delta delta swapped.
"""

from __future__ import annotations

from collections.abc import Iterable

from derive.calculus.index.factors import Factor, Factors, Index, delta_tensor


def pairings(count: int) -> Iterable[tuple[tuple[int, int], ...]]:
    """All perfect matchings of range(count)."""

    def extend(left: tuple[int, ...]) -> Iterable[tuple[tuple[int, int], ...]]:
        if not left:
            yield ()
            return
        first, *others = left
        for position, partner in enumerate(others):
            remaining = tuple(others[:position] + others[position + 1 :])
            for tail in extend(remaining):
                yield ((first, partner), *tail)

    return extend(tuple(range(count)))


def covariance(first: Factor, second: Factor) -> list[Factors]:
    """E of the product of two entries of one Gaussian tensor: a sum of products of deltas."""
    straight = tuple(_delta(i, j) for i, j in zip(first.indices, second.indices, strict=True))
    if not first.tensor.symmetric:
        return [straight]
    swapped = tuple(
        _delta(i, j) for i, j in zip(first.indices, reversed(second.indices), strict=True)
    )
    return [straight, swapped]


def _delta(i: Index, j: Index) -> Factor:
    return delta_tensor(i.dim)[i, j]

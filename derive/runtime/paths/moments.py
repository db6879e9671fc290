"""Running means and covariances whose bits depend on the numbers alone.

Paths fall into groups of fixed size by their number.  Groups are joined in a binary tree over
their numbers (Chan, Golub and LeVeque's update), so that neither the order in which groups come
nor who computed them changes a bit; the tree is kept as its finished parts, O(log groups).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Sums(NamedTuple):
    """Of columns (F,): how many finite numbers, their mean, and the sum of squared deviations.

    `cross` (saves, M, M): sums of products of deviations of the first saves * M columns, or
    (0, 0, 0).
    """

    counts: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    cross: np.ndarray


Forest = dict[tuple[int, int], Sums]


def of_group(V: np.ndarray, values: np.ndarray, covariance: bool) -> Sums:
    """Of one group: `V` (paths, saves, M), finite; `values` (paths, K), where finite.

    Sums run over the first axis, row after row: a fixed order on every machine, unlike a matrix
    product's.
    """
    paths, saves, M = V.shape
    columns = np.concatenate([V.reshape(paths, -1), values], axis=1, dtype=np.float64)
    finite = np.isfinite(columns)
    count = finite.sum(0)
    mean = np.where(finite, columns, 0).sum(0) / np.maximum(count, 1)
    deviation = np.where(finite, columns - np.where(finite, mean, 0), 0)
    square = (deviation * deviation).sum(0)
    cross = np.zeros((saves, M, M) if covariance else (0, 0, 0))
    if covariance:
        D = deviation[:, : saves * M].reshape(paths, saves, M)
        for i in range(M):
            cross[:, i, i:] = cross[:, i:, i] = (D[:, :, i : i + 1] * D[:, :, i:]).sum(0)
    return Sums(count, mean, square, cross)


def join(a: Sums, b: Sums) -> Sums:
    """Of two disjoint groups together."""
    count = a.counts + b.counts
    share = b.counts / np.maximum(count, 1)
    step = b.mean - a.mean
    weight = a.counts * share
    saves, M, _ = a.cross.shape
    d = step[: saves * M].reshape(saves, M)
    w = weight[: saves * M].reshape(saves, M)[:, :, None]
    return Sums(
        count,
        a.mean + share * step,
        a.square + b.square + weight * step * step,
        a.cross + b.cross + w * (d[:, :, None] * d[:, None, :]),
    )


def add(forest: Forest, level: int, number: int, node: Sums) -> None:
    """Put in the node over the groups number 2^level, ..., (number + 1) 2^level - 1."""
    while (sibling := (level, number ^ 1)) in forest:
        other = forest.pop(sibling)
        node = join(other, node) if number & 1 else join(node, other)
        level, number = level + 1, number >> 1
    forest[level, number] = node


def total(forest: Forest) -> Sums:
    """Of all groups, joined from the last to the first."""
    order = sorted(forest, key=lambda place: place[1] << place[0])
    found = forest[order[-1]]
    for place in reversed(order[:-1]):
        found = join(forest[place], found)
    return found

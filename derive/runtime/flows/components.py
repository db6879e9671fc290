"""Which tokens stand together: connected components of those closer than a radius."""

from __future__ import annotations

import numpy as np

BLOCK = 2**22  # numbers of a block of pairs


def labels(x: np.ndarray, radius: float) -> np.ndarray:
    """Numbers of the components of tokens x (..., n, d), from 0 in the order of their first tokens;
    -1 for tokens that are no numbers."""
    systems = x.reshape(-1, *x.shape[-2:])
    return np.stack([_of_one(one, radius) for one in systems]).reshape(x.shape[:-1])


def _of_one(x: np.ndarray, radius: float) -> np.ndarray:
    n, d = x.shape
    if not np.isfinite(x).all():
        return np.full(n, -1)
    found = np.arange(n)
    # along any line the tokens of one component follow one another with no gap beyond the radius
    line = np.cos(1.0 + np.arange(d))
    along = x @ line
    order = np.argsort(along, kind="stable")
    gaps = np.diff(along[order]) > radius * float(np.linalg.norm(line))
    for part in np.split(order, np.flatnonzero(gaps) + 1):
        if len(part) > 1:
            found[part] = _joined(x[part], part, radius)
    return np.unique(found, return_inverse=True)[1].reshape(n)


def _joined(x: np.ndarray, numbers: np.ndarray, radius: float) -> np.ndarray:
    """For each token of a group the least number of a token in its component."""
    first = int(np.argmin(numbers))
    if np.all(np.linalg.norm(x - x[first], axis=1) < radius):
        return np.full(len(x), numbers[first])
    rows = max(1, BLOCK // x.size)
    least, before = numbers, None
    while before is None or not np.array_equal(least, before):
        before = least
        near = (
            np.linalg.norm(x[k : k + rows, None] - x, axis=-1) < radius
            for k in range(0, len(x), rows)
        )
        least = np.concatenate([np.where(one, before, before.max()).min(axis=1) for one in near])
    return least

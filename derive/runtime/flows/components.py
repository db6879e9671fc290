"""Which tokens stand together: connected components of those closer than a radius."""

from __future__ import annotations

import numpy as np

BLOCK = 2**22  # numbers of a block of pairs


def labels(x: np.ndarray, radius: float) -> np.ndarray:
    """Numbers of the components of tokens x (..., n, d), from 0 in the order of their first tokens;
    -1 for tokens that are no numbers."""
    systems = x.reshape(-1, *x.shape[-2:])
    n, d = systems.shape[1:]
    known = np.isfinite(systems).all(axis=(1, 2))
    # along any line the tokens of one component follow one another with no gap beyond the radius
    line = np.cos(1.0 + np.arange(d))
    along = systems @ line
    order = np.argsort(along, axis=1, kind="stable")
    gaps = np.diff(np.take_along_axis(along, order, axis=1), axis=1)
    gaps = gaps > radius * float(np.linalg.norm(line))
    first = systems - systems[:, :1]
    one = ((first**2).sum(axis=2) < radius**2).all(axis=1)
    out = np.where(one[:, None], 0, np.arange(n))
    out[~known] = -1
    for k in np.flatnonzero(known & ~one & ~gaps.all(axis=1)):
        out[k] = _of_one(systems[k], order[k], gaps[k], radius)
    return out.reshape(x.shape[:-1])


def _of_one(x: np.ndarray, order: np.ndarray, gaps: np.ndarray, radius: float) -> np.ndarray:
    found = np.arange(len(x))
    for part in np.split(order, np.flatnonzero(gaps) + 1):
        if len(part) > 1:
            found[part] = _joined(x[part], part, radius)
    return np.unique(found, return_inverse=True)[1].reshape(len(x))


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

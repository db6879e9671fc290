"""Distances between laws: W_2, by a well-kept library where it is no sorting."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

DENSE = 4000  # tokens of a law whose distances are held all at once


def w2(x: np.ndarray, p: np.ndarray, y: np.ndarray, q: np.ndarray) -> float:
    """W_2 of tokens x (n, d) with masses p (n,) and y (m, d) with q (m,), chords as distances.

    A Dirac by its mean, equal masses of equal number by an assignment (SciPy), others by POT (the
    extra `match`).  Raises ImportError where POT is needed and missing.
    """
    if len(y) == 1:
        return float(np.sqrt(p @ ((x - y[0]) ** 2).sum(1)))
    if len(x) == 1:
        return float(np.sqrt(q @ ((y - x[0]) ** 2).sum(1)))
    if len(x) > DENSE or len(y) > DENSE:
        raise ValueError(f"W_2 of {len(x)} and {len(y)} tokens needs a matrix of that size; thin")
    cost = ((x[:, None] - y[None]) ** 2).sum(-1)  # not 2 - 2 <x, y>: small distances keep digits
    if len(x) != len(y) and np.ptp(p) < 1e-14 and np.ptp(q) < 1e-14 and not max(
        len(x), len(y)
    ) % min(len(x), len(y)):  # equal masses that split evenly
        times = (max(len(x), len(y)) // len(x), max(len(x), len(y)) // len(y))
        cost = np.repeat(np.repeat(cost, times[0], axis=0), times[1], axis=1)
    elif len(x) != len(y) or np.ptp(p) > 1e-14 or np.ptp(q) > 1e-14:
        return float(np.sqrt(max(_transport(p, q, cost), 0.0)))
    rows, columns = linear_sum_assignment(cost)
    return float(np.sqrt(cost[rows, columns].mean()))


def _transport(p: np.ndarray, q: np.ndarray, cost: np.ndarray) -> float:
    try:
        import ot
    except ImportError:
        raise ImportError(
            "W_2 of laws with unequal masses is computed by POT: pip install 'derive[match]'"
        ) from None
    plan = ot.emd(p / p.sum(), q / q.sum(), cost, numItermax=10**7)
    return float((plan * cost).sum())


def worst(x: np.ndarray, y: np.ndarray) -> float:
    """Largest distance of a token of x (n, d) from the nearest of y (m, d)."""
    return float(cKDTree(y).query(x)[0].max())

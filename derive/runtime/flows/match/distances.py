"""Distances between laws: W_2, by a well-kept library where it is no sorting."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

DENSE = 4000  # tokens of two laws whose distances are held all at once
ROUNDING = 1e-13  # of masses


def w2(x: np.ndarray, p: np.ndarray, y: np.ndarray, q: np.ndarray) -> float:
    """W_2 of tokens x (n, d) with masses p (n,) and y (m, d) with q (m,), chords as distances.

    Where all mass at its nearest point makes the other law, no transport costs less.  Equal masses
    that split evenly go by an assignment (SciPy), others by POT (the extra `match`).  Raises
    ImportError where POT is needed and missing, ValueError for laws too large.
    """
    for one, share, other, aim in ((x, p, y, q), (y, q, x, p)):
        places, back = np.unique(other, axis=0, return_inverse=True)
        near, which = cKDTree(places).query(one)
        made, wanted = np.bincount(which, share, len(places)), np.bincount(back.ravel(), aim)
        if np.abs(made - wanted).max() < ROUNDING:
            return float(np.sqrt(share @ near**2))
    if len(x) * len(y) > DENSE**2:
        raise ValueError(f"W_2 of {len(x)} and {len(y)} tokens needs a matrix of that size; thin")
    cost = cdist(x, y, "sqeuclidean")  # not 2 - 2 <x, y>: small distances keep digits
    most = max(len(x), len(y))
    if most > DENSE or most % len(x) or most % len(y) or np.ptp(p) > 1e-14 or np.ptp(q) > 1e-14:
        return float(np.sqrt(max(_transport(p, q, cost), 0.0)))
    cost = np.repeat(np.repeat(cost, most // len(x), axis=0), most // len(y), axis=1)
    rows, columns = linear_sum_assignment(cost)
    return float(np.sqrt(cost[rows, columns].mean()))


def known(x: np.ndarray, p: np.ndarray, y: np.ndarray, q: np.ndarray) -> float:
    """The same, nan where it cannot be computed."""
    try:
        return w2(x, p, y, q)
    except (ImportError, ValueError):
        return np.nan


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

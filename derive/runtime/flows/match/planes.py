"""Planes between points on the sphere, and arcs of great circles beside them.

A half-space {<a, x> > h} meets the sphere in a cap; a gate relu(<a, x> - h) is open there alone.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

FLAT = 1e-13  # a distance of hulls below that is none


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def nearest(points: np.ndarray) -> np.ndarray:
    """The point of the hull of points (m, d) that is nearest to the origin, (d,)."""
    weight = 1e3 * max(1.0, float(np.abs(points).max()))
    rows = np.vstack([points.T, np.full(len(points), weight)])
    shares, _ = nnls(rows, np.append(np.zeros(points.shape[1]), weight))
    return shares @ points / shares.sum()


def between(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, float, float] | None:
    """(a, h, gap): <a, x> <= h - gap of `low` (m, d), >= h + gap of `high`, the widest; or None."""
    apart = nearest((high[None] - low[:, None]).reshape(-1, low.shape[1]))
    length = float(np.linalg.norm(apart))
    if length < FLAT:
        return None
    a = apart / length
    bottom, top = float((low @ a).max()), float((high @ a).min())
    return a, (bottom + top) / 2, (top - bottom) / 2


def highest(x: np.ndarray, end: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Largest <a, .> on the short arcs from x (..., d) to `end` (d,), (...)."""
    height, cosine, goal = x @ a, x @ end, float(end @ a)
    sine = np.sqrt(np.maximum(1 - cosine**2, 0.0))
    return highest_of(height, goal, cosine, sine)


def highest_of(
    height: np.ndarray, goal: float, cosine: np.ndarray, sine: np.ndarray
) -> np.ndarray:
    """The same from <a, x>, <a, end> and the arcs' cosines and sines.

    On the arc the height is `height` cos t + `slope` sin t, t from 0 to the arc's length.
    """
    slope = np.where(sine > 1e-12, (goal - cosine * height) / np.maximum(sine, 1e-12), 0.0)
    peak, length = np.arctan2(slope, height), np.arctan2(sine, cosine)
    inside = (peak > 0) & (peak < length)
    return np.where(inside, np.hypot(height, slope), np.maximum(height, goal))


def circle(a: np.ndarray, c: float, towards: np.ndarray) -> np.ndarray:
    """The points (..., d) of the sphere with <a, p> = c whose other parts point as `towards`."""
    across = towards - (towards @ a)[..., None] * a
    return c * a + np.sqrt(1 - c * c) * unit(across)

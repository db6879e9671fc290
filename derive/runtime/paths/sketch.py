"""Quantiles of a stream of numbers: counts on a fixed grid, exact to merge.

A cell of the grid is the set of float64 numbers that share sign, exponent and leading `bits` bits
of the significand: its ends differ by at most 2^-bits, relatively.  Counts are integers, so a
sketch is a function of the numbers alone, whatever the order and the blocks in which they came.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

SIGNIFICAND = 52


class Sketch(NamedTuple):
    """`cells` (k,) int64, increasing with the numbers they hold; `counts` (k,) int64; the
    `least` and the `largest` number; `undefined`: how many NaN, which are in no cell."""

    cells: np.ndarray
    counts: np.ndarray
    least: float
    largest: float
    undefined: int


def bits_for(accuracy: float) -> int:
    """Bits at which a cell's middle is within the share `accuracy` of every number in it."""
    if not 1e-5 <= accuracy <= 0.25:
        raise ValueError(f"accuracy = {accuracy} must lie in [1e-5, 0.25]")
    return math.ceil(math.log2(1 / (2 * accuracy)))


def sketch(values: np.ndarray, bits: int) -> Sketch:
    """Of numbers (paths,), infinities and NaN included."""
    numbers = np.asarray(values, dtype=np.float64)
    good = numbers[~np.isnan(numbers)] + 0.0  # -0.0 becomes 0.0
    magnitude = np.abs(good).view(np.int64) >> (SIGNIFICAND - bits)
    cells, counts = np.unique(np.where(good < 0, ~magnitude, magnitude), return_counts=True)
    ends = (float(np.min(good)), float(np.max(good))) if len(good) else (math.inf, -math.inf)
    return Sketch(cells, counts.astype(np.int64), *ends, len(numbers) - len(good))


def merge(a: Sketch, b: Sketch) -> Sketch:
    cells, place = np.unique(np.concatenate([a.cells, b.cells]), return_inverse=True)
    counts = np.zeros(len(cells), dtype=np.int64)
    np.add.at(counts, place, np.concatenate([a.counts, b.counts]))
    return Sketch(
        cells,
        counts,
        min(a.least, b.least),
        max(a.largest, b.largest),
        a.undefined + b.undefined,
    )


def quantiles(s: Sketch, probs: np.ndarray, bits: int) -> np.ndarray:
    """The ceil(p N)-th smallest of the N numbers that are not NaN, to the relative accuracy
    2^-(bits + 1); exact for the least and the largest.  NaN if there is none."""
    if not len(s.cells):
        return np.full(len(probs), np.nan)
    above = np.cumsum(s.counts)
    ranks = np.clip(np.ceil(np.asarray(probs) * above[-1]), 1, above[-1])
    where = np.searchsorted(above, ranks)
    cell = s.cells[where]
    magnitude = np.where(cell < 0, ~cell, cell)
    low = (magnitude << (SIGNIFICAND - bits)).view(np.float64)
    high = ((magnitude + 1) << (SIGNIFICAND - bits)).view(np.float64)
    with np.errstate(invalid="ignore"):
        middle = np.where(np.isfinite(high), low + (high - low) / 2, low)
    found = np.clip(np.where(cell < 0, -middle, middle), s.least, s.largest)
    found = np.where(ranks == 1, s.least, found)
    return np.where(ranks == above[-1], s.largest, found)

"""What simulations return."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Paths(NamedTuple):
    """An ensemble of covariance paths.

    `times` (saves,): depth / width.  `V` (paths, saves, m, m): the covariance; after its exit a
    path stands still at the last value inside the radius.  `exit_time` (paths,): inf if none.
    """

    times: np.ndarray
    V: np.ndarray
    exit_time: np.ndarray

    @property
    def exited(self) -> float:
        """Share of paths that left the radius."""
        return float(np.mean(np.isfinite(self.exit_time)))


class Moments(NamedTuple):
    """Mean and covariance of Gaussian laws over time; "..." are the batch axes of the laws.

    `times` (saves,).  `mean` (..., saves, d) and `cov` (..., saves, d, d), with one more axis of
    blocks before d in positional models.  `factor`, shaped as `cov`: factor factor^T = cov.
    `blow_up_time` (...): when the solution ceases to exist; inf: not before the last time; nan: not
    known, the step limit was reached.  Saves at or after the end of a law's solution are nan.
    """

    times: np.ndarray
    mean: np.ndarray
    cov: np.ndarray
    factor: np.ndarray
    blow_up_time: np.ndarray


class Particles(NamedTuple):
    """A system of interacting particles.  `times` (saves,); `x` (..., saves, N, d)."""

    times: np.ndarray
    x: np.ndarray

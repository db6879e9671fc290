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

"""What simulations of covariances return."""

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

    @property
    def frozen(self) -> float:
        """Share that the paths that have left have in the mean of tr V at the last time.

        They stand still near the radius, so that a mean which they make says where the radius is.
        """
        sizes = np.trace(self.V[:, -1], axis1=-2, axis2=-1).astype(np.float64)
        total = float(np.sum(sizes))
        return float(np.sum(sizes[np.isfinite(self.exit_time)])) / total if total > 0 else 0.0

    def caution(self) -> str:
        """What to know before taking a mean of these paths; empty if there is nothing."""
        if self.frozen < DOMINATED:
            return ""
        sizes = np.trace(self.V[:, -1], axis1=-2, axis2=-1)
        return (
            f"{self.exited:.2g} of the {LEFT} and stand still near it; "
            f"they make {self.frozen:.0%} of the mean of tr V at t = {self.times[-1]:.4g} "
            f"({np.mean(sizes):.4g}, its median {np.median(sizes):.4g}): such a mean follows the "
            "radius. Take medians or quantiles, or an earlier time"
        )


DOMINATED = 0.1  # of a mean, from which on its frozen paths are told
LEFT = "paths have left the exit radius"

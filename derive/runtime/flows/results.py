"""What is returned of a flow of tokens: their way, and the way of their clusters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Flow(NamedTuple):
    """Tokens over time; "..." are the batch axes of the systems.

    `times` (saves,).  `x` (..., saves, n, d).  `energy` (..., saves), or None where the model has
    none.  `error` (..., saves): estimated distance of the worst token from the exact solution, of
    all steps together.  `clusters` (..., saves, n): number of the cluster of each token, from 0 in
    the order of their first tokens; -1 where tokens are no numbers.  `blow_up_time` (...): when the
    solution ceases to exist; inf: not before the last time; nan: not known, the integration ended
    early (it was said why).  Saves after the end of a solution are nan.  `steps` (...).
    """

    times: np.ndarray
    x: np.ndarray
    energy: np.ndarray | None
    error: np.ndarray
    clusters: np.ndarray
    blow_up_time: np.ndarray
    steps: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Numbers of clusters (..., saves)."""
        return self.clusters.max(axis=-1) + 1

    def __repr__(self) -> str:
        *lead, saves, n, d = self.x.shape
        systems = f"{int(np.prod(lead))} systems of " if lead else ""
        last = self.counts[..., -1]
        least, most = int(last.min()), int(last.max())
        found = ("none" if not most else f"{most}") if least == most else f"{least} to {most}"
        known = self.error[np.isfinite(self.error)]
        error = f"{known.max():.2g}" if known.size else "unknown"
        return (
            f"Flow({systems}{n} tokens in {d} dimensions, {saves} times from {self.times[0]:g} to "
            f"{self.times[-1]:g}, clusters at the end: {found}, error up to {error})"
        )


class Clusters(NamedTuple):
    """K clusters over time, whatever their dimension.

    `times` (saves,).  `gram` (saves, K, K): inner products; clusters that have merged have those
    of the merged one.  `masses` (saves, K): of the cluster in which each stands.  `labels`
    (saves, K): its number, from 0 in the order of their first members.  `merge_times` (merges,),
    increasing; `merged_pairs` (merges, 2): the first members of the two that met.  `energy`: of
    models without one, None.  `ended`: "one cluster", "t1", or why nothing moves any more.
    """

    times: np.ndarray
    gram: np.ndarray
    masses: np.ndarray
    labels: np.ndarray
    merge_times: np.ndarray
    merged_pairs: np.ndarray
    energy: np.ndarray | None
    ended: str

    def __repr__(self) -> str:
        K = self.gram.shape[-1]
        shown = ", ".join(f"{t:.6g}" for t in self.merge_times[:8])
        more = ", ..." if len(self.merge_times) > 8 else ""
        return (
            f"Clusters({K} clusters, {len(self.times)} times to {self.times[-1]:.6g}, merges at "
            f"[{shown}{more}], {int(self.labels[-1].max()) + 1} left: {self.ended})"
        )

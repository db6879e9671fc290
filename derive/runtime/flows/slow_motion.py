"""Clusters where a parameter is infinite: one pair at a time moves, on its geodesic, and merges.

The order of merges, the places and the times on the scale log(time) / parameter follow from the
inner products and the masses alone.  Imports numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from derive.runtime.flows import inputs as flow_inputs
from derive.runtime.flows.specification import FlowModel

TIE = 1e-9  # cosines that differ by less are one: both pairs would move at once
GRID = 400  # places on a way at which a third cluster is looked for


class SlowMotion(NamedTuple):
    """K clusters in the limit; K - 1 merges.

    `exponents` (merges,): log(time) / parameter, not decreasing.  `merged_pairs` (merges, 2): the
    first members of the two that meet.  `gram` (merges + 1, K, K), `masses`, `labels` (merges + 1,
    K): at the start and after every merge; clusters that have merged have one place.
    """

    exponents: np.ndarray
    merged_pairs: np.ndarray
    gram: np.ndarray
    masses: np.ndarray
    labels: np.ndarray

    def __repr__(self) -> str:
        shown = ", ".join(f"{t:.4g}" for t in self.exponents[:8])
        more = ", ..." if len(self.exponents) > 8 else ""
        return f"SlowMotion({self.gram.shape[-1]} clusters, log(time)/parameter [{shown}{more}])"


def slow_motion(
    spec: FlowModel,
    exponent: Callable[[Any], Any],
    share: Callable[[Any, Any], Any],
    gram0: Any,
    masses: Any,
    params: Any,
) -> SlowMotion:
    """The merges of K clusters with inner products gram0 (K, K) and masses (K,) in the limit.

    `exponent(g)`: log(time) / parameter in which a pair at the cosine g moves, falling with g;
    `share(mass, other)`: how much of the way the cluster of that mass goes.  Raises ValueError for
    what is no set of clusters, for two pairs that are equally close, and for antipodal clusters,
    which have no geodesic of their own.
    """
    start = flow_inputs.clusters(spec, gram0, masses, params)
    run = _Way(_places(start.gram), start.masses.copy(), exponent, share)
    while run.alive.sum() > 1:
        run.merge()
    return run.result()


def _places(gram: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(gram)
    x = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


class _Way:
    def __init__(
        self,
        x: np.ndarray,
        masses: np.ndarray,
        exponent: Callable[[Any], Any],
        share: Callable[[Any, Any], Any],
    ) -> None:
        self.x, self.masses, self.exponent, self.share = x, masses, exponent, share
        self.owner = np.arange(len(x))
        self.clock = -np.inf
        self.times: list[float] = []
        self.pairs: list[tuple[int, int]] = []
        self.rows = [self.row()]

    @property
    def alive(self) -> np.ndarray:
        return self.owner == np.arange(len(self.owner))

    def row(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = self.x[self.owner]
        gram = x @ x.T
        np.fill_diagonal(gram, 1.0)
        return gram, self.masses[self.owner], self.owner.copy()

    def merge(self) -> None:
        """Go on until two clusters are one: a pair that is overtaken hands on to the faster one."""
        a, b = self._closest()
        for _ in range(10 * len(self.x) ** 2):
            self.clock = max(self.clock, float(self.exponent(self.x[a] @ self.x[b])))
            stop = self._overtaken(a, b)
            if stop is None:
                break
            self.x[a], self.x[b] = self._on_the_way(a, b, stop[0])
            a, b = stop[1]
        else:
            raise ValueError("clusters hand on to each other without an end: two pairs tie")
        self.x[a] = self._on_the_way(a, b, 1.0)[0]
        self.masses[a] += self.masses[b]
        self.owner[self.owner == b] = a
        self.times.append(self.clock)
        self.pairs.append((a, b))
        self.rows.append(self.row())

    def _closest(self) -> tuple[int, int]:
        cosines = self._cosines()
        order = np.argsort(cosines, axis=None)[::-1][:2]
        first, second = (divmod(int(k), len(cosines)) for k in order)
        if cosines[first] - cosines[second] < TIE:
            raise ValueError(
                f"the pairs {first} and {second} are equally close, cosine {cosines[first]:.9g}:"
                " in the limit both move at once, and which meet first is open; solve_clusters "
                "follows them at a finite parameter"
            )
        return first

    def _cosines(self) -> np.ndarray:
        cosines = self.x @ self.x.T
        cosines[~np.triu(np.outer(self.alive, self.alive), 1)] = -np.inf
        return np.asarray(cosines)

    def _on_the_way(self, a: int, b: int, part: float) -> tuple[np.ndarray, np.ndarray]:
        """Places of both when they have gone that part of their way."""
        angle = float(np.arctan2(*self._legs(a, b)))
        if np.pi - angle < 1e-7:
            raise ValueError(f"clusters {a} and {b} are antipodal: they have no geodesic of theirs")
        mine = part * float(self.share(self.masses[a], self.masses[b]))
        theirs = part * float(self.share(self.masses[b], self.masses[a]))
        first, second = self.x[a], self.x[b]
        across = second - (first @ second) * first
        across /= np.linalg.norm(across)
        at = [mine * angle, (1 - theirs) * angle]
        places = [np.cos(t) * first + np.sin(t) * across for t in at]
        return places[0], places[1]

    def _legs(self, a: int, b: int) -> tuple[float, float]:
        """Sine and cosine of the angle between them, digits of small angles kept."""
        cosine = float(self.x[a] @ self.x[b])
        return float(np.linalg.norm(self.x[b] - cosine * self.x[a])), cosine

    def _overtaken(self, a: int, b: int) -> tuple[float, tuple[int, int]] | None:
        """The first part of the way at which a third cluster is closer to one of the two than they
        are to each other, and that pair."""
        third = [int(c) for c in np.flatnonzero(self.alive) if c not in (a, b)]
        if not third:
            return None

        def ahead(part: float) -> tuple[float, tuple[int, int]]:
            at = self._on_the_way(a, b, part)
            own = float(at[0] @ at[1])
            found = [
                (float(place @ self.x[c]) - own, (min(c, who), max(c, who)))
                for c in third
                for who, place in zip((a, b), at, strict=True)
            ]
            return max(found)

        parts = np.linspace(0.0, 1.0, GRID + 1)
        high = next((p for p in parts[1:] if ahead(p)[0] > TIE), None)
        if high is None:
            return None
        low = high - 1 / GRID
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if ahead(middle)[0] > TIE else (middle, high)
        return high, ahead(high)[1]

    def result(self) -> SlowMotion:
        grams, masses, owners = (np.stack(parts) for parts in zip(*self.rows, strict=True))
        labels = np.stack([np.unique(o, return_inverse=True)[1] for o in owners])
        return SlowMotion(
            np.array(self.times), np.array(self.pairs, int).reshape(-1, 2), grams, masses, labels
        )

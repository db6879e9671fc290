"""Clusters where a parameter is infinite: one pair at a time moves, on its geodesic, and merges.

The order of merges, the places and the times on the scale log(time) / parameter follow from the
inner products and the masses alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from derive.runtime.common.precision import precision
from derive.runtime.flows import inputs as flow_inputs
from derive.runtime.flows.specification import FlowModel

TIE = 1e-9  # cosines that differ by less are one: both pairs would move at once
MET = 1e-7  # clusters closer than that are at one place, by the rounding of cosines


class SlowMotion(NamedTuple):
    """K clusters in the limit; K - 1 merges.

    `exponents` (merges,): log(time) / parameter, not decreasing; -inf of clusters that are at one
    place from the start.  `merged_pairs` (merges, 2): the
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
    exponent: Callable[[Any, Any], Any],
    share: Callable[[Any, Any, Any], Any],
    gram0: Any,
    masses: Any,
    params: Any,
) -> SlowMotion:
    """The merges of K clusters with inner products gram0 (K, K) and masses (K,) in the limit.

    `exponent(g, params)`: log(time) / parameter in which a pair at the cosine g moves, falling
    with g; `share(mass, other, params)`: how much of the way the cluster of that mass goes.  Raises
    ValueError for what is no set of clusters, for two pairs that are equally close, and for
    antipodal clusters, which have no geodesic of their own.
    """
    start = flow_inputs.clusters(spec, gram0, masses, params)
    at = spec.params(**start.params)
    run = _Way(
        _places(start.gram),
        start.masses.copy(),
        lambda g: exponent(g, at),
        lambda mass, other: share(mass, other, at),
    )
    with precision("float64"), np.errstate(invalid="ignore"):
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
        """The closest pair goes all its way.

        No third cluster comes closer to one of both than they are to each other: were c as close
        to a as b is, cosine g, the cosine of a and b would grow by (w_a + w_b)(1 - g^2), that of a
        and c by w_a (<b, c> - g^2) at most, which is less.
        """
        a, b = self._closest()
        if self._distance(a, b) > MET:
            self.clock = max(self.clock, float(self.exponent(self.x[a] @ self.x[b])))
            self.x[a] = self._end_of_way(a, b)
        self.masses[a] += self.masses[b]
        self.owner[self.owner == b] = a
        self.times.append(self.clock)
        self.pairs.append((a, b))
        self.rows.append(self.row())

    def _closest(self) -> tuple[int, int]:
        cosines = self._cosines()
        order = np.argsort(cosines, axis=None)[::-1][:2]
        first, second = (divmod(int(k), len(cosines)) for k in order)
        if self._distance(*first) > MET and cosines[first] - cosines[second] < TIE:
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

    def _end_of_way(self, a: int, b: int) -> np.ndarray:
        """Where both meet."""
        angle = float(np.arctan2(*self._legs(a, b)))
        if np.pi - angle < 1e-7:
            raise ValueError(f"clusters {a} and {b} are antipodal: they have no geodesic of theirs")
        first, second = self.x[a], self.x[b]
        across = second - (first @ second) * first
        across /= np.linalg.norm(across)
        turn = float(self.share(self.masses[a], self.masses[b])) * angle
        if not np.isfinite(turn):
            raise ValueError(f"the masses of clusters {a} and {b} are too small beside one")
        return np.asarray(np.cos(turn) * first + np.sin(turn) * across)

    def _distance(self, a: int, b: int) -> float:
        return float(np.linalg.norm(self.x[a] - self.x[b]))

    def _legs(self, a: int, b: int) -> tuple[float, float]:
        """Sine and cosine of the angle between them, digits of small angles kept."""
        cosine = float(self.x[a] @ self.x[b])
        return float(np.linalg.norm(self.x[b] - cosine * self.x[a])), cosine

    def result(self) -> SlowMotion:
        grams, masses, owners = (np.stack(parts) for parts in zip(*self.rows, strict=True))
        labels = np.stack([np.unique(o, return_inverse=True)[1] for o in owners])
        return SlowMotion(
            np.array(self.times), np.array(self.pairs, int).reshape(-1, 2), grams, masses, labels
        )

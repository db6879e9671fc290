"""What is kept of the paths of a stream: merged statistics, and the summary made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from derive.runtime.paths import checkpoint as files
from derive.runtime.paths import moments, sketch
from derive.runtime.paths.results import Paths


class Observable(NamedTuple):
    """One number of each path at each save time; every array is over save times.

    `mean`, `variance`: of its finite values; `finite`: their share; `undefined`: the share of NaN.
    `quantiles` (probs, saves): order statistic number ceil(p N) of its values other than NaN,
    +inf and -inf included, each within the request's relative accuracy; `least`, `largest`: exact.
    """

    mean: np.ndarray
    variance: np.ndarray
    quantiles: np.ndarray
    least: np.ndarray
    largest: np.ndarray
    finite: np.ndarray
    undefined: np.ndarray


class Summary(NamedTuple):
    """An ensemble of `paths` paths at `times` (saves,), all arrays float64.

    `mean`, `variance` (saves, m, m): of V's entries, exited paths at their last value inside the
    radius.  `covariance` (saves, m, m, m, m), [a, b, c, d] that of V_ab and V_cd, or None.
    Variances and covariances divide by the number of paths less one.  `exited` (saves,): the
    share of paths that have left the radius.  `probs` (K,): of every observable's quantiles.
    """

    times: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    covariance: np.ndarray | None
    exited: np.ndarray
    probs: np.ndarray
    observables: dict[str, Observable]
    paths: int


@dataclass
class State:
    """Merged statistics of the groups done; groups are numbered over the whole ensemble."""

    request: files.Request
    paths: int
    group: int  # paths in a group
    names: list[str]
    bits: int
    covariance: bool
    part: tuple[int, int]
    next: int = -1  # group; that after the last one taken in
    seen: int = 0
    m: int = 0
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    exits: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    forest: moments.Forest = field(default_factory=dict)
    sketches: list[list[sketch.Sketch]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.next = self.begin if self.next < 0 else self.next

    @property
    def groups(self) -> int:
        """In the whole ensemble."""
        return -(-self.paths // self.group)

    @property
    def begin(self) -> int:
        """The first group of this part."""
        return self.groups * self.part[0] // self.part[1]

    @property
    def end(self) -> int:
        """The group behind its last one."""
        return self.groups * (self.part[0] + 1) // self.part[1]

    def add(self, sample: Paths, values: Mapping[str, np.ndarray]) -> None:
        """Take in a chunk that starts with the group `next`."""
        count, saves, m = sample.V.shape[:3]
        if not self.seen:
            self.m, self.times = m, np.asarray(sample.times, dtype=np.float64)
            self.exits = np.zeros(saves, dtype=np.int64)
        rows, columns = np.tril_indices(m)
        left = np.asarray(sample.exit_time)[:, None] <= self.times * (1 + 1e-12)
        self.exits = self.exits + left.sum(0)
        table = np.stack([values[n] for n in self.names], 1) if self.names else None
        for first in range(0, count, self.group):
            part = slice(first, first + self.group)
            V = np.asarray(sample.V[part], dtype=np.float64)[:, :, rows, columns]
            own = np.zeros((len(V), 0)) if table is None else table[part].reshape(len(V), -1)
            node = moments.of_group(V, own, self.covariance)
            moments.add(self.forest, 0, self.next + first // self.group, node)
        new = [
            [sketch.sketch(values[n][:, k], self.bits) for k in range(saves)] for n in self.names
        ]
        self._sketch(new)
        self.next += -(-count // self.group)
        self.seen += count

    def _sketch(self, new: list[list[sketch.Sketch]]) -> None:
        old = self.sketches
        self.sketches = (
            [
                [sketch.merge(*pair) for pair in zip(*both, strict=True)]
                for both in zip(old, new, strict=True)
            ]
            if old
            else new
        )

    def merge(self, other: State) -> None:
        """Take in the statistics of other groups of the same ensemble."""
        if not other.seen:
            return
        if not self.seen:
            self.m, self.times, self.exits = other.m, other.times, np.zeros_like(other.exits)
        self.exits = self.exits + other.exits
        for (level, number), node in sorted(other.forest.items()):
            moments.add(self.forest, level, number, node)
        self._sketch(other.sketches)
        self.seen += other.seen

    def pack(self) -> bytes:
        places = sorted(self.forest)
        arrays = {"times": self.times, "exits": self.exits}
        for k, place in enumerate(places):
            arrays |= {f"{name}_{k}": x for name, x in self.forest[place]._asdict().items()}
        for i, row in enumerate(self.sketches):
            for k, s in enumerate(row):
                arrays[f"sketch_{i}_{k}"] = np.stack([s.cells, s.counts])
                arrays[f"ends_{i}_{k}"] = np.array([s.least, s.largest])
                arrays[f"undefined_{i}_{k}"] = np.array(s.undefined)
        header = {
            name: getattr(self, name)
            for name in ("paths", "group", "names", "bits", "covariance", "next", "seen", "m")
        }
        return files.pack(self.request, {**header, "part": self.part, "places": places}, arrays)

    @classmethod
    def unpack(cls, content: bytes, origin: str) -> State:
        request, header, arrays = files.unpack(content, origin)
        places = [tuple(p) for p in header.pop("places")]
        state = cls(request=request, **{**header, "part": tuple(header["part"])})
        state.times, state.exits = arrays["times"], arrays["exits"]
        for k, place in enumerate(places):
            state.forest[place] = moments.Sums(
                *(arrays[f"{name}_{k}"] for name in moments.Sums._fields)
            )
        for i in range(len(state.names) if state.seen else 0):
            row = []
            for k in range(len(state.times)):
                cells, counts = arrays[f"sketch_{i}_{k}"]
                least, largest = arrays[f"ends_{i}_{k}"].tolist()
                row.append(
                    sketch.Sketch(cells, counts, least, largest, int(arrays[f"undefined_{i}_{k}"]))
                )
            state.sketches.append(row)
        return state

    def summary(self, probs: Sequence[float]) -> Summary:
        all_ = moments.total(self.forest)
        saves, m, n = len(self.times), self.m, self.seen
        rows, columns = np.tril_indices(m)
        M = len(rows)

        def entries(flat: np.ndarray) -> np.ndarray:
            out = np.empty((saves, m, m))
            out[:, rows, columns] = out[:, columns, rows] = flat[: saves * M].reshape(saves, M)
            return out

        covariance = None
        if self.covariance:
            place = np.empty((m, m), dtype=int)
            place[rows, columns] = place[columns, rows] = np.arange(M)
            covariance = (all_.cross / max(n - 1, 1))[:, place][..., place]
        variance = all_.square / np.maximum(all_.counts - 1, 1)
        ps = np.asarray(probs, dtype=np.float64)
        found = {}
        for i, (name, row) in enumerate(zip(self.names, self.sketches, strict=True)):
            own = slice(saves * M + i * saves, saves * M + (i + 1) * saves)
            finite = all_.counts[own]
            found[name] = Observable(
                mean=np.where(finite > 0, all_.mean[own], np.nan),
                variance=np.where(finite > 0, variance[own], np.nan),
                quantiles=np.stack([sketch.quantiles(s, ps, self.bits) for s in row], axis=1),
                least=np.array([s.least for s in row]),
                largest=np.array([s.largest for s in row]),
                finite=finite / n,
                undefined=np.array([s.undefined for s in row]) / n,
            )
        return Summary(
            self.times,
            entries(all_.mean),
            entries(variance),
            covariance,
            self.exits / n,
            ps,
            found,
            n,
        )

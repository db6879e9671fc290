"""Ensembles larger than memory, on one device, many devices, or many processes.

    summary = stream(model.simulate, V0, params, t1=0.5, paths=10**7, seed=0,
                     observables={"V_01": lambda p: p.V[..., 0, 1]}, checkpoint="run.npz")

Paths are simulated in chunks and forgotten; what stays are moments, quantile sketches and counts.
The summary's bits depend on the request alone: not on the chunks, on interruptions, on the
devices, nor on how many processes share the work.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from derive.runtime.common import inputs
from derive.runtime.common.progress import Progress, reporter
from derive.runtime.paths import checkpoint as files
from derive.runtime.paths import moments, sketch
from derive.runtime.paths.results import DOMINATED, LEFT, Paths

__all__ = ["Observable", "Summary", "combine", "stream"]

PROBS = (0.05, 0.25, 0.5, 0.75, 0.95)
GROUP_BYTES = 2**25  # of one group of paths, the unit of the fixed order of sums
CHUNK_BYTES = 2**27  # of the paths held at a time
LARGEST_GROUP, LARGEST_CHUNK = 1024, 2**16


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
class _State:
    """Merged statistics of the groups done; groups are numbered over the whole ensemble."""

    request: files.Request
    paths: int
    group: int  # paths in a group
    names: list[str]
    bits: int
    covariance: bool
    part: tuple[int, int]
    next: int  # group
    seen: int = 0
    m: int = 0
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    exits: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    forest: moments.Forest = field(default_factory=dict)
    sketches: list[list[sketch.Sketch]] = field(default_factory=list)

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

    def merge(self, other: _State) -> None:
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
    def unpack(cls, content: bytes, origin: str) -> _State:
        request, header, arrays = files.unpack(content, origin)
        places = [tuple(p) for p in header.pop("places")]
        state = cls(request=request, **{**header, "part": tuple(header["part"])})
        state.times, state.exits = arrays["times"], arrays["exits"]
        for k, place in enumerate(places):
            state.forest[place] = moments.Moments(
                *(arrays[f"{name}_{k}"] for name in moments.Moments._fields)
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


def stream(
    simulate: Callable[..., Paths],
    *arguments: Any,
    paths: int,
    seed: int,
    observables: Mapping[str, Callable[[Paths], np.ndarray]] | None = None,
    probs: Sequence[float] = PROBS,
    accuracy: float = 1e-3,
    covariance: bool = False,
    checkpoint: str | Path | None = None,
    every: float = 60.0,
    part: tuple[int, int] | None = None,
    chunk: int | None = None,
    progress: bool | None | Progress = None,
    **options: Any,
) -> Summary:
    """Statistics of an ensemble of any size; memory does not grow with `paths`.

    **Arguments:**

    - `simulate`, `arguments`, `options`: a generated module's `simulate`, `network` or
      `reduced_network`, and what it takes.
    - `observables`: name -> function of a chunk's `Paths` that gives numbers (paths, saves).
    - `probs`, `accuracy`: which quantiles of the observables, and their relative error at most.
    - `covariance`: of all pairs of V's entries too; O(m^4) numbers a save time.
    - `checkpoint`: a file in which the merged state is kept, written every `every` seconds and
      at the end.  The same request goes on from it, to the same bits; another is refused.
    - `part`: (k, K), do only the k-th of K shares, k = 0, ..., K - 1; `combine` joins their
      checkpoints.  By default all processes of `jax.distributed` share the work, and each
      returns the whole summary.  The checkpoint of a share is NAME.k-of-K.npz.
    - `chunk`: paths held at a time (rounded up to whole groups); changes no bit.

    Raises ValueError for a request that makes no sense or a checkpoint of another one.
    """
    _, paths = inputs.path_range(0, paths)
    seed = inputs.integer("seed", seed)
    for name in ("first", "paths", "seed", "progress"):
        if name in options:
            raise ValueError(f"stream passes {name} itself; leave it out")
    named = dict(observables or {})
    together = part is None and jax.process_count() > 1
    k, K = (jax.process_index(), jax.process_count()) if part is None else _part(part)
    if not 0 <= k < K:
        raise ValueError(f"part = ({k}, {K}) must be (k, K) with 0 <= k < K")
    probs = inputs.numbers.array("probs", probs).ravel().tolist()
    if any(not 0 <= p <= 1 for p in probs):
        raise ValueError(f"probs must lie in [0, 1], got {list(probs)}")
    path_bytes = _path_bytes(arguments, options)
    group = _power(GROUP_BYTES // path_bytes, LARGEST_GROUP)
    held = _power(CHUNK_BYTES // path_bytes, LARGEST_CHUNK) if chunk is None else chunk
    held = inputs.positive_integer("chunk", held)
    at_once = max(1, -(-held // group))  # groups
    groups = -(-paths // group)
    begin, end = groups * k // K, groups * (k + 1) // K
    request = _request(simulate, arguments, options, named, paths, seed, accuracy, covariance)
    state = _State(
        request, paths, group, list(named), sketch.bits_for(accuracy), covariance, (k, K), begin
    )
    file = None if checkpoint is None else part_file(checkpoint, k, K)
    if file is not None and file.exists():
        stored = _State.unpack(file.read_bytes(), str(file))
        files.require_same(stored.request, request, str(file))
        if stored.part != (k, K):
            raise ValueError(f"{file} is that of part {stored.part}, not of ({k}, {K})")
        state = stored
    report = reporter(progress, "stream")
    saved, frozen = time.monotonic(), np.zeros(3)
    while state.next < end:
        first = state.next * group
        count = min(min(state.next + at_once, end) * group, paths) - first
        with warnings.catch_warnings():  # of one chunk's mean: that of all comes below
            warnings.filterwarnings("ignore", message=f".*{LEFT}")
            sample = simulate(*arguments, paths=count, seed=seed, first=first, **options)
        frozen = frozen + _frozen(sample)
        state.add(sample, {n: _observed(n, f, sample) for n, f in named.items()})
        report((state.next - begin) / (end - begin))
        finished = state.next >= end
        if file is not None and (finished or time.monotonic() - saved >= every):
            files.write(file, state.pack())
            saved = time.monotonic()
    if together:
        state = _merged([_State.unpack(b, "a process's part") for b in _exchange(state.pack())])
    if not state.seen:
        raise ValueError(
            f"part {k} of {K} has no paths: {paths} paths are {groups} groups of {group}; "
            f"take at most {groups} parts"
        )
    if frozen[1] > DOMINATED * frozen[2]:
        warnings.warn(
            f"{frozen[0]:.0f} {LEFT} and stand still near it; they make "
            f"{frozen[1] / frozen[2]:.0%} of the mean of tr V at the last time: such a mean and "
            "its variance follow the radius. Take the quantiles of observables, or an earlier time",
            stacklevel=2,
        )
    return state.summary(probs)


def _frozen(sample: Paths) -> np.ndarray:
    """How many paths have left, their sum of tr V at the last time, and that of all paths."""
    left = np.isfinite(sample.exit_time)
    sizes = np.trace(sample.V[:, -1], axis1=-2, axis2=-1).astype(np.float64)
    return np.array([left.sum(), sizes[left].sum(), sizes.sum()])


def _part(part: Any) -> tuple[int, int]:
    try:
        k, K = part
    except (TypeError, ValueError):
        raise ValueError(f"part = {part!r} must be (k, K) with 0 <= k < K") from None
    return inputs.integer("part[0]", k), inputs.integer("part[1]", K)


def combine(parts: Iterable[str | Path], probs: Sequence[float] = PROBS) -> Summary:
    """The summary of a whole ensemble from the finished checkpoints of its parts."""
    names = [str(p) for p in parts]
    if not names:
        raise ValueError("combine needs the checkpoints of all parts, got none")
    states = [_State.unpack(Path(name).read_bytes(), name) for name in names]
    for name, state in zip(names, states, strict=True):
        files.require_same(state.request, states[0].request, name)
    shares = states[0].part[1]
    if sorted(s.part for s in states) != [(k, shares) for k in range(shares)]:
        found = ", ".join(f"{k} of {K}" for k, K in sorted(s.part for s in states))
        raise ValueError(f"combine needs each of the {shares} parts once, got {found}")
    state = _merged(states)
    if state.seen != state.paths:
        groups = -(-state.paths // state.group)
        late = [
            n
            for n, s in zip(names, states, strict=True)
            if s.next < groups * (s.part[0] + 1) // shares
        ]
        raise ValueError(f"not finished: {', '.join(late)}; run these parts again, they go on")
    return state.summary(probs)


def part_file(checkpoint: str | Path, k: int, K: int) -> Path:
    """NAME.k-of-K.npz; NAME.npz for the whole."""
    file = Path(checkpoint)
    return file if K == 1 else file.with_name(f"{file.stem}.{k}-of-{K}{file.suffix}")


def _merged(states: list[_State]) -> _State:
    first, *rest = sorted(states, key=lambda s: s.part)
    for state in rest:
        first.merge(state)
    return first


def _exchange(content: bytes) -> list[bytes]:
    """Every process's bytes, on every process, in order."""
    from jax.experimental.multihost_utils import process_allgather

    own = np.frombuffer(content, np.uint8)
    sizes = np.asarray(process_allgather(np.array([len(own)], np.int32))).reshape(-1)
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(own)] = own
    everyone = np.asarray(process_allgather(padded))
    return [row[:size].tobytes() for row, size in zip(everyone, sizes, strict=True)]


def _observed(name: str, function: Callable[[Paths], Any], sample: Paths) -> np.ndarray:
    values = np.asarray(function(sample))
    wanted = sample.V.shape[:2]
    if values.shape != wanted or values.dtype.kind not in "biuf":
        raise ValueError(
            f"the observable {name!r} must give real numbers of shape (paths, saves) = {wanted}, "
            f"got {values.dtype} {values.shape}"
        )
    return values.astype(np.float64)


def _request(
    simulate: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: Mapping[str, Any],
    observables: Mapping[str, Any],
    paths: int,
    seed: int,
    accuracy: float,
    covariance: bool,
) -> files.Request:
    """All that the summary's bits depend on, by name."""
    home = getattr(simulate, "__globals__", {})
    generated = [home["SIGNATURE"], home["__doc__"]] if "SIGNATURE" in home else []
    name = f"{getattr(simulate, '__module__', '')}.{getattr(simulate, '__qualname__', '')}"
    return {
        "function": name,
        "model": files.fingerprint(generated or simulate),
        **{f"argument {i}": files.fingerprint(a) for i, a in enumerate(arguments)},
        # these change no bit
        **{
            k: files.fingerprint(v)
            for k, v in options.items()
            if k not in ("block_size", "devices")
        },
        "paths": str(paths),
        "seed": str(seed),
        "accuracy": repr(float(accuracy)),
        "covariance": str(bool(covariance)),
        "observables": files.fingerprint(list(observables)),
        **{f"observable {n}": files.fingerprint(f) for n, f in observables.items()},
        "jax": jax.__version__,
        "numpy": np.__version__,
        "device": jax.default_backend(),
    }


def _path_bytes(arguments: tuple[Any, ...], options: Mapping[str, Any]) -> int:
    """Bytes of one path's V at all save times, from the request alone."""
    start = arguments[0] if arguments else options.get("V0")
    start = options.get("X0") if start is None else start
    if start is None:
        raise ValueError("pass V0 (m, m), or X0, to the function that stream calls")
    saves = options.get("saves")
    kept = 2 if saves is None else int(saves) if np.ndim(saves) == 0 else len(saves)
    return 8 * max(kept, 1) * max(np.shape(start)[0], 1) ** 2


def _power(count: int, most: int) -> int:
    """The largest power of two that is at most `count`, between 1 and `most`."""
    return min(most, 1 << max(int(math.log2(max(count, 1))), 0))

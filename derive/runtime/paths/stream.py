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
from pathlib import Path
from typing import Any

import jax
import numpy as np

from derive.runtime.common import inputs, numbers
from derive.runtime.common.progress import Progress, reporter
from derive.runtime.paths import checkpoint as files
from derive.runtime.paths import sketch
from derive.runtime.paths.results import DOMINATED, LEFT, Paths
from derive.runtime.paths.summary import Observable, State, Summary

__all__ = ["Observable", "Summary", "combine", "stream"]

PROBS = (0.05, 0.25, 0.5, 0.75, 0.95)
GROUP_BYTES = 2**25  # of one group of paths, the unit of the fixed order of sums
CHUNK_BYTES = 2**27  # of the paths held at a time
LARGEST_GROUP, LARGEST_CHUNK = 1024, 2**16


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
    seed = numbers.integer("seed", seed)
    named = dict(observables or {})
    _check_options(options)
    k, K = (jax.process_index(), jax.process_count()) if part is None else _part(part)
    shares = _probabilities(probs)
    group, at_once = _groups(_path_bytes(arguments, options), chunk)
    request = _request(simulate, arguments, options, named, paths, seed, accuracy, covariance)
    state = State(request, paths, group, list(named), sketch.bits_for(accuracy), covariance, (k, K))
    file = None if checkpoint is None else part_file(checkpoint, k, K)
    if file is not None and file.exists():
        state = _stored(file, state)

    def draw(first: int, count: int) -> Paths:
        return simulate(*arguments, paths=count, seed=seed, first=first, **options)

    frozen = _go_on(state, draw, named, at_once, file, every, reporter(progress, "stream"))
    if part is None and K > 1:
        state = _merged([State.unpack(b, "a process's part") for b in _exchange(state.pack())])
    if not state.seen:
        raise ValueError(
            f"part {k} of {K} has no paths: {paths} paths are {state.groups} groups of {group}; "
            f"take at most {state.groups} parts"
        )
    _warn(frozen)
    return state.summary(shares)


def _check_options(options: Mapping[str, Any]) -> None:
    for name in ("first", "paths", "seed", "progress"):
        if name in options:
            raise ValueError(f"stream passes {name} itself; leave it out")


def _probabilities(probs: Any) -> list[float]:
    found = numbers.array("probs", probs).ravel().tolist()
    if any(not 0 <= p <= 1 for p in found):
        raise ValueError(f"probs must lie in [0, 1], got {list(found)}")
    return found


def _groups(path_bytes: int, chunk: int | None) -> tuple[int, int]:
    """Paths in a group, and groups at a time."""
    group = _power(GROUP_BYTES // path_bytes, LARGEST_GROUP)
    held = _power(CHUNK_BYTES // path_bytes, LARGEST_CHUNK) if chunk is None else chunk
    held = inputs.positive_integer("chunk", held)
    return group, max(1, -(-held // group))


def _stored(file: Path, fresh: State) -> State:
    """The state that a checkpoint holds, if it is that of the same request and part."""
    stored = State.unpack(file.read_bytes(), str(file))
    files.require_same(stored.request, fresh.request, str(file))
    if stored.part != fresh.part:
        raise ValueError(f"{file} is that of part {stored.part}, not of {fresh.part}")
    return stored


def _go_on(
    state: State,
    draw: Callable[[int, int], Paths],
    observables: Mapping[str, Callable[[Paths], Any]],
    at_once: int,
    file: Path | None,
    every: float,
    report: Progress,
) -> np.ndarray:
    """Take all groups of this part into `state`, `at_once` of them at a time; returns `_frozen`
    of all the paths that `draw(first, count)` gave."""
    saved, frozen = time.monotonic(), np.zeros(3)
    while state.next < state.end:
        first = state.next * state.group
        count = min(min(state.next + at_once, state.end) * state.group, state.paths) - first
        with warnings.catch_warnings():  # of one chunk's mean: that of all comes below
            warnings.filterwarnings("ignore", message=f".*{LEFT}")
            sample = draw(first, count)
        frozen = frozen + _frozen(sample)
        state.add(sample, {n: _observed(n, f, sample) for n, f in observables.items()})
        report((state.next - state.begin) / (state.end - state.begin))
        finished = state.next >= state.end
        if file is not None and (finished or time.monotonic() - saved >= every):
            files.write(file, state.pack())
            saved = time.monotonic()
    return frozen


def _warn(frozen: np.ndarray) -> None:
    if frozen[1] > DOMINATED * frozen[2]:
        warnings.warn(
            f"{frozen[0]:.0f} {LEFT} and stand still near it; they make "
            f"{frozen[1] / frozen[2]:.0%} of the mean of tr V at the last time: such a mean and "
            "its variance follow the radius. Take the quantiles of observables, or an earlier time",
            stacklevel=3,
        )


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
    k, K = numbers.integer("part[0]", k), numbers.integer("part[1]", K)
    if not 0 <= k < K:
        raise ValueError(f"part = ({k}, {K}) must be (k, K) with 0 <= k < K")
    return k, K


def combine(parts: Iterable[str | Path], probs: Sequence[float] = PROBS) -> Summary:
    """The summary of a whole ensemble from the finished checkpoints of its parts."""
    names = [str(p) for p in parts]
    if not names:
        raise ValueError("combine needs the checkpoints of all parts, got none")
    states = [State.unpack(Path(name).read_bytes(), name) for name in names]
    for name, state in zip(names, states, strict=True):
        files.require_same(state.request, states[0].request, name)
    shares = states[0].part[1]
    if sorted(s.part for s in states) != [(k, shares) for k in range(shares)]:
        found = ", ".join(f"{k} of {K}" for k, K in sorted(s.part for s in states))
        raise ValueError(f"combine needs each of the {shares} parts once, got {found}")
    state = _merged(states)
    if state.seen != state.paths:
        late = [n for n, s in zip(names, states, strict=True) if s.next < s.end]
        raise ValueError(f"not finished: {', '.join(late)}; run these parts again, they go on")
    return state.summary(probs)


def part_file(checkpoint: str | Path, k: int, K: int) -> Path:
    """NAME.k-of-K.npz; NAME.npz for the whole."""
    file = Path(checkpoint)
    return file if K == 1 else file.with_name(f"{file.stem}.{k}-of-{K}{file.suffix}")


def _merged(states: list[State]) -> State:
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

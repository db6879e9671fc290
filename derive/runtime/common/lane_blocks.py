"""All lanes of an integration on the host, and the blocks of them that are advanced in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from derive.runtime.common.adaptive import RUNNING, Control, Flight

SMALLER = 16  # the small block, for the last stragglers, as a fraction of a block
CACHE = 2**20  # bytes, of a core


def lanes_that_fit(numbers: int, lanes: int, least: int = 16, most: int = 1024) -> int:
    """A power of two of lanes, each touching so many numbers in a step, that stay in the cache."""
    fits = 1 << int(np.log2(max(1.0, CACHE / (8 * numbers))))
    return int(min(np.clip(fits, least, most), 1 << (lanes - 1).bit_length()))


def take(tree: Any, lanes: np.ndarray) -> Any:
    return jax.tree.map(lambda x: np.take(x, lanes, axis=-1), tree)


def put(tree: Any, lanes: np.ndarray, part: Any) -> None:
    """Write the first len(lanes) lanes of `part` into the host arrays of `tree`."""
    for old, new in zip(jax.tree.leaves(tree), jax.tree.leaves(part), strict=True):
        old[..., lanes] = np.asarray(new)[..., : len(lanes)]


class Task(NamedTuple):
    """What stays the same over an integration; host arrays.

    `start` and `advance`: the jitted programs, as `closures.solver` makes them.  `block`: how many
    lanes are advanced at once.  `devices`: they take turns; none: wherever JAX puts it.
    """

    start: Callable[..., Any]
    advance: Callable[..., Any]
    params: Any  # (per lane: lanes last, shared)
    atol: np.ndarray  # (lanes,)
    control: Control
    block: int
    devices: tuple[Any, ...] = ()

    def of(self, lanes: np.ndarray) -> Any:
        return take(self.params[0], lanes), self.params[1]


def launch(task: Task, state: Any, t: Any) -> Flight:
    """Host arrays of all lanes, made in blocks, so that one compilation serves them all."""
    lanes = state[0].shape[-1]
    kind = state[0].dtype
    slopes, steps = [], []
    for first in range(0, lanes, task.block):
        chosen = np.minimum(np.arange(first, first + task.block), lanes - 1)
        slope, h = task.start(
            take(state, chosen), task.atol[chosen], task.of(chosen), kind.type(task.control.end)
        )
        slopes.append(jax.tree.map(np.asarray, slope))
        steps.append(np.asarray(h))
    join = lambda *xs: np.concatenate(xs, axis=-1)[..., :lanes].copy()  # noqa: E731
    zero = np.zeros(lanes, np.int32)
    return Flight(
        tuple(jax.tree.map(np.array, state)),
        jax.tree.map(join, *slopes),
        np.array(np.broadcast_to(np.asarray(t, kind), (lanes,))),
        join(*steps),
        np.full(lanes, 1e-4, kind),
        zero.copy(),
        zero.copy(),
        zero.copy(),
        np.full(lanes, np.nan, kind),
    )


def to_target(task: Task, flight: Flight, target: float, report: Callable[[float], None]) -> None:
    """Advance the host arrays of `flight` in place, until every lane is at `target` or ended."""
    kind = flight.t.dtype.type
    rtol, max_steps, end = task.control
    control = Control(kind(rtol), np.int32(max_steps), kind(end))
    small = max(1, task.block // SMALLER)
    late = np.flatnonzero((flight.status == RUNNING) & (flight.t < target))
    whole = len(late)
    while len(late):
        block = task.block if len(late) > small else small
        leave = np.int32(block // 8 if len(late) > block else 0)
        parts = [late[first : first + block] for first in range(0, len(late), block)]
        turns = max(len(task.devices), 1)
        rest = []
        for first in range(0, len(parts), turns):
            together = parts[first : first + turns]  # under way at the same time
            moved = [
                task.advance(*_given(task, flight, lanes, block, i), control, kind(target), leave)
                for i, lanes in enumerate(together)
            ]
            for lanes, (new, pending) in zip(together, moved, strict=True):
                put(flight, lanes, new)
                rest.append(lanes[np.asarray(pending)[: len(lanes)]])
        late = np.concatenate(rest)
        report(1 - len(late) / whole)


def _given(task: Task, flight: Flight, lanes: np.ndarray, block: int, turn: int) -> Any:
    """A block's lanes, tolerances and parameters, on the device whose turn it is."""
    # a short block is filled up with copies of its first lane
    chosen = np.concatenate([lanes, np.full(block - len(lanes), lanes[0])])
    given = take(flight, chosen), task.atol[chosen], task.of(chosen)
    return jax.device_put(given, task.devices[turn]) if task.devices else given

"""All lanes of an integration on the host, and the blocks of them that are advanced in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from derive.runtime.closures.solver import RUNNING, Control, Flight, advancing, starting
from derive.runtime.closures.specification import ClosureModel

SMALLER = 16  # the small block, for the last stragglers, as a fraction of a block


def take(tree: Any, lanes: np.ndarray) -> Any:
    return jax.tree.map(lambda x: np.take(x, lanes, axis=-1), tree)


def put(tree: Any, lanes: np.ndarray, part: Any) -> None:
    """Write the first len(lanes) lanes of `part` into the host arrays of `tree`."""
    for old, new in zip(jax.tree.leaves(tree), jax.tree.leaves(part), strict=True):
        old[..., lanes] = np.asarray(new)[..., : len(lanes)]


class Task(NamedTuple):
    """What stays the same over an integration; host arrays."""

    spec: ClosureModel
    params: Any  # (per lane: lanes last, shared)
    atol: np.ndarray  # (lanes,)
    control: Control
    numbers: int  # in the state of one lane

    def block(self, method: str) -> int:
        """Lanes in a block: what a step touches should stay in a core's cache."""
        numbers = self.numbers * (16 if method != "stiff" else 8 + 2 * self.numbers)
        fits = 1 << int(np.log2(max(1.0, 2**20 / (8 * numbers))))
        return int(min(np.clip(fits, 16, 1024), 1 << (len(self.atol) - 1).bit_length()))

    def of(self, lanes: np.ndarray) -> Any:
        return take(self.params[0], lanes), self.params[1]


def launch(task: Task, method: str, state: Any, t: Any) -> Flight:
    """Host arrays of all lanes, made in blocks, so that one compilation serves them all."""
    lanes = state[0].shape[-1]
    kind = state[0].dtype
    size = task.block(method)
    start = starting(task.spec, method)
    slopes, steps = [], []
    for first in range(0, lanes, size):
        chosen = np.minimum(np.arange(first, first + size), lanes - 1)
        slope, h = start(
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


def to_target(
    task: Task,
    method: str,
    flight: Flight,
    target: float,
    report: Callable[[float], None],
) -> None:
    """Advance the host arrays of `flight` in place, until every lane is at `target` or ended."""
    kind = flight.t.dtype.type
    advance = advancing(task.spec, method)
    rtol, max_steps, end = task.control
    control = Control(kind(rtol), np.int32(max_steps), kind(end))
    size = task.block(method)
    small = max(1, size // SMALLER)
    late = np.flatnonzero((flight.status == RUNNING) & (flight.t < target))
    whole = len(late)
    while len(late):
        block = size if len(late) > small else small
        rest = []
        for first in range(0, len(late), block):
            lanes = late[first : first + block]
            # a short block is filled up with copies of its first lane
            chosen = np.concatenate([lanes, np.full(block - len(lanes), lanes[0])])
            moved, pending = advance(
                take(flight, chosen),
                task.atol[chosen],
                task.of(chosen),
                control,
                kind(target),
                np.int32(block // 8 if len(late) > block else 0),
            )
            put(flight, lanes, moved)
            rest.append(lanes[np.asarray(pending)[: len(lanes)]])
        late = np.concatenate(rest)
        report(1 - len(late) / whole)

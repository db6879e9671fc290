"""One plan for all laws: part and gather each, carry them, spread each over its target.

The last part is found backwards: the targets are parted from each other as the inputs are, each by
a split that is undone again, and where a target stood alone its law is spread.  Diracs need none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from derive.runtime.flows.match.carrying import order, way
from derive.runtime.flows.match.laws import Laws
from derive.runtime.flows.match.parting import NARROW, WIDE, Split, free_direction, split
from derive.runtime.flows.match.pieces import Run
from derive.runtime.flows.match.planes import circle, unit
from derive.runtime.flows.match.spreading import spread
from derive.runtime.flows.specification import FlowModel

GATE = 0.02  # of the room between the parted law and the others, that the gate stays below them
WHOLE = 1e-3  # radius above which tokens are told apart again
GATHERED, CARRIED = 0.02, 0.01  # radii of laws that will be spread again
NEAR, KICKS = 1e-3, 24  # distance of barycentres that are taken apart first; pulls tried
# Height of a law before its split: well below the plane, so that the split takes it to the pole
# from wherever it stands a little off.
BELOW, LOWEST = 0.25, -0.9


class Kick(NamedTuple):
    """A pull of all laws that takes barycentres apart: `end`, its gate, the time."""

    end: np.ndarray
    gate: tuple[np.ndarray, float]
    time: float


class Unfolding(NamedTuple):
    """How one target is reached: its split, where its law stands before, its atoms in the split."""

    split: Split
    start: np.ndarray
    atoms: np.ndarray
    masses: np.ndarray


def apart(laws: Laws) -> float:
    """Least distance of two barycentres."""
    means = laws.means
    return min(
        (float(np.linalg.norm(p - q)) for i, p in enumerate(means) for q in means[:i]),
        default=np.inf,
    )


def kick(run: Run, rng: np.random.Generator) -> Kick | None:
    """Where barycentres are one or nearly, the pull of many that takes them farthest apart."""
    before, laws = apart(run.laws), run.laws
    if before > NEAR:
        return None
    best: tuple[float, Kick | None] = (2 * before, None)
    for _ in range(KICKS):
        end, z = unit(rng.standard_normal((2, laws.x.shape[2])))
        one = Kick(end, (z, float(rng.uniform(-0.3, 0.5))), float(rng.uniform(0.5, 2)))
        trial = Run(run.spec, laws)
        trial.pull(one.end, one.gate, one.time, -1, "")
        best = max(best, (apart(trial.laws), one), key=lambda pair: pair[0])
    found = best[1]
    if found is not None:
        run.pull(found.end, found.gate, found.time, -1, "take barycentres apart")
    return found


def part(run: Run, radius: float, rng: np.random.Generator, report: Callable[[int], None]) -> None:
    """Gather each law at a place of its own, to `radius`; all others return to where they were."""
    count, d = run.laws.x.shape[0], run.laws.x.shape[2]
    free, rest, parked = free_direction(run.laws, rng), list(range(count)), np.zeros((0, d))
    margins = WIDE if radius > WHOLE else NARROW
    while rest:
        s = split(run.spec, run.laws, rest, parked, free, rng, margins)
        before = run.laws
        run.split(s.a, s.c, s.time, s.law, f"part law {s.law} from the others")
        others = np.delete(run.laws.x, s.law, axis=0)
        high = float((others @ s.a).min()) if count > 1 else s.high
        gate = (-s.a, -(high - GATE * (high - s.low)))
        run.gather(run.laws.own(s.law), s.place, gate, radius, s.law, f"gather law {s.law}")
        run.split(s.a, s.c, s.time, s.law, "let the others return", sign=-1)
        _restored(run, before, s.law)
        parked = np.vstack([parked, unit(run.laws.means[s.law])])
        rest.remove(s.law)
        report(count - len(rest))


def _restored(run: Run, before: Laws, law: int) -> None:
    """Note how far the tokens of the other laws are from where they were before the split."""
    off = np.linalg.norm(np.delete(run.laws.x - before.x, law, axis=0), axis=-1)
    run.restored = max(run.restored, float(off.max(initial=0.0)))


def carry(run: Run, ends: np.ndarray, radius: float, rng: np.random.Generator) -> None:
    """Each gathered law to its end (N, d), to `radius` of it.  Raises NoWay."""
    points = unit(run.laws.means)
    for law in order(points, ends, rng):
        points = unit(run.laws.means)
        hops = way(points[law], ends[law], np.delete(points, law, axis=0), rng)
        for number, hop in enumerate(hops):
            words = f"carry law {law}, hop {number + 1} of {len(hops)}"
            here, tokens = unit(run.laws.means[law]), run.laws.own(law)
            if number + 1 == len(hops):
                run.gather(tokens, hop.to, (hop.z, hop.h), radius, law, words)
            else:  # towards the direction at half the way: the law keeps its shape
                ahead = unit(hop.to - here)
                middle = unit(here + hop.to)
                run.pass_to(here, unit(ahead - (ahead @ middle) * middle), hop, law, words)


def unfold(
    spec: FlowModel, targets: Laws, rng: np.random.Generator, report: Callable[[int], None]
) -> tuple[Kick | None, list[Unfolding]]:
    """How the targets are reached, in the order in which they are parted: backwards in time."""
    run, out = Run(spec, targets), []
    first = kick(run, rng)
    targets = run.laws
    count, d = targets.x.shape[0], targets.x.shape[2]
    free, rest, parked = free_direction(targets, rng), list(range(count)), np.zeros((0, d))
    while rest:
        s = split(spec, run.laws, rest, parked, free, rng)
        run.split(s.a, s.c, s.time, s.law, "")
        atoms, masses = run.laws.own(s.law), targets.masses[s.law, : targets.counts[s.law]]
        run.split(s.a, s.c, s.time, s.law, "", sign=-1)
        start = circle(s.a, max(s.c - BELOW, LOWEST), s.place)
        x = run.laws.x.copy()
        x[s.law] = start
        run.laws = run.laws.at(x)
        out.append(Unfolding(s, start, atoms, masses))
        parked = np.vstack([parked, start])
        rest.remove(s.law)
        report(count - len(rest))
    return first, out


def reach(run: Run, unfolding: Unfolding, radius: float) -> None:
    """Part a carried law, spread it over the atoms, and let all return."""
    s, before = unfolding.split, run.laws
    run.split(s.a, s.c, s.time, s.law, f"part law {s.law} from the others")
    words = f"spread law {s.law}"
    spread(run, s.law, unfolding.atoms, unfolding.masses, radius, words)
    run.split(s.a, s.c, s.time, s.law, "let all return", sign=-1)
    _restored(run, before, s.law)

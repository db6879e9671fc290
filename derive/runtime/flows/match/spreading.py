"""A gathered law spread over the atoms of its target, one pull an atom.

All tokens stand close together at one place.  A cap with this place on its edge and an atom inside
opens the gate on a slice of them, of the atom's mass, and the pull takes it there; the others stand
outside and rest.  Atoms far from the place come first: the cap between the place and the next atom
is inside the ball around the place that holds no atom yet.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from derive.runtime.flows.match.pieces import Run
from derive.runtime.flows.match.planes import nearest, unit

CLEAR = 1e-3  # of the depth of the atom in the gate: where obstacles stay below it
OPENED = 0.02  # radius of the law's tokens, in the room around and the distances of atoms
CLOSE = 30.0  # times closer than that: pushed apart again
TOLD = 1e-10  # distance of tokens that rounding on the way does not reach
TILTS = 12  # of a cap, of which the one with the widest gap between tokens is taken
SHARP = 1e-7  # angles between an atom and what is in its way, below which there is no way


Slice = tuple[np.ndarray, tuple[np.ndarray, float], np.ndarray]  # end, gate, which tokens


class Blocked(Exception):
    """No cap between the law and an atom is free of other tokens."""


def spread(
    run: Run, law: int, atoms: np.ndarray, masses: np.ndarray, radius: float, words: str
) -> None:
    """Pulls that put tokens of `law` at `atoms` (M, d) by `masses` (M,).  Raises Blocked."""
    weights = run.laws.masses[law]
    left = np.flatnonzero(weights > 0)
    done: list[np.ndarray] = []
    away = np.delete(run.laws.x, law, axis=0).reshape(-1, run.laws.x.shape[2])
    aim = OPENED * min(1.0, _least_distance(atoms))
    place = unit(weights[left] @ run.laws.x[law, left])
    queue = np.argsort(atoms @ place)
    owed = 0.0  # mass that the atoms so far have got too little of
    for number, j in enumerate(queue):
        obstacles = np.vstack([away, *done])
        name, last = f"{words}, atom {number + 1} of {len(queue)}", number + 1 == len(queue)
        if not last:  # what is left at the end goes together
            others = np.vstack([obstacles, atoms[queue[number:]]])
            _open(run, law, left, others, aim, name)
        place = unit(weights[left] @ run.laws.x[law, left])
        tokens = run.laws.x[law, left]
        share = np.inf if last else masses[j] + owed
        end, gate, taken = _slice(tokens, weights[left], place, atoms[j], share, obstacles)
        given = float(weights[left][taken].sum())
        run.owed = max(run.owed, abs(masses[j] - given))
        owed = 0.0 if last else share - given
        if not taken.any():
            continue
        run.gather(tokens[taken], end, gate, radius, law, name)
        done.append(run.laws.x[law, left[taken]])
        left = left[~taken]


def _least_distance(points: np.ndarray) -> float:
    if len(points) < 2:
        return np.inf
    return float(cKDTree(points).query(points, k=2)[0][:, 1].min())


def _open(run: Run, law: int, left: np.ndarray, others: np.ndarray, aim: float, words: str) -> None:
    """Push the law's tokens that are left off their place where they are too close.

    Raises Blocked where rounding would be pushed apart as well.
    """
    weights, tokens = run.laws.masses[law, left], run.laws.x[law, left]
    place = unit(weights @ tokens)
    widest = float(np.linalg.norm(tokens - place, axis=1).max())
    if widest > aim / CLOSE:
        return
    if widest < TOLD:
        raise Blocked(
            f"{len(left)} tokens of law {law} are {widest:.2g} apart: float64 does not tell them "
            "apart on their way, and they would have to go to different points"
        )
    room = float(np.linalg.norm(others - place, axis=1).min(initial=1.0))
    h = float(np.cos(room / 2))
    aim = min(aim, OPENED * room)
    if aim > widest:
        t = np.log(aim / widest) / (1 - h)
        run.pull(place, (place, h), t, law, f"{words}: open", sign=-1)


def _slice(
    tokens: np.ndarray,
    weights: np.ndarray,
    place: np.ndarray,
    atom: np.ndarray,
    share: float,
    obstacles: np.ndarray,
) -> Slice:
    """(end, gate, which tokens), the gate's edge through the place.

    Of all such caps that in which, seen from the place, the atom and what stands outside lie at the
    largest angle from the edge.
    """
    towards = atom - place
    seen = unit(np.vstack([towards if towards @ towards > 1e-18 else -place, place - obstacles]))
    normal = nearest(seen)
    if np.linalg.norm(normal) < SHARP:
        raise Blocked(
            f"no cap leads from the gathered law to an atom {np.linalg.norm(towards):.3g} away: "
            "other tokens stand around it"
        )
    depth_of = lambda z: float(z @ towards)  # noqa: E731
    best: tuple[float, Slice | None] = (-1.0, None)
    tilts = np.random.default_rng(len(tokens)).standard_normal((TILTS, len(place)))
    tilts = 0.3 * np.linalg.norm(normal) * unit(tilts)
    for z in (unit(normal), *unit(unit(normal) + tilts)):
        taken, h, gap = _above(tokens @ z, weights, share, depth_of(z))
        depth, top = float(atom @ z) - h, float((obstacles @ z).max(initial=-1.0))
        if depth > 0.3 * depth_of(unit(normal)) and top <= h - CLEAR * depth and gap > best[0]:
            best = (gap, (atom, (z, h), taken))
    if best[1] is not None and best[0] < TOLD:
        raise Blocked(
            f"tokens {best[0]:.2g} apart would have to go to different points: float64 does not "
            "tell them apart on their way"
        )
    if best[1] is None:
        raise Blocked(
            f"the cap from the gathered law to an atom {np.linalg.norm(towards):.3g} away holds "
            f"other tokens, {depth_of(unit(normal)):.1g} deep"
        )
    return best[1]


def _above(
    heights: np.ndarray, weights: np.ndarray, share: float, depth: float
) -> tuple[np.ndarray, float, float]:
    """The highest tokens of mass `share`, a height between them and the rest, and their gap."""
    order = np.argsort(-heights)
    total = np.cumsum(weights[order])
    count = len(order)
    if np.isfinite(share):
        count = int(np.abs(np.append(0.0, total) - share).argmin())
    taken = np.zeros(len(heights), bool)
    taken[order[:count]] = True
    if not 0 < count < len(order):
        return taken, float(heights.min()) - 0.1 * depth, depth
    high, low = heights[order[count - 1]], heights[order[count]]
    return taken, float(high + low) / 2, float(high - low)

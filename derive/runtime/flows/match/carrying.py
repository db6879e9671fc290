"""Gathered laws carried to their places, one after the other, through caps that hold no other law.

A gate relu(<z, x> - h) is open on a cap; where all other laws lie outside it, a pull in it moves one
law along a great circle and leaves the others at rest, exactly.  From where a law is to where it
shall be it hops through as few such caps as many directions z allow; in each, h is as low as the
others let it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from derive.runtime.flows.match.planes import between, highest, unit

DIRECTIONS = 1500  # of caps
DEEP = (0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5)  # least heights of a way above its gate
MOST = 6  # hops
CLEAR = 0.25  # of the depth, from the others to the gate


class Hop(NamedTuple):
    """From where a law is to `to`, in the cap <z, x> > h; `depth`: least height above h."""

    to: np.ndarray
    z: np.ndarray
    h: float
    depth: float


class NoWay(Exception):
    """No chain of so few caps leads from one point to the other."""


def order(starts: np.ndarray, ends: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Laws in an order in which each finds its place free and its way short.  Raises NoWay."""
    left, points, out = list(range(len(starts))), starts.copy(), []
    while left:
        law = _next(left, points, ends, rng)
        points[law] = ends[law]
        out.append(law)
        left.remove(law)
    return out


def _next(
    left: list[int], points: np.ndarray, ends: np.ndarray, rng: np.random.Generator
) -> int:
    """The first that one deep cap takes there, or that of the fewest hops."""
    costs, why = [], ""
    for law in left:
        try:
            hops = way(points[law], ends[law], np.delete(points, law, axis=0), rng)
        except NoWay as reason:
            why = str(reason)
            continue
        depth = min((hop.depth for hop in hops), default=1.0)
        if len(hops) <= 1 and depth > DEEP[1]:
            return law
        costs.append((len(hops), -depth, law))
    if not costs:
        raise NoWay(f"the laws {left} stand in each other's way: {why}")
    return min(costs)[2]


def way(
    start: np.ndarray, end: np.ndarray, others: np.ndarray, rng: np.random.Generator
) -> list[Hop]:
    """The fewest hops from `start` to `end` past `others` (K, d), deep ones first.

    Raises NoWay.
    """
    if np.linalg.norm(start - end) < 1e-12:
        return []
    caps = _caps(start, end, others, rng)
    for least in DEEP:
        hops = _shortest(start, end, others, caps, least)
        if hops is not None:
            return hops
    nearest = np.linalg.norm(others - end, axis=1).min()
    raise NoWay(
        f"no way of {MOST} hops leads past the other laws; the nearest to its end is {nearest:.2g} "
        "away"
    )


def _caps(
    start: np.ndarray, end: np.ndarray, others: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Directions (m, d) and the largest height (m,) of the others in each."""
    z = [unit(rng.standard_normal((DIRECTIONS, len(start)))), unit(start)[None], unit(end)[None]]
    middle = start + end
    if np.linalg.norm(middle) > 1e-6:
        z.append(unit(middle)[None])
    if len(others):
        found = between(others, np.stack([start, end]))
        if found is not None:
            z.append(found[0][None])
    directions = np.vstack(z)
    tops = (directions @ others.T).max(1) if len(others) else np.full(len(directions), -0.999)
    return directions, np.maximum(tops, -0.999)


def _shortest(
    start: np.ndarray,
    end: np.ndarray,
    others: np.ndarray,
    caps: tuple[np.ndarray, np.ndarray],
    least: float,
) -> list[Hop] | None:
    """Breadth first over caps; two meet where their radii reach past their centres' angle."""
    z, h = caps
    inner = np.arccos(np.clip(h + least, -1, 1))  # radius of the part that is deep enough
    inner = np.where(h + least < 1, inner, -np.inf)
    at = lambda p: np.arccos(np.clip(z @ p, -1, 1)) < inner  # noqa: E731
    first, last = at(start), at(end)
    if (first & last).any():
        hops = [_hop(start, end, z[i], h[i]) for i in np.flatnonzero(first & last)]
        best = max(hops, key=lambda hop: hop.depth)
        if best.depth >= least:
            return [_widened(start, best, others)]
    angles = np.arccos(np.clip(z @ z.T, -1, 1))
    meet = angles < inner[:, None] + inner[None, :]
    before = np.where(first, -1, -2)  # -1: reached from the start; -2: not reached
    front = np.flatnonzero(first)
    for _ in range(MOST - 1):
        if not len(front):
            return None
        depth = inner[front]
        new = np.flatnonzero((before == -2) & meet[front].any(0))
        # into each new cap from that which overlaps it most
        overlap = np.where(meet[np.ix_(front, new)], depth[:, None] - angles[np.ix_(front, new)], -9)
        before[new] = front[overlap.argmax(0)]
        ends = new[last[new]]
        if len(ends):
            room = inner[ends] - np.arccos(np.clip(z[ends] @ end, -1, 1))
            chain = [int(ends[room.argmax()])]
            while before[chain[0]] >= 0:
                chain.insert(0, int(before[chain[0]]))
            return _hops(start, end, others, caps, chain, least)
        front = new
    return None


def _hops(
    start: np.ndarray,
    end: np.ndarray,
    others: np.ndarray,
    caps: tuple[np.ndarray, np.ndarray],
    chain: list[int],
    least: float,
) -> list[Hop] | None:
    """Hops from cap to cap, each ending in the middle of what two caps share."""
    z, h = caps
    out, here = [], start
    for i, cap in enumerate(chain):
        to = end
        if i + 1 < len(chain):
            to = _shared(z[cap], h[cap], z[chain[i + 1]], h[chain[i + 1]])
        hop = _hop(here, to, z[cap], h[cap])
        if hop.depth < least / 2:
            return None
        out.append(_widened(here, hop, others))
        here = to
    return out


def _shared(z: np.ndarray, h: float, other: np.ndarray, k: float) -> np.ndarray:
    """The point between two centres that is as deep in the one cap as in the other."""
    angle = float(np.arccos(np.clip(z @ other, -1, 1)))
    s = np.linspace(0, 1, 65)
    arc = (np.sin((1 - s) * angle)[:, None] * z + np.sin(s * angle)[:, None] * other) / np.sin(angle)
    return unit(arc[np.minimum(arc @ z - h, arc @ other - k).argmax()])


def _hop(start: np.ndarray, end: np.ndarray, z: np.ndarray, h: float) -> Hop:
    """In a cap whose edge is drawn in by a part of the depth, so that no other law touches it."""
    depth = -float(highest(start[None], end, -z)[0]) - float(h)
    return Hop(end, z, float(h) + CLEAR * depth, (1 - CLEAR) * depth)


def _widened(start: np.ndarray, hop: Hop, others: np.ndarray) -> Hop:
    """The same hop behind the plane that leaves its ends farthest from the others."""
    found = between(others, np.stack([start, hop.to])) if len(others) else None
    if found is None:
        return hop
    a, h, gap = found
    other = _hop(start, hop.to, a, h - gap)
    return other if other.depth > hop.depth else hop

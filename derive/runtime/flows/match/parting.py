"""Splits that part one law from all others, chosen so that undoing them keeps the digits.

Under a split all tokens of a law are shifted by one number along a direction a: u = artanh <x, a>
grows at <m, a> - c (the model's derivation).  A law with <m, a> below c goes towards -a, the others
towards a, whatever their supports share.  When they are apart a gate is open on the one law alone,
a pull acts on it, and the same split backwards returns all others to where they were.

Order and directions are chosen among many by what the rounding grows by on the way back: the
largest shift of the others.  A law that has been gathered is parked near one free direction, on the
plane <p, a> = c of its split, where it rests on the way back; planes of later splits leave all
parked ones on the side of the others.  So there is always a law to part next: seen from the parked
ones the outermost barycentre.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from derive.runtime.flows.match.laws import Laws
from derive.runtime.flows.match.planes import circle, highest_of, unit
from derive.runtime.flows.specification import FlowModel

DIRECTIONS = 3000  # tried for a split, and of them
LOOKED_AT = 16  # are followed
CELLS = 256  # of the heights of a law, when a split is looked at
STEP, LONGEST = 0.25, 60.0  # of the integration of shifts
EDGE = 1 - 1e-15  # heights beyond that are at a pole to rounding
ROOM = ((0.8, 0.12), (1.0, 0.1), (1.25, 0.06), (1.4, 0.03))  # angle to park in, distances
# Between heights of the parted law and of the others.  A gate far from a law's tokens gathers all
# of them alike, which matters where they are told apart again.
NARROW, WIDE = (0.2, 0.1, 0.05), (0.8, 0.5, 0.2, 0.1)
PLACES = 400  # tried to park


class Split(NamedTuple):
    """A law parted from the others: `a`, `c`, the time, and how far the others are shifted.

    `place`: where the law is parked, at <place, a> = c.  `low`, `high`: largest height of the law
    on its way there, least height of the others.
    """

    law: int
    a: np.ndarray
    c: float
    time: float
    shift: float
    place: np.ndarray
    low: float
    high: float


class NoSplit(Exception):
    """No direction parts a law from the others."""


def free_direction(laws: Laws, rng: np.random.Generator) -> np.ndarray:
    """The direction (d,) that is farthest from all barycentres, of many."""
    tried = unit(rng.standard_normal((DIRECTIONS, laws.x.shape[2])))
    return tried[(laws.means @ tried.T).max(0).argmin()]


def split(
    spec: FlowModel,
    laws: Laws,
    rest: list[int],
    parked: np.ndarray,
    free: np.ndarray,
    rng: np.random.Generator,
    margins: tuple[float, ...] = NARROW,
) -> Split:
    """The split that parts one law of `rest` from all others at the least cost.

    `parked` (K, d): places of the laws that are done.  Raises NoSplit with the reason.
    """
    for angle, distance in ROOM:
        for margin in margins:
            found = _best(spec, laws, rest, parked, free, rng, (angle, distance, margin))
            if found is not None:
                return found
    means = laws.means[rest]
    apart = min(
        (float(np.linalg.norm(p - q)) for i, p in enumerate(means) for q in means[:i]),
        default=np.inf,
    )
    raise NoSplit(
        f"no direction parts one of the laws {rest} from the others (their barycentres are "
        f"{apart:.2g} apart): their tokens leave no two opposite points free"
    )


def _best(
    spec: FlowModel,
    laws: Laws,
    rest: list[int],
    parked: np.ndarray,
    free: np.ndarray,
    rng: np.random.Generator,
    room: tuple[float, float, float],
) -> Split | None:
    angle, distance, margin = room
    found = [
        s
        for law, a, c in _outermost(laws.means[rest], rest, parked, free, rng, angle, distance)
        if (place := _place(a, c, free, parked, rng, distance)) is not None
        and (s := _followed(spec, laws, law, a, c, place, margin)) is not None
    ]
    return min(found, key=lambda s: s.shift + s.time / 20, default=None)


def _outermost(
    means: np.ndarray,
    rest: list[int],
    parked: np.ndarray,
    free: np.ndarray,
    rng: np.random.Generator,
    angle: float,
    distance: float,
) -> list[tuple[int, np.ndarray, float]]:
    """(law, a, c) with one barycentre below the plane, the widest gaps first, laws mixed."""
    a = unit(rng.standard_normal((DIRECTIONS, len(free))))
    heights = np.sort(means @ a.T, axis=0)
    law = (means @ a.T).argmin(0)
    above = heights[1] if len(rest) > 1 else np.full(len(a), np.inf)
    if len(parked):
        above = np.minimum(above, (parked @ a.T).min(0) - distance / 3)
    above = np.minimum(above, heights[0] + 1)
    gap, c = (above - heights[0]) / 2, (above + heights[0]) / 2
    lean = a @ free  # the circle <p, a> = c reaches so far up towards the free direction
    reach = c * lean + np.sqrt(np.maximum(1 - c * c, 0) * (1 - lean**2))
    gap = np.where((reach > np.cos(angle)) & (np.abs(c) < 0.95), gap, 0.0)
    chosen: list[tuple[int, np.ndarray, float]] = []
    for i in np.argsort(-gap)[: 8 * LOOKED_AT]:
        if gap[i] <= 0 or len(chosen) == LOOKED_AT:
            break
        if sum(rest[law[i]] == k for k, _, _ in chosen) <= LOOKED_AT // 3:
            chosen.append((rest[law[i]], a[i], float(c[i])))
    return chosen


def _place(
    a: np.ndarray,
    c: float,
    free: np.ndarray,
    parked: np.ndarray,
    rng: np.random.Generator,
    distance: float,
) -> np.ndarray | None:
    """A point of <p, a> = c near the free direction, away from all that are parked; or None."""
    around = free + 0.6 * rng.standard_normal((PLACES, len(free)))
    tried = circle(a, c, np.vstack([free, unit(around)]))
    if len(parked):
        apart = np.linalg.norm(tried[:, None] - parked, axis=2).min(1)
        tried = tried[apart >= distance]
    return tried[(tried @ free).argmax()] if len(tried) else None


def _followed(
    spec: FlowModel,
    laws: Laws,
    law: int,
    a: np.ndarray,
    c: float,
    place: np.ndarray,
    margin: float,
) -> Split | None:
    """The split, followed by the shifts of the laws until it has parted them; or None.

    All tokens of a law are shifted alike, by artanh: at the rate of a token at height 0.
    """
    at_height = spec.split_rate
    assert at_height is not None
    heights = laws.x @ a
    z, masses = _cells(heights, laws.masses)
    others = np.arange(len(z)) != law
    u = np.arctanh(np.clip(z, -EDGE, EDGE))
    lowest = np.arctanh(np.clip(heights.min(1), -EDGE, EDGE))[others]
    own = np.arctanh(np.clip(heights[law], -EDGE, EDGE))
    away = laws.x[law] - heights[law][:, None] * a
    sine = np.maximum(np.linalg.norm(away, axis=1), 1e-300)
    turn = (away / sine[:, None]) @ unit(place - c * a)  # cosine of the angle around a

    def rate(shift: np.ndarray) -> np.ndarray:
        return np.asarray(at_height(0.0, (masses * np.tanh(u + shift[:, None])).sum(1), c))

    shift = np.zeros(len(u))
    for number in range(1, int(LONGEST / STEP)):
        shift = _runge_kutta(rate, shift)
        high = float(np.tanh(lowest + shift[others]).min()) if others.any() else 1.0
        if high - c < margin:
            continue
        there = own + shift[law]
        height, across = np.tanh(there), 1 / np.cosh(there)
        cosine = height * c + np.sqrt(1 - c * c) * across * turn
        sine = np.sqrt(np.maximum(1 - cosine**2, 0))
        low = float(highest_of(height, c, cosine, sine).max())
        if high - low >= margin:
            most = float(np.abs(shift[others]).max()) if others.any() else 0.0
            return Split(law, a, c, number * STEP, most, place, low, high)
    return None


def _runge_kutta(rate, x: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
    first = rate(x)
    second = rate(x + STEP / 2 * first)
    third = rate(x + STEP / 2 * second)
    return x + STEP / 6 * (first + 2 * second + 2 * third + rate(x + STEP * third))


def _cells(heights: np.ndarray, masses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heights (N, n) joined to at most CELLS groups of neighbours, with their means and masses."""
    order = np.argsort(heights, axis=1)
    z, w = (np.take_along_axis(x, order, 1) for x in (heights, masses))
    first = np.arange(0, z.shape[1], -(-z.shape[1] // CELLS))
    mass = np.add.reduceat(w, first, axis=1)
    mean = np.add.reduceat(z * w, first, axis=1) / np.where(mass > 0, mass, 1)
    return mean, mass

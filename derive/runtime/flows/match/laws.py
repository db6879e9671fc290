"""Laws on the sphere as tokens with masses: what a user passes, checked.

Laws may have different numbers of tokens: shorter ones are filled up with copies of their first
token that have no mass, and these move as it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from derive.runtime.common.numbers import finite
from derive.runtime.flows.inputs import OFF, ROUNDED, on_sphere

MOST = 16  # laws
SAME = 1e-12  # tokens closer than that are one


class Laws(NamedTuple):
    """N laws: `x` (N, n, d) of unit length, `masses` (N, n) of sum one, `counts` (N,)."""

    x: np.ndarray
    masses: np.ndarray
    counts: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """Barycentres (N, d)."""
        return np.einsum("kn,knd->kd", self.masses, self.x)

    def at(self, x: np.ndarray) -> Laws:
        return self._replace(x=x)

    def own(self, law: int) -> np.ndarray:
        """The tokens (counts, d) of one law, without the filling."""
        return self.x[law, : self.counts[law]]


def laws(name: str, given: Any, masses: Any = None, project: bool = False) -> Laws:
    """Laws from arrays (N, n, d), or a sequence of (n_i, d), with masses likewise (None: equal).

    Raises ValueError for shapes that do not match, tokens off the sphere, masses that are no law.
    """
    clouds = [_cloud(f"{name}[{i}]", x, project) for i, x in enumerate(_listed(name, given))]
    if not clouds:
        raise ValueError(f"{name} holds no laws: pass arrays (n, d), one a law")
    if len(clouds) > MOST:
        raise ValueError(f"{name} holds {len(clouds)} laws; at most {MOST} are matched at once")
    sizes = {x.shape[1] for x in clouds}
    if len(sizes) > 1:
        raise ValueError(f"{name} holds tokens of different dimensions: {sorted(sizes)}")
    (d,) = sizes
    if d < 3:
        raise ValueError(
            f"{name}: tokens live on the circle (d = 2), where they cannot pass each other, so "
            "that no parameters exchange two of them; laws are matched for d of 3 and more"
        )
    weights = [None] * len(clouds) if masses is None else _weights(name, given, masses)
    if len(weights) != len(clouds):
        raise ValueError(f"{name} holds {len(clouds)} laws, their masses {len(weights)}")
    shares = [
        _shares(f"masses of {name}[{i}]", w, len(x))
        for i, (x, w) in enumerate(zip(clouds, weights, strict=True))
    ]
    return _filled(clouds, shares)


def paired(first: Any, last: Any) -> tuple[Any, Any]:
    """Inputs and targets one for one: of two mappings those of one name.  Raises ValueError."""
    if not (isinstance(first, Mapping) and isinstance(last, Mapping)):
        return first, last
    alone = sorted(map(str, first.keys() ^ last.keys()))
    if alone:
        raise ValueError(
            f"inputs and targets go by different names: {', '.join(alone)} has no pair"
        )
    return first, {name: last[name] for name in first}


def _weights(name: str, given: Any, masses: Any) -> list[Any]:
    if not isinstance(given, Mapping) and not isinstance(masses, Mapping):
        return _listed(f"masses of {name}", masses)
    if not (isinstance(given, Mapping) and isinstance(masses, Mapping)):
        raise ValueError(f"{name} and their masses must both go by names, or both by order")
    alone = sorted(map(str, masses.keys() - given.keys()))
    if alone:
        raise ValueError(f"masses of {name} belong to no law: {', '.join(alone)}")
    return [masses.get(key) for key in given]


def _listed(name: str, given: Any) -> list[Any]:
    if isinstance(given, Mapping):
        return list(given.values())
    if isinstance(given, Sequence) or (isinstance(given, np.ndarray) and given.ndim == 3):
        return list(given)
    if np.ndim(given) >= 1:
        return list(np.asarray(given))
    raise ValueError(f"{name} must be arrays (n, d), one a law, got {type(given).__name__}")


def _cloud(name: str, given: Any, project: bool) -> np.ndarray:
    rounding = OFF.get(getattr(given, "dtype", None), ROUNDED)
    x = finite(name, given)
    if x.ndim == 1:
        x = x[None]  # a Dirac
    if x.ndim != 2 or not x.size:
        raise ValueError(f"{name} must have shape (n, d), or (d,) for one point, got {x.shape}")
    return on_sphere(name, x, project, rounding)


def _shares(name: str, given: Any, n: int) -> np.ndarray:
    if given is None:
        return np.full(n, 1 / n)
    found = finite(name, given)
    if found.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), got {found.shape}")
    if np.min(found) < 0 or found.sum() <= 0:
        raise ValueError(f"{name} must be non-negative with a positive sum")
    return found / found.sum()


def _filled(clouds: list[np.ndarray], shares: list[np.ndarray]) -> Laws:
    clouds, shares = zip(
        *((x[w > 0], w[w > 0]) for x, w in zip(clouds, shares, strict=True)), strict=True
    )
    n = max(map(len, clouds))
    x = np.stack([np.vstack([c, np.repeat(c[:1], n - len(c), axis=0)]) for c in clouds])
    masses = np.stack([np.append(w, np.zeros(n - len(w))) for w in shares])
    return Laws(x, masses, np.array([len(c) for c in clouds]))


def joined(given: Laws, within: float) -> Laws:
    """The laws with points that are so close made one, of their masses' sum."""
    clouds, shares = [], []
    for k, count in enumerate(given.counts):
        x, mass = given.own(k), given.masses[k, :count]
        pairs = cKDTree(x).query_pairs(within, output_type="ndarray")
        links = coo_array((np.ones(len(pairs)), pairs.T), shape=(count, count))
        group = connected_components(links, directed=False)[1]
        clouds.append(x[np.unique(group, return_index=True)[1]])
        shares.append(np.bincount(group, mass))
    return _filled(clouds, shares)


def alike(one: Laws, i: int, other: Laws, j: int) -> bool:
    """Are two laws the same points with the same masses?"""
    first, second = _sorted(one, i), _sorted(other, j)
    return first.shape == second.shape and bool(np.abs(first - second).max() < SAME)


def _sorted(given: Laws, law: int) -> np.ndarray:
    """Points and masses (m, d + 1) in order, points that are one joined."""
    rows = np.round(given.own(law) / SAME) * SAME
    places, which = np.unique(rows, axis=0, return_inverse=True)
    mass = np.bincount(which.ravel(), given.masses[law, : given.counts[law]])
    return np.column_stack([places, mass])

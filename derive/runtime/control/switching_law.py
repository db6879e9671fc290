"""Controls whose law jumps: what minimises H over a polytope or a ball, smoothed and by phases.

Where the cost has no curvature in a control, the minimiser of H is a vertex of what is admitted
(an end of a box, zero, a vertex of the l1 ball) or a direction at full length (the Euclidean
ball).  With `eps` times the entropy of the weights of vertices added to H, the minimiser is the
mean of the vertices under softmax(-H / eps): smooth in state and costate, and the law itself as
eps -> 0.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.control.coordinates import Flat
from derive.runtime.control.inputs import number_of


class Group(NamedTuple):
    """`entries` of the control under one bound; `kind` "box" (one entry), "l1" or "l2"."""

    kind: str
    entries: tuple[int, ...]
    price: Any
    low: Any
    high: Any
    priced: bool


@lru_cache(maxsize=64)
def groups_of(flat: Flat) -> tuple[Group, ...]:
    """All groups of a problem, the entries of boxes one by one."""
    zeros = flat.control(np.zeros(flat.m))
    where = flat.spec.control(
        *np.split(np.arange(flat.m), np.cumsum([np.size(part) for part in zeros])[:-1])
    )
    out = []
    for names, kind, price, low, high in flat.spec.switching:
        index = tuple(int(i) for name in names for i in getattr(where, name))
        priced = isinstance(price, str) or callable(price) or price != 0
        parts = [(i,) for i in index] if kind == "box" else [index]
        out += [Group(kind, part, price, low, high, priced) for part in parts]
    return tuple(out)


def vertices(group: Group, params: Any) -> tuple[Any, Any]:
    """Vertices (k, entries) of a box or l1 ball, zero last where its cost has a kink there; and
    what each costs (k,)."""
    low, high = (number_of(v, params) for v in (group.low, group.high))
    price = number_of(group.price, params)
    if group.kind == "box":
        ends = [low, high] + ([0.0 * high] if _rests_inside(group) else [])
        points = jnp.stack([jnp.asarray(e, float) for e in ends])[:, None]
    else:
        unit = np.eye(len(group.entries))
        rows = [unit, -unit] + ([0 * unit[:1]] if group.priced else [])
        points = high * jnp.concatenate([jnp.asarray(r) for r in rows])
    return points, price * jnp.sum(jnp.abs(points), 1)


def _rests_inside(group: Group) -> bool:
    """Whether zero is a choice of its own beside the ends of a box."""
    ends = [v for v in (group.low, group.high) if not isinstance(v, str) and not callable(v)]
    return group.priced and all(v != 0 for v in ends)


def count_of(group: Group) -> int:
    """How many choices a group has: vertices, or rest and full length."""
    if group.kind == "l2":
        return 1 + group.priced
    if group.kind == "box":
        return 2 + _rests_inside(group)
    return 2 * len(group.entries) + group.priced


def is_polytope(group: Group) -> bool:
    return group.kind != "l2"


def force(flat: Flat, z: Any, q: Any, params: Any) -> Any:
    """The smooth part of H_u without control: what the switching controls are weighed by."""
    return flat.stationarity(z, q, jnp.zeros(flat.m, z.dtype), params)


def energies(flat: Flat, group: Group, s: Any, params: Any) -> Any:
    """What each choice of a group adds to H, at the force s (m,): vertices, or (rest, full)."""
    own = s[np.array(group.entries)]
    if is_polytope(group):
        points, costs = vertices(group, params)
        return points @ own + costs
    radius, price = number_of(group.high, params), number_of(group.price, params)
    full = radius * (price - jnp.sqrt(jnp.sum(own**2)))
    return jnp.stack([jnp.zeros_like(full), full]) if group.priced else full[None]


def smoothed_law(flat: Flat, z: Any, q: Any, v0: Any, params: Any, eps: Any) -> Any:
    """The control of the smoothed problem; controls with curvature keep their own law."""
    v, s = flat.law(z, q, v0, params), force(flat, z, q, params)
    for group in groups_of(flat):
        index = np.array(group.entries)
        own = s[index]
        if is_polytope(group):
            points, _ = vertices(group, params)
            v = v.at[index].set(jax.nn.softmax(-energies(flat, group, s, params) / eps) @ points)
            continue
        radius, price = number_of(group.high, params), number_of(group.price, params)
        size = jnp.sqrt(jnp.sum(own**2) + (eps / radius) ** 2)
        share = jax.nn.sigmoid((size - price) * radius / eps) if group.priced else 1.0
        v = v.at[index].set(-radius * share * own / size)
    return v


@lru_cache(maxsize=16)
def smoothed(flat: Flat) -> Flat:
    """The problem with the smoothed law; its parameters are the pair (params, eps)."""

    def shifted(function: Any) -> Any:
        return lambda *args: function(*args[:-1], args[-1][0])

    discount = flat.spec.discount
    spec = dataclasses.replace(
        flat.spec,
        bounds={},
        sparse=None,
        switching=(),
        discount=None if discount is None else lambda pair: discount(pair[0]),
    )
    names: tuple[str, ...] = (
        "rate",
        "costate_rate",
        "stationarity",
        "free_law",
        "running",
        "hamiltonian",
    )
    names += ("terminal", "terminal_rate")
    return flat._replace(
        spec=spec,
        law=lambda z, q, v0, pair: smoothed_law(flat, z, q, v0, *pair),
        **{name: shifted(getattr(flat, name)) for name in names},
    )


def excess(flat: Flat, z: Any, q: Any, v: Any, params: Any) -> tuple[Any, Any]:
    """By how much the switching controls of v exceed the least H, and the size to judge it by."""
    s = force(flat, z, q, params)
    worst, scale = jnp.zeros((), z.dtype), jnp.zeros((), z.dtype)
    for group in groups_of(flat):
        index = np.array(group.entries)
        price = number_of(group.price, params)
        own = v[index]
        size = jnp.sqrt(jnp.sum(own**2)) if group.kind == "l2" else jnp.sum(jnp.abs(own))
        here = own @ s[index] + price * size
        choices = energies(flat, group, s, params)
        worst = jnp.maximum(worst, here - jnp.min(choices))
        scale = jnp.maximum(scale, jnp.max(jnp.abs(choices)))
    return worst, scale


def outside(flat: Flat, v: Any, params: Any) -> Any:
    """How far v (m,) leaves the bounds of its switching controls, relative to them."""
    worst = jnp.zeros((), v.dtype)
    for group in groups_of(flat):
        own = v[np.array(group.entries)]
        low, high = (number_of(b, params) for b in (group.low, group.high))
        if group.kind == "box":
            off = jnp.max(jnp.maximum(own - high, low - own))
            off = off / (high - low)
        else:
            size = jnp.sqrt(jnp.sum(own**2)) if group.kind == "l2" else jnp.sum(jnp.abs(own))
            off = size / high - 1
        worst = jnp.maximum(worst, off)
    return worst

"""What a control does during one phase: values, directions at full length, and singular parts.

During a phase each group of controls stays at one vertex, or acts along its force at full length,
or slides within a face of what is admitted while the face's switching functions s vanish: there
s'' = 0 gives the control (a singular arc of order one).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common import small_matrices
from derive.runtime.control.coordinates import Flat
from derive.runtime.control.inputs import number_of
from derive.runtime.control.switching_law import Group, force, groups_of, is_polytope, vertices


class Mode(NamedTuple):
    """v = value + radial * direction of the force + smooth * (law) + w E, with the switching
    functions s = E force + cost (k,) zero where `live`; rows of E with `ray` point against the
    force of their group."""

    value: Any
    radial: Any
    smooth: Any
    E: Any
    ray: Any
    cost: Any
    live: Any


Choice = tuple[tuple[int, ...], ...]  # per group the choices in play: one, or those of a face


def mode_of(flat: Flat, choice: Choice, params: Any, width: int) -> Mode:
    """The mode of one choice for each group; `width`: rows kept for singular directions."""
    value, radial, smooth = np.zeros(flat.m), np.zeros(flat.m), np.ones(flat.m)
    E, ray = np.zeros((width, flat.m)), np.zeros((width, flat.m))
    cost, live = np.zeros(width), np.zeros(width, bool)
    row = 0
    for group, picks in zip(groups_of(flat), choice, strict=True):
        index = np.array(group.entries)
        smooth[index] = 0.0
        if is_polytope(group):
            points, costs = (np.asarray(a) for a in vertices(group, params))
            value[index] = points[picks[0]]
            for other in picks[1:]:
                E[row, index] = points[other] - points[picks[0]]
                cost[row], live[row] = costs[other] - costs[picks[0]], True
                row += 1
            continue
        full = picks[-1] == _full(group)
        if len(picks) == 1 and full:
            radial[index] = float(number_of(group.high, params))
        elif len(picks) > 1:
            ray[row, index], cost[row], live[row] = 1.0, float(number_of(group.price, params)), True
            row += 1
    return Mode(value, radial, smooth, E, ray, cost, live)


def _full(group: Group) -> int:
    return 1 if group.priced else 0


def directions(flat: Flat, s: Any) -> Any:
    """The force (m,) with each Euclidean group scaled to length one, the rest zero."""
    out = jnp.zeros_like(s)
    for group in groups_of(flat):
        if not is_polytope(group):
            index = np.array(group.entries)
            own = s[index]
            square = jnp.sum(own**2)
            safe = jnp.where(square > 0, square, 1.0)
            out = out.at[index].set(own / jnp.sqrt(safe))
    return out


def faces(flat: Flat, s: Any, mode: Mode) -> Any:
    """The directions of singular parts (k, m) at the force s."""
    return mode.E - mode.ray * directions(flat, s)


def regular(flat: Flat, z: Any, q: Any, mode: Mode, params: Any) -> Any:
    """The control of a mode without its singular part."""
    s = force(flat, z, q, params)
    v = mode.value - mode.radial * directions(flat, s)
    if len(groups_of(flat)) and flat.spec.control_law is not None:
        v = v + mode.smooth * flat.law(z, q, jnp.zeros_like(v), params)
    return v


def switching(flat: Flat, z: Any, q: Any, mode: Mode, params: Any) -> Any:
    """The switching functions of a mode's face (k,)."""
    s = force(flat, z, q, params)
    return faces(flat, s, mode) @ s + mode.cost


def field(flat: Flat, y: Any, v: Any, params: Any) -> Any:
    z, q = y[: flat.n], y[flat.n :]
    return jnp.concatenate([flat.rate(z, v, params), flat.costate_rate(z, q, v, params)])


def slopes(flat: Flat, y: Any, w: Any, mode: Mode, params: Any) -> tuple[Any, Any]:
    """First and second time derivatives of the switching functions, at weights w (k,)."""
    n = flat.n

    def moving(y: Any) -> Any:
        z, q = y[:n], y[n:]
        s = force(flat, z, q, params)
        return field(flat, y, regular(flat, z, q, mode, params) + w @ faces(flat, s, mode), params)

    def first(y: Any) -> Any:
        def at(y: Any) -> Any:
            return switching(flat, y[:n], y[n:], mode, params)

        return jax.jvp(at, (y,), (moving(y),))[1]

    return first(y), jax.jvp(first, (y,), (moving(y),))[1]


def singular(flat: Flat, y: Any, mode: Mode, params: Any) -> tuple[Any, Any, Any]:
    """(w, curvature, bracket): the weights with s'' = 0, d s''/dw (k, k) and d s'/dw (k, k)."""
    zero = jnp.zeros(mode.cost.shape, y.dtype)
    _, rest = slopes(flat, y, zero, mode, params)
    bracket, curve = jax.jacfwd(lambda w: slopes(flat, y, w, mode, params))(zero)
    dead = ~mode.live
    matrix = jnp.where(dead[:, None] | dead, 0.0, curve) + jnp.diag(dead.astype(y.dtype))
    w = -small_matrices.solve(matrix, jnp.where(dead, 0.0, rest)[:, None])[:, 0]
    return w, jnp.where(dead[:, None] | dead, 0.0, curve), bracket


@lru_cache(maxsize=64)
def dynamics(flat: Flat, slides: bool) -> Any:
    """(y, mode, params) -> rate of y and the control, of a mode; `slides`: whether any has a
    singular part.  Traced once, however often an integrator calls it."""

    @jax.jit
    def run(y: Any, mode: Mode, params: Any) -> tuple[Any, Any]:
        z, q = y[: flat.n], y[flat.n :]
        v = regular(flat, z, q, mode, params)
        if slides:
            w, _, _ = singular(flat, y, mode, params)
            v = v + w @ faces(flat, force(flat, z, q, params), mode)
        return field(flat, y, v, params), v

    return run

"""Extremals as a pure function of start and parameters, for JAX to transform.

A fixed mesh, Newton from a given guess, no check of values: what `solve` does around it (search of
a turnpike, mesh, continuation, second variation) is left to the caller, so that jit, vmap and grad
go through.  Derivatives are those of the implicit rule, see `boundary_value.solve`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.pure import whole
from derive.runtime.common.records import by_name
from derive.runtime.control import between_nodes
from derive.runtime.control import boundary_value as bvp
from derive.runtime.control.coordinates import Flat, bind_sizes, flatten
from derive.runtime.control.extremal_system import Theta, controls, cost_of, problem
from derive.runtime.control.results import Trajectory
from derive.runtime.control.specification import ControlModel

TOLERANCE = 1e-8  # of Newton's last step; the error is of the order of its square
SETTLED = 1e-9  # of the equations left over, against states, costates and their rates


def extremal(
    spec: ControlModel,
    x0: Any,
    params: Any,
    *,
    T: Any,
    intervals: int = 64,
    near: Any = None,
    x_end: Any = None,
) -> Trajectory:
    """The extremal from x0 over [0, T] on a fixed mesh; see a generated module's `extremal`."""
    _require_smooth(spec)
    if jnp.asarray(0.0).dtype != jnp.float64:
        raise ValueError(
            "an extremal takes float64, in float32 Newton's method does not settle: call "
            'jax.config.update("jax_enable_x64", True) first'
        )
    if spec.fixed_end == (x_end is None):
        raise ValueError(
            "this problem has a fixed end: pass x_end"
            if spec.fixed_end
            else "this problem has a free end: x_end cannot be prescribed"
        )
    values = _record(spec.params, params, "Params")
    sizes: dict[str, tuple[Any, ...]] = {}
    bind_sizes(spec.param_shapes, values._asdict(), sizes)
    state = _state(spec, x0, sizes)
    flat = flatten(spec, {name: int(size) for name, (size, _) in sizes.items()})
    z0 = flat.pack_x(state)
    zT = z0 if x_end is None else flat.pack_x(_state(spec, x_end, sizes))
    nodes, y, v = _guess(flat, z0, jnp.asarray(T, float), whole(intervals), near)
    return solver(flat)(Theta(values, z0, zT, v), nodes, y)


def _require_smooth(spec: ControlModel) -> None:
    if spec.free_time:
        raise ValueError("the final time is free, and a fixed mesh has none of its own: use solve")
    if spec.sparse or spec.bounds:
        what = "norms in the cost" if spec.sparse else "bounds"
        raise ValueError(
            f"{what} of the control make its law piecewise smooth, and a fixed mesh has no nodes "
            "at the switching times, which move with start and parameters: use solve"
        )


def _record(kind: Any, given: Any, what: str) -> Any:
    found = by_name(kind, given)
    if not isinstance(found, tuple) or len(found) != len(kind._fields):
        raise ValueError(f"pass {what}({', '.join(f'{n}=...' for n in kind._fields)})")
    return kind(*(jnp.asarray(value, float) for value in found))


def _state(spec: ControlModel, x: Any, sizes: dict[str, tuple[Any, ...]]) -> Any:
    alone = len(spec.state._fields) == 1 and not isinstance(x, (tuple, dict))
    state = _record(spec.state, (x,) if alone else x, "State")
    bind_sizes(spec.state_shapes, state._asdict(), sizes)
    return state


def _guess(flat: Flat, z0: Any, T: Any, count: int, near: Any) -> tuple[Any, Any, Any]:
    """Nodes, values at them and a control to start from."""
    share = jnp.linspace(0.0, 1.0, count + 1)
    nodes = T * (share - 0.9 * jnp.sin(2 * np.pi * share) / (2 * np.pi))  # finer at both ends
    if near is None:
        start = jnp.concatenate([z0, jnp.zeros_like(z0)])
        return nodes, jnp.tile(start, (count + 1, 1)), jnp.zeros(flat.m)
    costate = flat.spec.state(*near.p)
    if not hasattr(near, "times"):
        start = jnp.concatenate([flat.pack_x(near.x), flat.pack_x(costate)])
        return nodes, jnp.tile(start, (count + 1, 1)), flat.pack_u(near.u)
    pack = jax.vmap(flat.pack_x)
    middle = jax.tree.map(lambda a: jnp.asarray(a)[len(a) // 2], near.u)
    times = jnp.asarray(near.times)
    y = jnp.concatenate([pack(near.x), pack(costate)], 1)
    return times * (T / times[-1]), y, flat.pack_u(middle)


@lru_cache(maxsize=64)
def solver(flat: Flat) -> Callable[..., Trajectory]:
    """(theta, nodes, guess) -> the trajectory; traced once, however often it is called."""
    system, n = problem(flat), flat.n

    @jax.jit
    def solved(theta: Theta, nodes: Any, y: Any) -> Trajectory:
        found = bvp.solve(system, y, nodes, theta, tolerance=TOLERANCE)
        rates = bvp.apply(system.field, found.y, theta)
        size = 1 + jnp.max(jnp.abs(found.y)) + jnp.max(jnp.abs(rates))
        settled = (found.residual <= SETTLED * size) & jnp.isfinite(size)
        y = jnp.where(settled, found.y, jnp.nan)
        return Trajectory(
            nodes,
            jax.vmap(flat.point)(y[:, :n]),
            jax.vmap(flat.costate)(y[:, n:]),
            jax.vmap(flat.control)(controls(flat, theta, y)),
            cost_of(flat, theta, nodes, y),
            found.residual,
            jnp.max(between_nodes.defect(system, y, nodes, theta)),
            settled,
        )

    return solved

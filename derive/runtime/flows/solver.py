"""How systems of tokens are advanced: a pair of order eight, each system with its own steps.

On the sphere every stage is evaluated at tokens of unit length and every step ends with them: the
exact solution stays there, so what is taken off is of the order of the step's error, and the order
is kept.  The state is (x,), x (n, d, lanes).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from derive.runtime.common import adaptive
from derive.runtime.common.adaptive import Attempt, Equation, Flight, Scheme, State, add, total
from derive.runtime.common.dormand_prince_8 import DORMAND_PRINCE_8, THIRD, ratio_of
from derive.runtime.common.lanes import over_lanes
from derive.runtime.flows.specification import FlowModel

MET = 256  # tokens of a system whose pairs are looked at before each step
DENSE = 128  # tokens whose pairs are evaluated with the lanes last; more: by vmap


def unit(x: jax.Array, axis: int) -> jax.Array:
    return x / jnp.sqrt(jnp.sum(x * x, axis=axis, keepdims=True))


def over_systems(spec: FlowModel, f: Callable[..., Any]) -> Callable[..., Any]:
    """f(x, params) of one system as a function of x (n, d, lanes) and the pair of parameters."""

    def one(given: Any, shared: Any) -> Any:
        x, mine = given
        return f(x, spec.params(**mine, **shared))

    def g(x: jax.Array, params: Any) -> Any:
        per_lane, shared = params
        if x.shape[-1] == 1:  # what is large stands alone
            alone = jax.tree.map(lambda y: y[..., 0], (x, per_lane))
            return one(alone, shared)[..., None]
        if x.shape[0] <= DENSE:
            return over_lanes(one)((x, per_lane), shared)
        return jax.vmap(one, in_axes=(-1, None), out_axes=-1)((x, per_lane), shared)

    return g


@functools.lru_cache(maxsize=64)
def equation(spec: FlowModel) -> Equation:
    velocity = over_systems(spec, spec.velocity)

    def on(x: jax.Array) -> jax.Array:
        # without the barrier the compiler computes a length again for every pair that uses it
        return jax.lax.optimization_barrier(unit(x, 1)) if spec.sphere else x

    def size(state: State, slope: State) -> tuple[jax.Array, jax.Array]:
        q = total(state[0] ** 2)
        return q, jnp.zeros_like(q) if spec.sphere else 2 * total(state[0] * slope[0])

    return Equation(
        begin=lambda state: state,
        rate=lambda local, base, params: (velocity(on(local[0]), params),),
        end=lambda local, base: (on(local[0]),),
        margin=lambda state, params: jnp.ones_like(state[0][0, 0]),
        size=size,
    )


def _attempt(spec: FlowModel, eq: Equation) -> Callable[..., Attempt]:
    """One step; its error by both embedded formulas."""
    meet = not spec.ordered

    def attempt(base: State, slope: State, h: Any, params: Any, allowed: Any) -> Attempt:
        together = meet and len(base[0]) <= MET
        x, leaders = met(base[0], slope[0], allowed) if together else (base[0], 0)

        def led(v: jax.Array) -> State:
            return (jnp.take_along_axis(v, leaders, axis=0) if together else v,)

        def rate(state: State) -> State:
            return led(eq.rate(state, base, params)[0])

        slopes = adaptive.stages(DORMAND_PRINCE_8, rate, (x,), led(slope[0]), h)
        zero = (jnp.zeros_like(x),)
        fifth, third = (add(zero, h, w, slopes) for w in (DORMAND_PRINCE_8.e, THIRD))
        new = eq.end(add((x,), h, DORMAND_PRINCE_8.b, slopes), base)
        return Attempt(new, (*fifth, *third), (), jnp.zeros_like(h))

    return attempt


def met(x: jax.Array, v: jax.Array, allowed: Any) -> tuple[jax.Array, jax.Array]:
    """Tokens (n, d, lanes), those that have met in one point, and the leader (n, 1, lanes) of each.

    Met have those that are closer than the allowed error of a step and do not part; they move
    with the velocity of their leader, the first of them.  Apart they would keep the explicit
    formula, for as long as their cluster stands, from steps longer than the time in which they
    approach each other.
    """
    itself = jnp.arange(len(x))[:, None, None]
    alone = jnp.broadcast_to(itself, (len(x), 1, x.shape[-1]))
    length = jnp.sqrt((x**2).sum(axis=1))

    def look(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        dx, dv = (y[:, None] - y[None, :] for y in (x, v))
        near = (dx**2).sum(axis=2) < ((allowed * length) ** 2)[:, None]
        # each stands with itself, one at the origin too
        near = (near & ((dx * dv).sum(axis=2) <= 0)) | (itself == itself[:, 0])
        share = near / near.sum(axis=1, keepdims=True, dtype=x.dtype)
        # the middle of x, as a mean of differences: tokens that are one already keep their bits
        middle = x - (share[:, :, None] * dx).sum(axis=1)
        return middle, jnp.argmax(near, axis=1)[:, None].astype(alone.dtype)

    # tokens that are near are near along a line, which costs a part of what their distances do
    line = jnp.cos(1.0 + jnp.arange(x.shape[1], dtype=x.dtype))
    along = jnp.tensordot(line, x, axes=(0, 1))
    gap = jnp.abs(along[:, None] - along[None, :])
    within = gap < (allowed * length * jnp.sqrt(line @ line))[:, None]
    some = jnp.any(jnp.sum(within, axis=(0, 1)) > len(x))
    return jax.lax.cond(some, look, lambda x: (x, alone), x)


def _ratio(state: State, trial: Attempt, atol: Any, rtol: Any) -> jax.Array:
    """Error of a step over what is allowed to a token's length, root mean square of the entries."""
    length = jnp.sqrt(jnp.maximum(*((x * x).sum(axis=1) for x in (state[0], trial.state[0]))))
    allowed = atol + rtol * length
    fifth, third = (jnp.mean((e * e).mean(axis=1) / allowed**2, axis=0) for e in trial.error)
    return ratio_of(fifth, third)


@functools.lru_cache(maxsize=64)
def advancing(spec: FlowModel) -> Callable[..., tuple[Flight, jax.Array]]:
    """Jitted: advance lanes to `target`, until at most `leave` of them are still under way."""
    eq = equation(spec)
    order = DORMAND_PRINCE_8.order
    # of an order so high, a memory of the last error keeps steps far below what is allowed
    scheme = Scheme(
        eq, _attempt(spec, eq), order, False, False, False, ratio=_ratio, gains=(1.0, 0.0)
    )
    return jax.jit(adaptive.advancing(scheme))


@functools.lru_cache(maxsize=64)
def starting(spec: FlowModel) -> Callable[..., tuple[State, Any]]:
    """Jitted: nothing to keep, and a first step that changes nothing by more than one per cent."""
    eq = equation(spec)
    slope = lambda state, params: eq.rate(state, state, params)  # noqa: E731
    return jax.jit(adaptive.starting(eq.begin, slope, False))


@functools.lru_cache(maxsize=64)
def energies(spec: FlowModel) -> Callable[..., jax.Array]:
    """Jitted: energies (lanes,) of x (n, d, lanes)."""
    assert spec.energy is not None
    return jax.jit(over_systems(spec, spec.energy))


@functools.lru_cache(maxsize=64)
def probing(spec: FlowModel) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Jitted: (lanes,), how fast velocities change with the tokens, in their lengths a time; and
    the rate at which tokens that stand in one point would part, were they moved a little."""
    eq = equation(spec)

    def probe(x: jax.Array, params: Any) -> tuple[jax.Array, jax.Array]:
        n, d = x.shape[:2]
        little = jnp.finfo(x.dtype).eps ** 0.5
        pattern = jnp.cos(jnp.arange(1.0, 1.0 + n * d, dtype=x.dtype) ** 2).reshape(n, d, 1)
        away = little * pattern * jnp.sqrt((x**2).sum(axis=1, keepdims=True))
        there, here = (eq.rate((y,), (y,), params)[0] for y in (x + away, x))
        change = there - here
        rough = jnp.sqrt((change**2).sum(axis=1)).max(axis=0) / little
        if spec.ordered or n > MET:
            return rough, jnp.full_like(rough, -jnp.inf)
        one = ((x[:, None] - x[None, :]) ** 2).sum(axis=2) == 0
        dx, dv = (y[:, None] - y[None, :] for y in (away, change))
        square = (dx**2).sum(axis=2)
        part = (dx * dv).sum(axis=2) / jnp.where(square > 0, square, 1)
        return rough, jnp.where(one & (square > 0), part, -jnp.inf).max(axis=(0, 1))

    return jax.jit(probe)

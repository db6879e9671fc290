"""Steps of clusters on the clock of what moves fastest, from e^40 units of time down to one.

The state is (D, r), D_ab = |x_a - x_b|^2 / 2 and r_a = |x_a|^2, so that two clusters that meet keep
the digits of their distance; the last axis has length one (`adaptive` has lanes there).  A step is
as long as the state allows, whatever the time: where clusters stand still for e^40 units and then
meet within ten, the time is a sum that the steps do not look at.  A cluster that was taken into
another is not alive: it has no mass and stands still.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from derive.runtime.common import adaptive
from derive.runtime.common.adaptive import State, add
from derive.runtime.common.dormand_prince_8 import DORMAND_PRINCE_8, THIRD, ratio_of
from derive.runtime.flows.specification import FlowModel

CHUNK = 128  # steps between two looks of the host
NOISE = 32  # roundings of a squared length that count as no error
STILL = 1e-290  # relative rate of what does not move


class Group(NamedTuple):
    """The clusters of one leg, between two merges; `params` is a record."""

    alive: Any  # (K,)
    masses: Any  # (K,), 0 where not alive
    params: Any


class Control(NamedTuple):
    rtol: Any
    merged: Any  # a pair is one below that D, relative to its squared lengths
    target: Any  # time at which to stop
    most: Any  # trial steps at most


class Leg(NamedTuple):
    """Where steps stand: `trials` counts all of them, `kept` those in `times` and `states`.

    `crossing`: the next step, of length `h`, would bring a pair below `merged`.  `still`: nothing
    moves.  `lost`: rates are no numbers.
    """

    state: State
    t: Any
    h: Any
    trials: Any
    kept: Any
    times: Any
    states: State
    crossing: Any
    still: Any
    lost: Any


def gram(state: Any) -> Any:
    """Inner products (K, K) of (D, r), a last axis of length one or none."""
    D, r = state
    return (r[:, None] + r[None, :]) / 2 - D


def _pairs(alive: Any) -> Any:
    return (alive[:, None] & alive[None, :] & ~jnp.eye(len(alive), dtype=bool))[..., None]


def _rate(spec: FlowModel, group: Group) -> Callable[[State], State]:
    assert spec.gram_rate is not None
    gram_rate = spec.gram_rate
    pairs = _pairs(group.alive)

    def rate(state: State) -> State:
        change = gram_rate(gram(state)[..., 0], group.masses, group.params)[..., None]
        own = jnp.diagonal(change, axis1=0, axis2=1).T
        if spec.sphere:
            own = jnp.zeros_like(own)
        apart = (own[:, None] + own[None, :]) / 2 - change
        return jnp.where(pairs, apart, 0), jnp.where(group.alive[:, None], own, 0)

    return rate


def _speed(state: State, slope: State, pairs: Any) -> Any:
    """The largest relative rate."""
    D, r = state
    apart = jnp.abs(slope[0]) / jnp.where(pairs, jnp.maximum(D, jnp.finfo(D.dtype).tiny), 1)
    return jnp.maximum(apart.max(), (jnp.abs(slope[1]) / jnp.where(r > 0, r, 1)).max())


def _step(rate: Any, state: State, slope: State, h: Any) -> tuple[State, State, State]:
    """The new state and the two embedded errors."""
    lane = jnp.reshape(h, (1,))
    slopes = adaptive.stages(DORMAND_PRINCE_8, rate, state, slope, lane, unrolled=0)
    zero = jax.tree.map(jnp.zeros_like, state)
    fifth, third = (add(zero, lane, w, slopes) for w in (DORMAND_PRINCE_8.e, THIRD))
    return add(state, lane, DORMAND_PRINCE_8.b, slopes), fifth, third


def _ratio(state: State, fifth: State, third: State, rtol: Any) -> Any:
    """The largest error over what is allowed, relative to every pair's own distance."""
    floor = NOISE * float(jnp.finfo(state[0].dtype).eps) * state[1].max()

    def square(error: State) -> Any:  # a pair that is none has no error
        parts = (e / (rtol * jnp.abs(y) + floor) for e, y in zip(error, state, strict=True))
        return jnp.maximum(*(jnp.max(part**2) for part in parts))

    return ratio_of(square(fifth), square(third))


def closest(state: State, pairs: Any) -> Any:
    """The least D of a pair, relative to its mean squared length."""
    D, r = state
    size = (r[:, None] + r[None, :]) / 2
    return jnp.min(jnp.where(pairs, D / jnp.where(size > 0, size, 1), jnp.inf))


@functools.lru_cache(maxsize=64)
def leaping(spec: FlowModel) -> Callable[..., Any]:
    """Jitted: one step of length h from a state, and the least distance after it."""

    def leap(state: State, group: Group, h: Any) -> tuple[State, Any]:
        rate = _rate(spec, group)
        new, _, _ = _step(rate, state, rate(state), h)
        return new, closest(new, _pairs(group.alive))

    return jax.jit(leap)


@functools.lru_cache(maxsize=64)
def stepping(spec: FlowModel) -> Callable[..., Leg]:
    """Jitted: up to `CHUNK` steps, to the target or short of the first pair that meets."""

    def advance(state: State, t: Any, h: Any, group: Group, control: Control) -> Leg:
        zero = jnp.zeros((), jnp.int32)
        no = jnp.zeros((), bool)
        states = jax.tree.map(lambda y: jnp.zeros((CHUNK, *y.shape), y.dtype), state)
        leg = Leg(state, t, h, zero, zero, jnp.zeros(CHUNK, t.dtype), states, no, no, no)

        def go(leg: Leg) -> Any:
            ended = leg.crossing | leg.still | leg.lost | (leg.t >= control.target)
            return ~ended & (leg.kept < CHUNK) & (leg.trials < control.most)

        return jax.lax.while_loop(go, lambda leg: _turn(spec, leg, group, control), leg)

    return jax.jit(advance)


def _turn(spec: FlowModel, leg: Leg, group: Group, control: Control) -> Leg:
    """One trial step."""
    rate, pairs = _rate(spec, group), _pairs(group.alive)
    slope = rate(leg.state)
    speed = _speed(leg.state, slope, pairs)
    still, lost = speed < STILL, ~jnp.isfinite(speed)
    h = jnp.where(leg.h > 0, leg.h, 0.01 / jnp.maximum(speed, STILL))
    left = control.target - leg.t
    last = h * (1 + 1e-6) >= left
    step = jnp.where(still | lost, 0, jnp.where(last, left, h))
    new, fifth, third = _step(rate, leg.state, slope, step)
    error = _ratio(leg.state, fifth, third, control.rtol)
    small = jnp.maximum(error, 1e-10)
    change = jnp.clip(0.9 * small ** (-1 / 8), jnp.where(error <= 1, 0.3, 0.1), 6.0)
    change = jnp.where(jnp.isfinite(error), change, 0.2)
    good = (error <= 1) & ~still & ~lost
    crossing = good & (closest(new, pairs) < control.merged)
    accept = good & ~crossing
    t = jnp.where(last, control.target, leg.t + step)
    put = lambda kept, y: kept.at[leg.kept].set(jnp.where(accept, y, kept[leg.kept]))  # noqa: E731
    moved = jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, leg.state)
    longer = jnp.where(accept & last, jnp.maximum(h, step * change), step * change)
    return Leg(
        moved,
        jnp.where(accept, t, leg.t),
        jnp.where(crossing, step, jnp.where(still | lost, h, longer)),
        leg.trials + 1,
        leg.kept + accept,
        put(leg.times, t),
        jax.tree.map(put, leg.states, new),
        crossing,
        still,
        lost,
    )


@functools.lru_cache(maxsize=64)
def energies(spec: FlowModel) -> Callable[..., jax.Array]:
    """Jitted: energies (saves,) of inner products and masses."""
    assert spec.gram_energy is not None
    return jax.jit(jax.vmap(spec.gram_energy, in_axes=(0, 0, None)))

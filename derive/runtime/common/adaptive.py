"""Adaptive integration of many systems at once, each with its own time and step.

A block of systems (lanes) advances in one `while_loop`; every lane has its own step size, and a
lane that is done stands still.  When few lanes of a block are left under way the block is handed
back to the host (`lane_blocks`), which packs the stragglers of all blocks into new ones: a lane
that needs many steps, as near a blow-up, does not hold up the others.

A blow-up at t* shows as q / q' -> 0 for a size q of the state.  The integration follows it until
q / q' < SHARP t and reports t* = t + q / q', exact for q ~ 1 / (t* - t) and within SHARP t for any
power.  Growth that is only exponential never meets that test.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.tableaus import Tableau

State = tuple[jax.Array, ...]

RUNNING, BLOW_UP, MARGIN, OVERFLOW, STEP_LIMIT, STIFF = range(6)
SHARP = 1e-9  # of float64; float32 cannot resolve it and stops at 64 roundings
STIFF_SIGNS = 15  # successive-step signs of stiffness after which a lane is handed on
STIFF_STEPS = 500  # ... if so many steps of the present size are left
LONG = 400  # equations of a rate that is compiled once, not once a stage


class Equation(NamedTuple):
    """Functions of arrays with lanes last; `params` is the pair (per lane, shared) of dicts.

    `begin(state)`: what a step integrates.  `rate(local, base, params)`: its derivative.
    `end(local, base)`: the state after the step.  `margin(state, params)`: (lanes,), the solution
    exists while it is positive.  `size(state, params)`: a size q that goes to infinity in a
    blow-up, and its derivative.
    """

    begin: Callable[[State], State]
    rate: Callable[..., State]
    end: Callable[[State, State], State]
    margin: Callable[..., jax.Array]
    size: Callable[..., tuple[jax.Array, jax.Array]]


class Attempt(NamedTuple):
    """A trial step: the new state, its error estimate, the rate there (or ()), and h |eigenvalue|
    by the last two stages (0: unknown)."""

    state: State
    error: State
    slope: State
    stretch: Any


class Scheme(NamedTuple):
    """A method for an equation: trial steps of an order; whether a step's last rate is kept;
    whether lanes that look stiff are handed on; what a lane is whose steps go to zero; the error
    of a step over what is allowed, `ratio(state, trial, atol, rtol)`; the shares by which the next
    step follows the last error and the one before."""

    eq: Equation
    attempt: Callable[..., Attempt]
    order: int
    keeps: bool
    hand_on: bool
    bounded: bool  # whether the solution exists only while eq.margin is positive
    stuck: int = OVERFLOW
    ratio: Callable[..., jax.Array] | None = None
    gains: tuple[float, float] = (0.7, 0.4)  # proportional-integral


class Flight(NamedTuple):
    """Lanes in flight; `state` arrays have lanes last, the others are (lanes,).

    `slope`: rate at the present state, kept by schemes whose last stage is the next first.
    `stop`: where a lane ended before its target (nan while it runs).
    """

    state: State
    slope: State
    t: Any
    h: Any
    error: Any
    steps: Any
    signs: Any
    status: Any
    stop: Any


class Control(NamedTuple):
    rtol: Any
    max_steps: Any
    end: Any  # of the whole integration


def wide(x: Any, like: Any) -> Any:
    """A number of each lane, to stand beside an array of each lane."""
    return x.reshape(*(1,) * (like.ndim - 1), -1)


def add(state: State, h: Any, weights: tuple[float, ...], slopes: list[State]) -> State:
    def one(y: Any, *ks: Any) -> Any:
        terms = [w * k for w, k in zip(weights, ks, strict=False) if w]
        return y + wide(h, y) * functools.reduce(lambda a, b: a + b, terms)

    return tuple(one(y, *(s[i] for s in slopes)) for i, y in enumerate(state))


def total(x: jax.Array) -> jax.Array:
    """The sum over all axes but the last, the lanes'."""
    return x.sum(axis=tuple(range(x.ndim - 1)))


def stages(
    tableau: Tableau,
    rate: Callable[[State], State],
    local: State,
    slope: State,
    h: Any,
    unrolled: int = LONG,
) -> list[State]:
    """Rates at all stages; one of more than `unrolled` equations stands in a loop, so that it is
    compiled once."""
    if _length(jax.make_jaxpr(rate)(local)) <= unrolled:
        slopes = [slope]
        for row in tableau.a[1:]:
            at = jax.lax.optimization_barrier(add(local, h, row, slopes))
            slopes.append(jax.lax.optimization_barrier(rate(at)))
        return slopes
    count = len(tableau.b)
    table = np.array([row + (0.0,) * (count - len(row)) for row in tableau.a])
    weights = jnp.asarray(table, h.dtype)
    kept = tuple(jnp.zeros((count, *k.shape), k.dtype).at[0].set(k) for k in slope)

    def stage(i: Any, kept: State) -> State:
        def at(y: Any, ks: Any) -> Any:
            # stages to come have weight zero and rate zero
            return y + wide(h, y) * jnp.tensordot(weights[i], ks, axes=1)

        new = rate(tuple(at(y, ks) for y, ks in zip(local, kept, strict=True)))
        return tuple(ks.at[i].set(k) for ks, k in zip(kept, new, strict=True))

    kept = jax.lax.fori_loop(1, count, stage, kept)
    return [tuple(ks[i] for ks in kept) for i in range(count)]


def _length(closed: Any) -> int:
    """Equations of a program, a choice by platform counted as what stands for the CPU."""
    choices = [e.params["branches"][-1] for e in closed.eqns if e.params.get("branches_platforms")]
    return len(closed.eqns) + sum(len(c.eqns) - 2 for c in choices)


def advancing(scheme: Scheme) -> Callable[..., tuple[Flight, jax.Array]]:
    """To be jitted: advance lanes to `target`, until at most `leave` are still under way."""

    def advance(
        flight: Flight, atol: Any, params: Any, control: Control, target: Any, leave: Any
    ) -> tuple[Flight, jax.Array]:
        largest = _largest(params, flight.t.dtype)

        def go(f: Flight) -> Any:
            return jnp.sum(_under_way(f, target), dtype=jnp.int32) > leave

        def body(f: Flight) -> Flight:
            return _turn(scheme, f, atol, params, control, target, largest)

        flight = jax.lax.while_loop(go, body, flight)
        return flight, _under_way(flight, target)

    return advance


def _under_way(f: Flight, target: Any) -> Any:
    return (f.status == RUNNING) & (f.t < target)


def _largest(params: Any, kind: Any) -> Any:
    """Sizes of a law above which it counts as overflowing."""
    largest = float(jnp.finfo(kind).max) ** 0.9
    # products of the law with parameters have to be numbers too
    strength = functools.reduce(
        jnp.maximum,
        [jnp.abs(x).max(axis=tuple(range(x.ndim - 1))) for x in params[0].values()]
        + [jnp.abs(x).max() for x in params[1].values()],
        jnp.ones((), kind),
    )
    return largest / jnp.minimum(strength, largest**0.1) ** 4


def _turn(
    scheme: Scheme, f: Flight, atol: Any, params: Any, control: Control, target: Any, largest: Any
) -> Flight:
    """One trial step of every lane that is under way."""
    eq, tiny = scheme.eq, jnp.finfo(f.t.dtype)
    active = _under_way(f, target)
    local = eq.begin(f.state)
    slope = f.slope if scheme.keeps else eq.rate(local, f.state, params)
    q, dq = eq.size(f.state, slope)
    scale_time = q / dq
    singular = (scale_time > 0) & (scale_time < max(SHARP, 64 * float(tiny.eps)) * f.t)
    left = target - f.t
    last = f.h * (1 + 1e-6) >= left
    h = jnp.where(active, jnp.where(last, left, f.h), 0)
    trial = scheme.attempt(f.state, slope, h, params, atol + control.rtol)
    error = (scheme.ratio or _relative_error)(f.state, trial, atol, control.rtol)
    finite = jnp.isfinite(error)
    if scheme.bounded:
        finite = finite & (eq.margin(trial.state, params) > 0)
    lost = ~jnp.isfinite(q + dq) | (q > largest)
    accept = active & finite & (error <= 1) & ~singular & ~lost
    small, change = _change(error, f.error, finite, scheme)
    # a step cut short by a save time says little about the next one
    next_h = jnp.where(accept & last, jnp.maximum(f.h, h * change), h * change)
    t = jnp.where(last, target, f.t + h)
    steps = f.steps + active.astype(f.steps.dtype)
    # a step that time cannot tell from none, or that a refused one would come to
    stuck = active & ((t + next_h == t) | (~accept & (next_h < 4 * tiny.eps * f.t)))
    status, signs = f.status, f.signs
    if scheme.hand_on:
        more = jnp.where(trial.stretch > 3.25, signs + 1, jnp.maximum(signs - 1, 0))
        signs = jnp.where(accept, more, signs)
        many = control.end - t > STIFF_STEPS * next_h
        status = jnp.where(accept & (signs >= STIFF_SIGNS) & many, STIFF, status)
    status = jnp.where(active & (steps >= control.max_steps), STEP_LIMIT, status)
    status = jnp.where(stuck, scheme.stuck, status)
    status = jnp.where(active & lost, OVERFLOW, status)
    status = jnp.where(active & singular & ~lost, BLOW_UP, status)
    ended = active & (status != RUNNING)
    stop = jnp.where(singular, f.t + scale_time, jnp.where(accept, t, f.t))
    return Flight(
        _where(accept, trial.state, f.state),
        _where(accept, trial.slope, f.slope) if scheme.keeps else (),
        jnp.where(accept, t, f.t),
        jnp.where(active, next_h, f.h),
        jnp.where(accept, jnp.maximum(small, 1e-4), f.error),
        steps,
        signs,
        status,
        jnp.where(ended, stop, f.stop),
    )


def _relative_error(state: State, trial: Attempt, atol: Any, rtol: Any) -> Any:
    """Root mean square of a step's error over what is allowed, (lanes,)."""
    squares, count = jnp.zeros_like(atol), 0
    for old, new, e in zip(state, trial.state, trial.error, strict=True):
        allowed = wide(atol, new) + rtol * jnp.maximum(jnp.abs(old), jnp.abs(new))
        squares = squares + total((e / allowed) ** 2)
        count += e.size // e.shape[-1]
    return jnp.sqrt(squares / count)


def _change(error: Any, before: Any, finite: Any, scheme: Scheme) -> tuple[Any, Any]:
    """The error, kept off zero, and the factor to the next step (Hairer, Norsett, Wanner, II.4 and
    IV.2)."""
    order, (last, previous) = scheme.order, scheme.gains
    small = jnp.maximum(error, 1e-10)
    change = 0.9 * small ** (-last / order) * before ** (previous / order)
    plain = 0.9 * small ** (-1 / order)
    change = jnp.where(error <= 1, jnp.clip(change, 0.2, 6.0), jnp.clip(plain, 0.1, 0.9))
    return small, jnp.where(finite, change, 0.2)


def _where(which: Any, new: State, old: State) -> State:
    return tuple(jnp.where(wide(which, a), a, b) for a, b in zip(new, old, strict=True))


def starting(
    begin: Callable[[State], State], slope_of: Callable[..., State], keeps: bool
) -> Callable[..., tuple[State, Any]]:
    """To be jitted: slopes to keep, and a first step that changes nothing by more than 1 %."""

    def start(state: State, atol: Any, params: Any, t1: Any) -> tuple[State, Any]:
        slope = slope_of(state, params)
        size = sum(total((y / wide(atol + jnp.abs(y).max(), y)) ** 2) for y in state)
        speed = sum(
            total((k / wide(atol + jnp.abs(y).max(), k)) ** 2)
            for y, k in zip(begin(state), slope, strict=True)
        )
        ratio = jnp.sqrt(size / jnp.where(speed > 0, speed, 1))
        h = jnp.where(speed > 0, jnp.minimum(0.01 * ratio, t1), t1)
        return (slope if keeps else ()), jnp.maximum(h, 1e-12 * t1)

    return start

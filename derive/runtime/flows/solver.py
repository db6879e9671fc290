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
        return unit(x, 1) if spec.sphere else x

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


def _attempt(eq: Equation) -> Callable[..., Attempt]:
    """One step; its error by both embedded formulas."""

    def attempt(base: State, slope: State, h: Any, params: Any) -> Attempt:
        rate = lambda state: eq.rate(state, base, params)  # noqa: E731
        slopes = adaptive.stages(DORMAND_PRINCE_8, rate, base, slope, h)
        zero = (jnp.zeros_like(base[0]),)
        fifth, third = (add(zero, h, w, slopes) for w in (DORMAND_PRINCE_8.e, THIRD))
        new = eq.end(add(base, h, DORMAND_PRINCE_8.b, slopes), base)
        return Attempt(new, (*fifth, *third), (), jnp.zeros_like(h))

    return attempt


def _ratio(state: State, trial: Attempt, atol: Any, rtol: Any) -> jax.Array:
    """Error of a step over what is allowed to a token's length, root mean square of the tokens."""
    length = jnp.sqrt(jnp.maximum(*((x * x).sum(axis=1) for x in (state[0], trial.state[0]))))
    allowed = atol + rtol * length
    fifth, third = (jnp.mean((e * e).sum(axis=1) / allowed**2, axis=0) for e in trial.error)
    return ratio_of(fifth, third)


@functools.lru_cache(maxsize=64)
def advancing(spec: FlowModel) -> Callable[..., tuple[Flight, jax.Array]]:
    """Jitted: advance lanes to `target`, until at most `leave` of them are still under way."""
    eq = equation(spec)
    order = DORMAND_PRINCE_8.order
    # of an order so high, a memory of the last error keeps steps far below what is allowed
    scheme = Scheme(eq, _attempt(eq), order, False, False, False, ratio=_ratio, gains=(1.0, 0.0))
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

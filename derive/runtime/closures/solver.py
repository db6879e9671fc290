"""How the laws of a Gaussian closure are advanced: explicit pairs, and a method for stiff laws."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from derive.runtime.closures.rosenbrock import make_attempt as implicit_attempt
from derive.runtime.closures.specification import ClosureModel
from derive.runtime.closures.state import equation, own_rate
from derive.runtime.common import adaptive
from derive.runtime.common.adaptive import (
    MARGIN,
    OVERFLOW,
    Attempt,
    Flight,
    Scheme,
    State,
    add,
    stages,
    total,
)
from derive.runtime.common.tableaus import CASH_KARP, DORMAND_PRINCE, Tableau


def explicit_attempt(spec: ClosureModel, tableau: Tableau) -> Callable[..., Attempt]:
    """One step of an explicit pair."""
    eq = equation(spec)

    def attempt(base: State, slope: State, h: Any, params: Any, allowed: Any) -> Attempt:
        local = eq.begin(base)
        rate = lambda state: eq.rate(state, base, params)  # noqa: E731
        slopes = stages(tableau, rate, local, slope, h)
        before, now = (add(local, h, row, slopes) for row in tableau.a[-2:])
        new = now if tableau.first_same_as_last else add(local, h, tableau.b, slopes)
        moved = eq.end(new, base)
        wrong = tuple(-e for e in tableau.e)
        if spec.noise is None:
            zero = tuple(jnp.zeros_like(y) for y in local)
            error = add(zero, h, tableau.e, slopes)
        else:
            low = eq.end(add(new, h, wrong, slopes), base)
            error = tuple(a - b for a, b in zip(moved, low, strict=True))
        if not tableau.first_same_as_last:
            return Attempt(moved, error, (), jnp.zeros_like(h))
        # the last two stages stand at the same time: their difference shows the largest eigenvalue
        bend = sum(total((a - b) ** 2) for a, b in zip(slopes[-1], slopes[-2], strict=True))
        gap = sum(total((a - b) ** 2) for a, b in zip(now, before, strict=True))
        stretch = jnp.where(gap > 0, h * jnp.sqrt(bend / jnp.where(gap > 0, gap, 1)), 0)
        return Attempt(moved, error, slopes[-1], stretch)

    return attempt


def _tableau(spec: ClosureModel) -> Tableau:
    return DORMAND_PRINCE if spec.noise is None else CASH_KARP


def _scheme(spec: ClosureModel, method: str) -> Scheme:
    eq, bounded = equation(spec), spec.margin is not None
    stuck = MARGIN if bounded else OVERFLOW
    if method == "stiff":
        return Scheme(eq, implicit_attempt(spec), 4, False, False, bounded, stuck)
    tableau = _tableau(spec)
    keeps = tableau.first_same_as_last
    attempt = explicit_attempt(spec, tableau)
    hand_on = method == "auto" and keeps
    return Scheme(eq, attempt, tableau.order, keeps, hand_on, bounded, stuck)


@functools.lru_cache(maxsize=64)
def advancing(spec: ClosureModel, method: str) -> Callable[..., tuple[Flight, jax.Array]]:
    """Jitted: advance lanes to `target`, until at most `leave` of them are still under way."""
    return jax.jit(adaptive.advancing(_scheme(spec, method)))


@functools.lru_cache(maxsize=64)
def starting(spec: ClosureModel, method: str) -> Callable[..., tuple[State, Any]]:
    """Jitted: slopes to keep, and a first step that changes nothing by more than one per cent."""
    eq = equation(spec)
    keeps = method != "stiff" and _tableau(spec).first_same_as_last
    # run once: by vmap, which compiles faster; with noise a step has a state of its own
    whole = own_rate(spec)

    def slope(state: State, params: Any) -> State:
        if spec.noise is None:
            return whole(state, params)
        return eq.rate(eq.begin(state), state, params)

    return jax.jit(adaptive.starting(eq.begin, slope, keeps))

"""When full amplitude up to a time T*, then rest, is the shape of the optimum; and is it.

On the problem: nothing but a running cost E(x) + lambda |u| and a ball |u| <= M may act, and the
state must rest without control; then a path that ends where its E is least, at full speed, costs
least of all with that path.  On the answer: the maximum principle at every time, the costate
equation, and a replay of the control through the dynamics.  Numbers: the control is constant on
32 or 64 intervals, so that what is exact for the optimum holds to a few per cent of lambda here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.control.coordinates import Flat, on_sphere
from derive.runtime.control.replay import advance

STATES, SHARE, LOOSE = 24, 0.05, 2e-3
REMEDY = "add a quadratic cost of the control (beta / 2 |u|^2), for which collocation applies"


def dual_norm(norm: str, slope: Any) -> Any:
    """The norm of F^T p that decides: the largest entry for |u|_1, the Euclidean one for |u|_2."""
    return jnp.max(jnp.abs(slope)) if norm == "l1" else jnp.sqrt(jnp.sum(slope**2))


def own_norm(norm: str, v: Any) -> Any:
    return jnp.sum(jnp.abs(v)) if norm == "l1" else jnp.sqrt(jnp.sum(v**2))


def other_shape(flat: Flat, params: Any) -> str | None:
    """Why the control may act again after it rested, or None: ends and discounts."""
    spec = flat.spec
    if spec.fixed_end:
        return "the end is fixed, and the control may wait before it steers there"
    if spec.terminal_cost is not None:
        return "a terminal cost may let the control wait and act at the end"
    if spec.discount is not None and float(np.max(spec.discount(params))) > 0:
        return "under a discount a cost later is smaller, and the control may wait"
    return None


@lru_cache(maxsize=32)
def _pieces(flat: Flat, norm: str) -> Any:
    """What must vanish at a state z, for controls a, b and a costate q."""

    def find(z: Any, a: Any, b: Any, q: Any, weight: Any, radius: Any, params: Any) -> Any:
        zero = jnp.zeros(flat.m, z.dtype)
        still = flat.rate(z, zero, params)
        fa, fb = flat.rate(z, a, params), flat.rate(z, b, params)
        size = 1 + jnp.max(jnp.abs(fa)) + jnp.max(jnp.abs(fb))
        mixed = flat.rate(z, a + b, params) - fa - fb + still
        rest = flat.running(z, zero, params)
        price = flat.running(z, a, params) - rest
        slope = jax.grad(lambda v: q @ flat.rate(z, v, params))(zero)
        least = radius * jnp.minimum(0.0, weight - dual_norm(norm, slope))
        found = rest + least  # a hand-written model may have no law to compare with
        if flat.spec.control_law is not None:
            law = flat.law(z, q, zero, params)
            found = flat.running(z, law, params) + q @ flat.rate(z, law, params)
        parts = (
            jnp.max(jnp.abs(still)) / size,
            jnp.max(jnp.abs(mixed)) / size,
            jnp.abs(price - weight * own_norm(norm, a)) / (1 + jnp.abs(price) + jnp.abs(rest)),
            jnp.abs(found - rest - least) / (1 + jnp.abs(found) + jnp.abs(rest)),
        )
        return jnp.stack(parts)

    return jax.jit(jax.vmap(find, (0, 0, 0, 0, None, None, None)))


def residuals_of_problem(
    flat: Flat, norm: str, z: Any, weight: float, radius: float, params: Any
) -> np.ndarray:
    """Largest (drift, bend in u, price that is no lambda |u|, law that is no ball's): 0 where the
    two-phase shape is that of the optimum.  At z and at random states near and far."""
    rng = np.random.default_rng(0)
    far = rng.choice([0.1, 1.0, 5.0], (STATES, 1)) * rng.standard_normal((STATES, flat.n))
    states = np.concatenate([np.asarray(z)[None], np.asarray(z) + far])
    states = np.asarray(jax.vmap(lambda z: on_sphere(flat, z))(jnp.asarray(states)))
    a, b = rng.standard_normal((2, len(states), flat.m))
    q = rng.choice([0.1, 1.0, 10.0], (len(states), 1)) * rng.standard_normal(states.shape)
    found = np.asarray(_pieces(flat, norm)(states, a, b, q, weight, radius, params))
    found = found[np.all(np.isfinite(found), 1)]
    return np.max(found, 0) if len(found) else np.full(4, np.inf)


def check_problem(flat: Flat, norm: str, z: Any, weight: float, radius: float, params: Any) -> None:
    """Raise where full amplitude up to T*, then rest, need not be the shape of the optimum."""
    reason = other_shape(flat, params)
    if reason is not None:
        raise ValueError(
            f"the two-phase solver knows full amplitude up to a time T*, then rest; {reason}: "
            + REMEDY
        )
    drift, bend, price, law = residuals_of_problem(flat, norm, z, weight, radius, params)
    if drift > 1e-10:
        raise ValueError(
            "the two-phase solver needs dynamics that rest without control, f(x, 0) = 0, and "
            f"they drift: {REMEDY}"
        )
    if bend > 1e-9:
        raise ValueError("the two-phase solver needs dynamics that are linear in the control")
    if price > 1e-9:
        raise ValueError(
            "the two-phase solver needs a running cost E(x) + lambda |u| with one norm of all "
            f"controls; this one prices them in another way: {REMEDY} to all of them"
        )
    if law > 1e-9:
        raise ValueError(
            "the two-phase solver needs one bound |u| <= M of all controls together: with several "
            f"bounds each group of controls stops at a time of its own; use one ball, or {REMEDY}"
        )


class Answer(NamedTuple):
    """A two-phase solution: states z and costates p (K + 1, n) at the nodes of [0, tau], controls
    u (K, m), and the costates of the rest at `rest` (r,) as p_rest (r, n)."""

    tau: float
    T: float
    z: Any
    p: Any
    u: Any
    p_rest: Any
    cost: float


@lru_cache(maxsize=32)
def _along(flat: Flat, norm: str, K: int) -> Any:
    """Per interval: excess of H over its least, misses of replayed state and costate; and the
    state and cost of a replay from the first state through all intervals."""

    def run(answer: Answer, weight: Any, radius: Any, params: Any) -> Any:
        h, n = answer.tau / K, flat.n
        z, p, u = answer.z, answer.p, answer.u

        def rate(y: Any, v: Any) -> Any:
            x, q = y[:n], y[n : 2 * n]
            tail = flat.running(x, v, params)[None]
            return jnp.concatenate(
                [flat.rate(x, v, params), flat.costate_rate(x, q, v, params), tail]
            )

        def over(y: Any, v: Any) -> Any:
            return advance(lambda t, y: rate(y, v), y, 0.0, h, 8)

        zero = jnp.zeros((K, 1), z.dtype)
        ends = jax.vmap(over)(jnp.concatenate([z[:-1], p[:-1], zero], 1), u)
        states = jnp.max(jnp.abs(ends[:, :n] - z[1:]), 1) / (1 + jnp.max(jnp.abs(z)))
        costates = jnp.max(jnp.abs(ends[:, n:-1] - p[1:]), 1) / jnp.max(jnp.abs(p))

        def excess(x: Any, q: Any, v: Any) -> Any:
            slope = jax.grad(lambda v: q @ flat.rate(x, v, params))(0 * v)
            pull = dual_norm(norm, slope)
            here = weight * own_norm(norm, v) + slope @ v
            return (here - radius * jnp.minimum(0.0, weight - pull)) / (radius * (weight + pull))

        middle = jax.vmap(excess)((z[1:] + z[:-1]) / 2, (p[1:] + p[:-1]) / 2, u)
        rests = jax.vmap(lambda q: excess(z[-1], q, jnp.zeros(flat.m, z.dtype)))(answer.p_rest)
        whole = jnp.concatenate([z[0], p[0], jnp.zeros(1, z.dtype)])
        whole, _ = jax.lax.scan(lambda y, v: (over(y, v), None), whole, u)
        still = (answer.T - answer.tau) * flat.running(
            whole[:n], jnp.zeros(flat.m, z.dtype), params
        )
        off = jnp.max(jnp.abs(whole[:n] - z[-1])) / (1 + jnp.max(jnp.abs(z)))
        gap = jnp.abs(whole[-1] + still - answer.cost) / (1 + jnp.abs(answer.cost))
        return jnp.max(middle), jnp.max(rests), jnp.max(states), jnp.max(costates), off, gap

    return jax.jit(run)


def wrong_with(
    flat: Flat, norm: str, answer: Answer, weight: float, radius: float, params: Any
) -> str | None:
    """What a two-phase solution violates, in words and numbers, or None."""
    if not 0 < answer.tau < answer.T:
        return f"its stopping time T* = {answer.tau:.4g} is not inside [0, {answer.T:g}]"
    found = _along(flat, norm, len(answer.u))(answer, weight, radius, params)
    moving, rest, state, costate, off, gap = (float(v) for v in found)
    for value, most, words in (
        (moving, SHARE, "before T* the control does not minimise the Hamiltonian"),
        (rest, SHARE, "after T* a control would lower the Hamiltonian"),
        (max(state, off), LOOSE, "its control, replayed, does not lead through its states"),
        (costate, SHARE, "its costate leaves p' = -H_x"),
        (gap, LOOSE, "its control, replayed, has another cost"),
    ):
        if not value <= most:
            return f"{words} (relative excess {value:.3g}, allowed {most:g})"
    return None

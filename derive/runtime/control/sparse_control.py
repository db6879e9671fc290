"""Sparse problems: full amplitude up to a stopping time T*, then no control at all.

Minimise the integral of E(x) + lambda |u| under |u| <= M, with dynamics linear in u.  On [0, T*]
|u| = M; afterwards u = 0 and x rests, so that
    J = int_0^T* E dt + lambda M T* + (T - T*) E(x*).
The first phase runs on scaled time, the control constant on each of K intervals: a point of the
simplex over the signed unit controls (l1 norm), or a direction (l2 norm).  This is a smooth
problem in the shares and T*; a barrier method finds which shares are zero, Newton's method on
the others ends it.  Intervals with several signed controls are ties of the maximum law.  Where this
shape need not be that of the optimum, and where the answer is none, `sparse_checks` refuses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.control import sparse_checks as checks
from derive.runtime.control import trials
from derive.runtime.control.coordinates import Flat
from derive.runtime.control.inputs import number_of
from derive.runtime.control.results import Extremal
from derive.runtime.control.sparse_discrete import Data, functions_of, rest_cost, slope_of
from derive.runtime.control.sparse_search import Simplex, barrier, direction, polish, shares_of


class SparseResiduals(NamedTuple):
    """Of a sparse solution, per problem of the batch.

    `stopping`: ||F^T p| - lambda| at T*, where p = (T - T*) grad E.
    `energy`: largest ||F^T p| - lambda - (E - E*) / M| on [0, T*].  `stationarity`: of the discrete
    problem, multipliers included.  `after`: largest |F^T p| - lambda on (T*, T], if positive.
    """

    stopping: np.ndarray
    energy: np.ndarray
    stationarity: np.ndarray
    after: np.ndarray


def radius_of(flat: Flat, params: Any) -> float:
    """M: the bound shared by all controls that carry a bound on their norm."""
    spec = flat.spec
    if spec.radius is not None:
        return float(spec.radius(params))
    kinds = [b for b in spec.bounds.values() if b[0] in ("l1", "l2")]
    if not kinds and spec.bounds:
        raise ValueError(
            "a norm of the control in a box: each entry switches at times of its own, and the "
            "two-phase solver knows one stopping time; bound the norm instead (|u| <= M), or add "
            "a quadratic cost, for which collocation applies"
        )
    if not kinds:
        raise ValueError(
            "a sparse cost alone lets the control be an impulse: bound its norm, |u| <= M"
        )
    return float(number_of(kinds[0][-1], params))


def weight_of(flat: Flat, params: Any, z: Any) -> float:
    """lambda: what one unit of the first control costs."""
    zero = jnp.zeros(flat.m)
    one = zero.at[0].set(1.0)
    return float(flat.running(z, one, params) - flat.running(z, zero, params))


def solve(
    flat: Flat,
    z0: np.ndarray,
    params: Any,
    T: float,
    batch: int | None,
    saves: Any,
) -> Extremal:
    """The two-phase solution from each row of z0 (batch, n); see the head of this file."""
    if saves is not None:
        raise ValueError("a sparse problem is given at its own times; leave `saves` out")
    found = [_one(flat, z, params, T) for z in z0]
    notes = tuple(dict.fromkeys(n for f in found for n in f.notes))
    if batch is None:
        return found[0]._replace(notes=notes)
    widest = max(len(f.times) for f in found)
    found = [
        f if len(f.times) == widest else _one(flat, z, params, T, (widest - 18,))
        for f, z in zip(found, z0, strict=True)
    ]
    out = jax.tree.map(lambda *a: np.stack(a), *(f._replace(notes=()) for f in found))
    return out._replace(notes=notes)


def norm_of(flat: Flat) -> str:
    return "l2" if flat.spec.sparse == "l2norm" else "l1"


def _one(
    flat: Flat, z0: np.ndarray, params: Any, T: float, meshes: tuple[int, ...] = (32, 64)
) -> Extremal:
    norm, start = norm_of(flat), jnp.asarray(z0)
    radius, weight = radius_of(flat, params), weight_of(flat, params, start)
    checks.check_problem(flat, norm, start, weight, radius, params)
    data = Data(start, jnp.asarray(T), jnp.asarray(weight), jnp.asarray(radius), params)
    slope = np.asarray(jax.grad(lambda z: T * rest_cost(flat, z, params))(start))
    units = _unit_moves(flat, norm, start, slope, params)
    trial, which, until = trials.full_moves(flat, z0, radius * units, T, weight * radius, params)
    idle = _idle(flat, z0, params, T, meshes[0])
    pull = float(checks.dual_norm(norm, slope_of(flat, start, jnp.asarray(slope), params)))
    rests = pull <= weight
    if rests and not trials.cheaper(trial, float(idle.cost)):
        return idle
    found, refusal = idle if rests else None, None
    for guess in (None, (units[which], until)):
        if guess is not None and found is not None and not trials.cheaper(trial, float(found.cost)):
            break
        try:
            other = _moving(flat, norm, data, meshes, guess)
        except ValueError as problem:
            refusal = refusal or problem
            continue
        if found is None or other.cost < found.cost:
            found = other
    if found is None:
        assert refusal is not None
        raise refusal
    if trials.cheaper(trial, float(found.cost)):
        how = np.array2string(radius * units[which], precision=3, threshold=8)
        note = (
            f"a cheaper control was found: {how} up to t = {until:.4g}, then rest, costs "
            f"{trial:.8g}, this solution {float(found.cost):.8g}: it is a local optimum at best"
        )
        found = found._replace(notes=(note, *found.notes))
    return found


def _unit_moves(flat: Flat, norm: str, z: Any, slope: Any, params: Any) -> np.ndarray:
    """Controls of norm one to try: each entry alone, and downhill in E."""
    units = np.concatenate([np.eye(flat.m), -np.eye(flat.m)])
    down = -np.asarray(slope_of(flat, z, jnp.asarray(slope), params))
    size = float(checks.own_norm(norm, down))
    return np.concatenate([units, down[None] / size]) if size > 0 else units


def _moving(
    flat: Flat,
    norm: str,
    data: Data,
    meshes: tuple[int, ...],
    guess: tuple[np.ndarray, float] | None,
) -> Extremal:
    """The solution that moves, on the first of the meshes where it satisfies what it must.

    `guess`: a unit control to start from and the time until it acts; None: all controls at once.
    """
    reason, T = "", float(data.T)
    for K in meshes:
        functions = functions_of(flat, norm, K)
        notes: list[str] = []
        if norm == "l1":
            shape = Simplex(K, 2 * flat.m)
            x = barrier(functions, data, shape) if guess is None else shares_of(guess, shape)
            x, active, residual, determined, bend = polish(functions, data, shape, x)
            notes += _ties(active, determined)
        else:
            x, residual, bend = direction(functions, data, flat, K, guess)
        z, p, u, slopes, E, cost = (np.asarray(a) for a in functions[3](x, data))
        tau = float(x[-1])
        grad_E = np.asarray(jax.grad(lambda z: rest_cost(flat, z, data.params))(jnp.asarray(z[-1])))
        rest = np.linspace(tau, T, 17)
        p_rest = (T - rest)[:, None] * grad_E
        answer = checks.Answer(tau, T, z, p, u, p_rest, float(cost))
        numbers = (float(data.weight), float(data.radius))
        if not residual < 1e-6 * (1 + abs(float(cost))):
            reason = f"the search stopped at T* = {tau:.6g} with stationarity {residual:.3g}"
        elif bend < -1e-6:
            reason = f"what it found is no minimum: second derivative {bend:.3g} (relative)"
        else:
            reason = checks.wrong_with(flat, norm, answer, *numbers, data.params) or ""
        if not reason:
            break
    if reason:
        raise ValueError(
            f"the two-phase solver found no optimum on T = {T:g}: {reason}; try another x0 or T, "
            "look for a kink of the dynamics or the cost along the way, or " + checks.REMEDY
        )
    weight, radius = numbers
    sizes = _pulls(norm, slopes)
    late = [
        np.asarray(slope_of(flat, jnp.asarray(z[-1]), jnp.asarray(q), data.params)) for q in p_rest
    ]
    residuals = SparseResiduals(
        np.asarray(abs(float(sizes[-1]) - weight)),
        np.asarray(np.max(np.abs(sizes - weight - (E - E[-1]) / radius))),
        np.asarray(residual),
        np.asarray(max(0.0, float(np.max(_pulls(norm, np.stack(late)))) - weight)),
    )
    times = np.concatenate([np.linspace(0, tau, K + 1), rest])
    states = np.concatenate([z, np.repeat(z[-1:], len(rest), 0)])
    controls = np.concatenate([u, u[-1:], np.zeros((len(rest), flat.m))])
    costates = np.concatenate([p, p_rest])
    return _pack(flat, times, states, costates, controls, cost, residuals, tau, tuple(notes))


def _pulls(norm: str, slopes: np.ndarray) -> np.ndarray:
    """The norm that decides, of each row."""
    sizes = np.sqrt(np.sum(slopes**2, 1)) if norm == "l2" else np.max(np.abs(slopes), axis=1)
    return np.asarray(sizes)


def _pack(
    flat: Flat,
    times: Any,
    z: Any,
    q: Any,
    v: Any,
    cost: Any,
    residuals: Any,
    tau: float,
    notes: Any,
) -> Extremal:
    x, p, u = (
        jax.tree.map(np.asarray, jax.vmap(unpack)(jnp.asarray(a)))
        for unpack, a in ((flat.point, z), (flat.costate, q), (flat.control, v))
    )
    return Extremal(times, x, p, u, np.asarray(cost), residuals, np.asarray(tau), notes)


def _idle(flat: Flat, z0: np.ndarray, params: Any, T: float, K: int) -> Extremal:
    """No control at all: even at time 0, with all of T ahead, it costs more than it brings."""
    times = np.concatenate([np.zeros(K + 1), np.linspace(0, T, 17)])
    slope = np.asarray(jax.grad(lambda z: rest_cost(flat, z, params))(jnp.asarray(z0)))
    z = np.repeat(z0[None], len(times), 0)
    q = (T - times)[:, None] * slope
    cost = T * rest_cost(flat, jnp.asarray(z0), params)
    zero = np.zeros(())
    residuals = SparseResiduals(zero, zero, zero, zero)
    v = np.zeros((len(times), flat.m))
    note = "the control stays zero: its cost exceeds what it could save over the whole horizon"
    return _pack(flat, times, z, q, v, np.asarray(cost), residuals, 0.0, (note,))


def _ties(active: np.ndarray, determined: bool) -> list[str]:
    """Stretches of more than one interval on which several signed controls act together."""
    K = len(active)
    several = active.sum(1) > 1
    out, k = [], 0
    while k < K:
        if not several[k]:
            k += 1
            continue
        stop = k
        while stop < K and several[stop]:
            stop += 1
        if stop - k > 1:
            who = ", ".join(map(str, np.flatnonzero(active[k:stop].any(0))))
            when = f"[{k / K:.3f}, {stop / K:.3f}] T*"
            out.append(f"tie of the maximum law on {when}: signed controls {who} act together")
        k = stop
    if out and not determined:
        out.append("unresolved tie: the optimality conditions leave the shares open; one is shown")
    return out

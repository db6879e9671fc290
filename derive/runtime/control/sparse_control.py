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

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.control import sparse_checks as checks
from derive.runtime.control import trials
from derive.runtime.control.coordinates import Flat
from derive.runtime.control.results import Extremal


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
    value = kinds[0][-1]
    if callable(value):
        return float(value(params))
    return float(getattr(params, value) if isinstance(value, str) else value)


def weight_of(flat: Flat, params: Any, z: Any) -> float:
    """lambda: what one unit of the first control costs."""
    zero = jnp.zeros(flat.m)
    one = zero.at[0].set(1.0)
    return float(flat.running(z, one, params) - flat.running(z, zero, params))


def _control(flat: Flat, norm: str, w: Any, radius: Any) -> Any:
    """The control (m,) of one interval from its unknowns."""
    if norm == "l1":
        return radius * (w[: flat.m] - w[flat.m :])
    return radius * w / jnp.linalg.norm(w)


def _rest(flat: Flat, z: Any, params: Any) -> Any:
    """E(x): the running cost without control."""
    return flat.running(z, jnp.zeros(flat.m, z.dtype), params)


class _Data(NamedTuple):
    z0: Any
    T: Any
    weight: Any
    radius: Any
    params: Any


def _trajectory(
    flat: Flat, norm: str, w: Any, tau: Any, kicks: Any, data: _Data
) -> tuple[Any, Any, Any]:
    """States at the nodes (K + 1, n), the cost integral of E, and the controls (K, m)."""
    K = len(w)
    h = tau / K
    u = jax.vmap(lambda w: _control(flat, norm, w, data.radius))(w)

    def step(carry: tuple[Any, Any], now: tuple[Any, Any]) -> tuple[Any, Any]:
        z, total = carry
        v, kick = now
        z = z + kick

        def rate(z: Any) -> tuple[Any, Any]:
            return flat.rate(z, v, data.params), _rest(flat, z, data.params)

        k1, e1 = rate(z)
        k2, e2 = rate(z + h / 2 * k1)
        k3, e3 = rate(z + h / 2 * k2)
        k4, e4 = rate(z + h * k3)
        z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return (z, total + h / 6 * (e1 + 2 * e2 + 2 * e3 + e4)), z

    zero = jnp.zeros((), data.z0.dtype)
    (_, total), rest = jax.lax.scan(step, (data.z0, zero), (u, kicks[:-1]))
    first = data.z0 + kicks[0]
    return jnp.concatenate([first[None], rest.at[-1].add(kicks[-1])]), total, u


def _objective(flat: Flat, norm: str, K: int, unknown: Any, kicks: Any, data: _Data) -> Any:
    w, tau = unknown[:-1].reshape(K, -1), unknown[-1]
    z, total, _ = _trajectory(flat, norm, w, tau, kicks, data)
    rest = (data.T - tau) * _rest(flat, z[-1], data.params)
    cost = total + data.weight * data.radius * tau + rest
    if norm == "l2":  # the length of w means nothing: it is held at one, at no cost
        cost = cost + jnp.sum((jnp.sum(w**2, 1) - 1) ** 2) / K
    return cost


@lru_cache(maxsize=32)
def _functions(flat: Flat, norm: str, K: int) -> Any:
    def plain(unknown: Any, data: _Data) -> Any:
        return _objective(flat, norm, K, unknown, jnp.zeros((K + 1, flat.n)), data)

    def describe(unknown: Any, data: _Data) -> tuple[Any, ...]:
        w, tau = unknown[:-1].reshape(K, -1), unknown[-1]
        kicks = jnp.zeros((K + 1, flat.n))
        z, _, u = _trajectory(flat, norm, w, tau, kicks, data)
        p = jax.grad(lambda k: _objective(flat, norm, K, unknown, k, data))(kicks)
        slopes = jax.vmap(lambda z, p: _slope(flat, z, p, data.params))(z, p)
        E = jax.vmap(lambda z: _rest(flat, z, data.params))(z)
        return z, p, u, slopes, E, plain(unknown, data)

    return (
        jax.jit(plain),
        jax.jit(jax.value_and_grad(plain)),
        jax.jit(jax.hessian(plain)),
        jax.jit(describe),
    )


def _slope(flat: Flat, z: Any, p: Any, params: Any) -> Any:
    """F(x)^T p (m,): the derivative of p . f(x, u) in u."""
    zero = jnp.zeros(flat.m, z.dtype)
    return jax.grad(lambda v: p @ flat.rate(z, v, params))(zero)


# a barrier method for the shares, then Newton on those that are not zero


class _Simplex(NamedTuple):
    """K simplices of size V in a row, and the stopping time behind them."""

    K: int
    V: int

    def sums(self) -> np.ndarray:
        A = np.zeros((self.K, self.K * self.V + 1))
        for k in range(self.K):
            A[k, k * self.V : (k + 1) * self.V] = 1
        return A


def _newton_step(H: np.ndarray, g: np.ndarray, A: np.ndarray) -> tuple[np.ndarray, float]:
    """A descent step with A step = 0, and the shift that made H convex there."""
    gram = A.T @ A * max(1.0, float(np.abs(np.diag(H)).mean()))
    shift, base = 0.0, 1e-8 * max(1.0, float(np.abs(np.diag(H)).mean()))
    for _ in range(40):
        try:
            np.linalg.cholesky(H + gram + shift * np.eye(len(g)))
            break
        except np.linalg.LinAlgError:
            shift = max(base, 5 * shift)
    rows = len(A)
    kkt = np.block([[H + shift * np.eye(len(g)), A.T], [A, np.zeros((rows, rows))]])
    return np.linalg.solve(kkt, np.concatenate([-g, np.zeros(rows)]))[: len(g)], shift


def _barrier(functions: Any, data: _Data, shape: _Simplex) -> np.ndarray:
    plain, gradient, hessian, _ = functions
    T = float(data.T)
    A = shape.sums()
    x = np.concatenate([np.full(shape.K * shape.V, 1 / shape.V), [0.3 * T]])
    top = np.concatenate([np.full(len(x) - 1, np.inf), [T]])

    def value(x: np.ndarray, mu: float) -> float:
        if np.any(x <= 0) or x[-1] >= T:
            return np.inf
        return float(plain(x, data)) - mu * (np.log(x).sum() + np.log(T - x[-1]))

    mu = 0.1 * max(abs(float(plain(x, data))), 1e-3) / shape.K
    while mu > 1e-11:
        for _ in range(12):
            _, g = (np.asarray(a) for a in gradient(x, data))
            H = np.array(hessian(x, data))
            g = g - mu / x
            H[np.diag_indices(len(x))] += mu / x**2
            g[-1] += mu / (T - x[-1])
            H[-1, -1] += mu / (T - x[-1]) ** 2
            step, shift = _newton_step(H, g, A)
            fall = -float(g @ step)
            with np.errstate(divide="ignore", invalid="ignore"):
                room = np.min(np.where(step < 0, -x / step, np.inf))
                room = min(room, np.min(np.where(step > 0, (top - x) / step, np.inf)))
            share, before = min(1.0, 0.98 * room), value(x, mu)
            while share > 1e-8 and not value(x + share * step, mu) < before - 1e-4 * share * fall:
                share /= 2
            if share <= 1e-8:
                break
            x = x + share * step
            if fall < max(1e-2 * mu, 1e-13) and shift == 0:
                break
        mu *= 0.15
    return x


def _polish(
    functions: Any, data: _Data, shape: _Simplex, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, bool, float]:
    """Newton with the zero shares held: unknowns, active (K, V), residual, whether determined, and
    the least second derivative in the shares that are free (relative to the largest)."""
    _, gradient, hessian, _ = functions
    active = np.concatenate([x[:-1] > 1e-3, [True]])
    x = np.where(active, x, 0.0)
    determined, residual = True, np.inf
    sums = shape.sums()
    x[:-1] = (x[:-1].reshape(shape.K, -1) / (sums[:, :-1] @ x[:-1])[:, None]).ravel()
    for _ in range(60):
        g, H = np.asarray(gradient(x, data)[1]), np.asarray(hessian(x, data))
        free = np.flatnonzero(active)
        A = sums[:, free]
        multiplier = A @ g[free] / A.sum(1)
        slack = g - sums.T @ multiplier
        kkt = np.block([[H[np.ix_(free, free)], A.T], [A, np.zeros((shape.K, shape.K))]])
        step = np.linalg.lstsq(kkt, np.concatenate([-g[free], np.zeros(shape.K)]), rcond=1e-11)
        move = step[0][: len(free)]
        determined = step[2] == len(kkt)
        residual = float(np.max(np.abs(slack[free])))
        with np.errstate(divide="ignore", invalid="ignore"):
            limit = np.where(move < 0, -x[free] / move, np.inf)
        limit[-1] = np.inf
        share = min(1.0, float(np.min(limit)))
        x = x.copy()
        x[free] += share * move
        if share < 1:  # a share has reached zero
            gone = free[int(np.argmin(limit))]
            active[gone], x[gone] = False, 0.0
            continue
        if np.max(np.abs(move)) < 1e-10:
            wrong = np.where(active, 0.0, slack)
            enter = int(np.argmin(wrong))
            if wrong[enter] > -1e-9:
                residual = max(residual, float(-wrong[enter]))
                break
            active[enter] = True
    free = np.flatnonzero(active)
    bend = _least_bend(np.asarray(hessian(x, data))[np.ix_(free, free)], sums[:, free])
    return x, active[:-1].reshape(shape.K, shape.V), residual, bool(determined), bend


def _least_bend(H: np.ndarray, A: np.ndarray) -> float:
    """The least eigenvalue of H along A d = 0, over the largest."""
    _, sizes, right = np.linalg.svd(A, full_matrices=True) if len(A) else (0, [], np.eye(len(H)))
    null = right[int(np.sum(np.asarray(sizes) > 1e-10)) :]
    values = np.linalg.eigvalsh(null @ (H + H.T) @ null.T / 2)
    return float(values[0] / max(np.abs(values).max(), 1e-300)) if len(values) else 0.0


def _direction(
    functions: Any, data: _Data, flat: Flat, K: int, guess: tuple[np.ndarray, float] | None
) -> tuple[np.ndarray, float, float]:
    """The l2 norm: damped Newton over directions and T*; as `_polish`, all being free."""
    plain, gradient, hessian, _ = functions
    z0 = jnp.asarray(data.z0)
    slope = jax.grad(lambda z: _rest(flat, z, data.params))(z0)
    first = -np.asarray(_slope(flat, z0, slope, data.params))
    until = 0.3 * float(data.T)
    if guess is not None:
        first, until = guess
    w = np.tile(first / np.linalg.norm(first), K)
    x = np.concatenate([w, [until]])
    nothing = np.zeros((0, len(x)))
    g = np.asarray(gradient(x, data)[1])
    for _ in range(200):
        step, _ = _newton_step(np.asarray(hessian(x, data)), g, nothing)
        before, share = float(plain(x, data)), 1.0
        while share > 1e-10 and not (
            0 < x[-1] + share * step[-1] < data.T
            and float(plain(x + share * step, data)) <= before + 1e-4 * share * float(g @ step)
        ):
            share /= 2
        if share <= 1e-10:
            break
        x = x + share * step
        g = np.asarray(gradient(x, data)[1])
        if np.max(np.abs(step)) < 1e-11:
            break
    return x, float(np.max(np.abs(g))), _least_bend(np.asarray(hessian(x, data)), nothing)


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
    data = _Data(start, jnp.asarray(T), jnp.asarray(weight), jnp.asarray(radius), params)
    slope = np.asarray(jax.grad(lambda z: T * _rest(flat, z, params))(start))
    units = _unit_moves(flat, norm, start, slope, params)
    trial, which, until = trials.full_moves(flat, z0, radius * units, T, weight * radius, params)
    idle = _idle(flat, z0, params, T, meshes[0])
    pull = float(checks.dual_norm(norm, _slope(flat, start, jnp.asarray(slope), params)))
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
    down = -np.asarray(_slope(flat, z, jnp.asarray(slope), params))
    size = float(checks.own_norm(norm, down))
    return np.concatenate([units, down[None] / size]) if size > 0 else units


def _moving(
    flat: Flat,
    norm: str,
    data: _Data,
    meshes: tuple[int, ...],
    guess: tuple[np.ndarray, float] | None,
) -> Extremal:
    """The solution that moves, on the first of the meshes where it satisfies what it must.

    `guess`: a unit control to start from and the time until it acts; None: all controls at once.
    """
    reason, T = "", float(data.T)
    for K in meshes:
        functions = _functions(flat, norm, K)
        notes: list[str] = []
        if norm == "l1":
            shape = _Simplex(K, 2 * flat.m)
            x = _barrier(functions, data, shape) if guess is None else _shares(guess, shape)
            x, active, residual, determined, bend = _polish(functions, data, shape, x)
            notes += _ties(active, determined)
        else:
            x, residual, bend = _direction(functions, data, flat, K, guess)
        z, p, u, slopes, E, cost = (np.asarray(a) for a in functions[3](x, data))
        tau = float(x[-1])
        grad_E = np.asarray(jax.grad(lambda z: _rest(flat, z, data.params))(jnp.asarray(z[-1])))
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
        np.asarray(_slope(flat, jnp.asarray(z[-1]), jnp.asarray(q), data.params)) for q in p_rest
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


def _shares(guess: tuple[np.ndarray, float], shape: _Simplex) -> np.ndarray:
    """The unknowns of one control that acts alone, up to a time."""
    unit, until = guess
    parts = np.concatenate([np.maximum(unit, 0), np.maximum(-unit, 0)])
    return np.concatenate([np.tile(parts / parts.sum(), shape.K), [until]])


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
    slope = np.asarray(jax.grad(lambda z: _rest(flat, z, params))(jnp.asarray(z0)))
    z = np.repeat(z0[None], len(times), 0)
    q = (T - times)[:, None] * slope
    cost = T * _rest(flat, jnp.asarray(z0), params)
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

"""What a cost with a kink at u = 0 says about long horizons: where E is least, and the verdict.

Without control the state rests best where the running cost E is least.  The verdict "finite_time"
(full amplitude up to a T* that stays bounded, then no control) is said only where the two-phase
shape is that of the optimum, E is attained, and the controls reach it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.control import sparse_checks as checks
from derive.runtime.control import sparse_control
from derive.runtime.control.coordinates import Flat, on_sphere
from derive.runtime.control.creases import creased_cost
from derive.runtime.control.results import Turnpike
from derive.runtime.control.sparse_discrete import rest_cost
from derive.runtime.control.static_problem import goals

KINK = "the cost has a kink at u = 0: H is not smooth at the static optimum, and there is no "
FAR = 1e3  # of the scale of the starts: a descent that came so far does not settle


def rests(flat: Flat, params: Any) -> bool:
    """Whether the state stands still without control, f(x, 0) = 0, wherever one looks."""
    rng = np.random.default_rng(0)
    rate = jax.jit(lambda z: flat.rate(z, jnp.zeros(flat.m), params))
    z = rng.choice([0.1, 1.0, 5.0], (16, 1)) * rng.standard_normal((16, flat.n))
    found = np.array([np.max(np.abs(np.asarray(rate(a)))) for a in z])
    return bool(np.all(~(found > 1e-12)))


def finite_time(flat: Flat, params: Any, guess: Any, starts: int, seed: int) -> Turnpike:
    """The state at which E is least, and the verdict with its reasons."""
    first = _starts(flat, params, guess, starts, seed)
    minima = _minima(flat, params, first)
    reach = 5 * (1 + max(float(np.max(np.abs(z), initial=0.0)) for z in first))
    if not minima:
        minima = [(np.nan, np.full(flat.n, np.nan), np.inf, 0.0)]
    verdict, reasons = _judged(flat, params, minima, reach)
    cost, z, left, _ = minima[0]
    n, empty = flat.n, np.zeros(0)
    zero_p, zero_u = flat.costate(np.zeros(n)), flat.control(np.zeros(flat.m))
    candidates = tuple(
        (c, g, True, jax.tree.map(np.asarray, flat.point(a)), zero_p, zero_u)
        for c, a, g, _ in minima
    )
    return Turnpike(
        candidates[0][3],
        zero_p,
        zero_u,
        cost,
        empty,
        float("nan"),
        verdict,
        tuple(reasons),
        empty,
        np.zeros((0, 0)),
        None,
        np.zeros((2 * n, 0)),
        left,
        candidates,
    )


def _starts(flat: Flat, params: Any, guess: Any, count: int, seed: int) -> list[np.ndarray]:
    given = [] if guess is None else [np.asarray(flat.pack_x(guess))]
    given += [*goals(flat, params), np.zeros(flat.n)]
    rng = np.random.default_rng(seed)
    size = 1 + max(float(np.max(np.abs(z), initial=0.0)) for z in given)
    more = [given[k % len(given)] + size * rng.standard_normal(flat.n) for k in range(count)]
    return [np.asarray(on_sphere(flat, jnp.asarray(z))) for z in (*given, *more)]


def _minima(
    flat: Flat, params: Any, starts: list[np.ndarray]
) -> list[tuple[float, np.ndarray, float, float]]:
    """Local minima of E, best first: (E, state, |grad E|, least second derivative)."""
    energy = jax.jit(lambda z: rest_cost(flat, z, params))
    slope, curve = jax.jit(jax.grad(energy)), jax.jit(jax.hessian(energy))
    found: list[tuple[float, np.ndarray, float, float]] = []
    for start in starts:
        z = start
        if not np.isfinite(float(energy(z))):
            continue
        for _ in range(100):
            g, H = np.asarray(slope(z)), np.asarray(curve(z))
            if not (np.all(np.isfinite(g)) and np.all(np.isfinite(H))):
                break
            values, vectors = np.linalg.eigh(H)
            size = np.maximum(np.abs(values), 1e-8 * max(1.0, np.abs(values).max()))
            step, share = -vectors @ ((vectors.T @ g) / size), 1.0
            while share > 1e-10 and not float(energy(z + share * step)) < float(energy(z)):
                share /= 2
            if share <= 1e-10 or np.max(np.abs(z)) > FAR * (1 + np.max(np.abs(start))):
                break
            z = z + share * step
        z = np.asarray(z)
        left = float(np.linalg.norm(np.asarray(slope(z))))
        H = np.asarray(curve(z))
        bend = float(np.linalg.eigvalsh(H)[0]) if np.all(np.isfinite(H)) else np.nan
        if bend < -1e-6 * max(1.0, float(np.abs(H).max())):
            continue  # a maximum or a saddle that the start sat on
        further = float(energy(2 * z - start))
        if bend < 1e-6 and float(energy(z)) - further > 1e-20 * (1 + abs(float(energy(start)))):
            left = np.inf  # it falls on and on
        elif creased_cost(flat, z, params):
            left = 0.0  # the slope at a kink is no slope
        if not any(np.max(np.abs(z - a)) < 1e-5 * (1 + np.max(np.abs(a))) for _, a, _, _ in found):
            found.append((float(energy(z)), z, left, bend))
    return sorted(found, key=lambda f: f[0])


def _judged(
    flat: Flat, params: Any, minima: list[tuple[float, np.ndarray, float, float]], reach: float
) -> tuple[str, list[str]]:
    """`reach`: how far from zero a state with a flat E still counts as found, not as falling."""
    spec = flat.spec
    cost, z, left, bend = minima[0]
    if spec.sparse == "elastic_net":
        return "undetermined", [
            KINK + "Hamiltonian matrix",
            "with a quadratic part the amplitude falls with E - E(x(T)), as without the kink, up "
            "to a time T* after which the control is zero; T* grows with T",
            *_unattained(z, left, bend, reach),
        ]
    reasons = [KINK + "Hamiltonian matrix"]
    if spec.bounds and all(kind == "box" for kind, *_ in spec.bounds.values()):
        return "undetermined", [*reasons, "in a box each entry has switching times of its own"]
    shape = checks.other_shape(flat, params)
    if shape is not None:
        return "undetermined", [*reasons, shape]
    far = _unattained(z, left, bend, reach)
    if far:
        return "undetermined", [*reasons, *far]
    norm, start = sparse_control.norm_of(flat), jnp.asarray(z)
    try:
        numbers = (
            sparse_control.weight_of(flat, params, start),
            sparse_control.radius_of(flat, params),
        )
        checks.check_problem(flat, norm, start, *numbers, params)
    except ValueError as problem:
        return "undetermined", [*reasons, str(problem)]
    reasons[0] += "; the control acts at full amplitude up to a time T*, then rests"
    ties = [a for c, a, _, _ in minima if c - cost < 1e-8 * (1 + abs(cost))]
    flat_directions = bend < 1e-6 * max(1.0, abs(cost))
    if creased_cost(flat, z, params):
        reasons.append("E has a kink where it is least: the state may arrive there exactly")
    elif flat_directions:
        reasons.append("E is least on a set, to second order: the state shown is one of it")
    elif len(ties) > 1:
        reasons.append(f"E is least, {cost:.9g}, at {len(ties)} different states")
        return "non_unique", reasons
    rank = _reach(flat, z, params)
    if rank < flat.n - sum(rows.count for rows in flat.sphere):
        reasons.append(
            f"where E is least the controls move {rank} of {flat.n} directions: whether the state "
            "gets there is not known"
        )
        return "undetermined", reasons
    reasons.append(
        "E is attained where the controls move every direction: T* stays bounded as T grows"
    )
    reasons.append(f"E was minimised from {len(minima)} different minima found, not proven global")
    return "finite_time", reasons


def _unattained(z: np.ndarray, left: float, bend: float, reach: float) -> list[str]:
    if not np.all(np.isfinite(z)):
        return ["E was finite at no start of the search: pass x_guess"]
    falls = bend < 1e-6 and np.max(np.abs(z), initial=0.0) > reach
    if left <= 1e-6 and not falls:
        return []
    return [
        f"E is not attained: at the best state found, of size {np.max(np.abs(z)):.3g}, it still "
        "falls; T* grows with T"
    ]


def _reach(flat: Flat, z: Any, params: Any) -> int:
    """Rank of the fields F_j and of their first and second brackets at z."""

    def field(j: int) -> Any:
        return lambda z: flat.rate(z, jnp.zeros(flat.m).at[j].set(1.0), params)

    def bracket(f: Any, g: Any) -> Any:
        return lambda z: jax.jvp(g, (z,), (f(z),))[1] - jax.jvp(f, (z,), (g(z),))[1]

    z = jnp.asarray(z)
    own = [field(j) for j in range(flat.m)]
    values = [np.asarray(f(z)) for f in own]
    rank = int(np.linalg.matrix_rank(np.array(values), tol=1e-9))
    if rank == flat.n or flat.m > 12:
        return rank
    first = [bracket(own[i], own[j]) for i in range(flat.m) for j in range(i)]
    values += [np.asarray(f(z)) for f in first]
    if flat.m <= 4:
        values += [np.asarray(bracket(own[i], f)(z)) for i in range(flat.m) for f in first]
    return int(np.linalg.matrix_rank(np.array(values), tol=1e-9))

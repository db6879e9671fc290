"""Optimal control over long horizons: static optima, the turnpike verdict, extremals.

Convention: minimise the integral of L plus phi at the end; H = L + p . f is minimised over u,
x' = H_p, p' = -H_x + rho p, p(T) = phi_x(x(T)) at a free end.  A `ControlModel` holds the derived
functions; whatever is computed here is computed from them.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from derive.runtime.common.inputs import positive_integer
from derive.runtime.common.precision import precision
from derive.runtime.common.pure import no_tracers
from derive.runtime.control import extremals, sparse_control, sparse_turnpike, switching
from derive.runtime.control.continuation import Anchor, rates_of
from derive.runtime.control.coordinates import Flat, flatten
from derive.runtime.control.creases import kinked_goal
from derive.runtime.control.free_time import timed
from derive.runtime.control.function_checks import check_functions, check_one_of
from derive.runtime.control.inputs import (
    checked_params,
    checked_state,
    checked_turnpike,
    horizon,
    sizes_of,
    small_number,
)
from derive.runtime.control.pure import extremal
from derive.runtime.control.results import Extremal, Turnpike
from derive.runtime.control.sparse_checks import check_problem
from derive.runtime.control.specification import ControlModel
from derive.runtime.control.static_problem import StaticPoint, goals, static_points
from derive.runtime.control.static_problem import starts as static_starts
from derive.runtime.control.turnpike import linearise
from derive.runtime.control.verdict import minimises, unknown, verdict_on

__all__ = ["ControlModel", "extremal", "solve", "turnpike"]

JUMPS = (
    "a control has no price beside its bounds: it jumps between them or is singular, and there is "
    "no Hamiltonian matrix; solve(...) finds its switching times, and for a turnpike give every "
    "control a positive cost, such as beta / 2 |u|^2"
)
PURE = "extremal, hamiltonian, costate_rate and control can"


def turnpike(
    spec: ControlModel,
    params: Any,
    *,
    starts: int = 32,
    seed: int = 0,
    x_guess: Any = None,
    dtype: str = "float64",
) -> Turnpike:
    """Static optima by `starts` searches, and what the best one says about long horizons.

    **Arguments:** `x_guess`: a State near which to search first (also gives sizes that params
    do not).  Data with the shape of a state are tried as starts by themselves.
    Where the final time is free, or a control has no price beside its bounds, there is none: the
    verdict is "undetermined", with the reason.
    **Raises** ValueError for wrong input, an H_uu that is not positive definite, or functions
    that are not finite.
    """
    no_tracers("turnpike", PURE, params, x_guess)
    values, sizes = checked_params(spec, params)
    starts = positive_integer("starts", starts)
    guess = None
    if x_guess is not None:
        guess, batch = checked_state(spec, x_guess, sizes, "x_guess")
        if batch is not None:
            raise ValueError("x_guess takes one state, not a batch")
    with precision(dtype):
        flat = flatten(spec, sizes_of(sizes))
        if spec.free_time:
            return unknown(flat, "the final time is free: nothing is to be said of long horizons")
        if spec.switching and not spec.sparse:
            return unknown(flat, JUMPS)
        if spec.sparse and (spec.sparse != "elastic_net" or sparse_turnpike.rests(flat, values)):
            return sparse_turnpike.finite_time(flat, values, guess, starts, seed)
        points = _search(flat, values, guess, starts, seed)
        return verdict_on(flat, values, points, starts)


def _search(flat: Flat, params: Any, guess: Any, starts: int, seed: int) -> list[StaticPoint]:
    candidates = [] if guess is None else [np.asarray(flat.pack_x(guess))]
    candidates += goals(flat, params)
    first = static_starts(flat, candidates, starts, np.random.default_rng(seed))
    n = flat.n
    check_one_of(flat, first[:8, :n], first[:8, n : 2 * n], first[:8, 2 * n :], params)
    return static_points(flat, params, first)


def solve(
    spec: ControlModel,
    x0: Any,
    params: Any,
    *,
    T: float,
    x_end: Any = None,
    near: Turnpike | None = None,
    saves: Any = None,
    tolerance: float = 1e-8,
    most_intervals: int = 2048,
    starts: int = 16,
    seed: int = 0,
    dtype: str = "float64",
    progress: Any = None,
) -> Extremal:
    """The extremal from x0 over [0, T]: a boundary value problem solved by collocation.

    **Arguments:** `x0`: State, or a batch of them with one more axis in front; controls that are
    constant in time are fields of it too, there a first guess.  `x_end`: the last
    state, for problems with a fixed end.  `near`: a `turnpike` result to start from (else it is
    computed, with `starts` and `seed`).  `saves`: times or their number (default: the mesh).
    `tolerance`: on the relative defect between mesh points.  `starts`: of the search of static
    optima; up to four of them are also first guesses of the extremal: the cheapest one found is
    returned, the others' costs are among its notes.  `dtype`: of the result; all is computed in
    float64.
    **Raises** ValueError for wrong input, and where Newton's method or the mesh gives up: with
    what was reached and what to try.
    """
    no_tracers("solve", PURE, x0, params, T, x_end)
    values, sizes = checked_params(spec, params)
    state, batch = checked_state(spec, x0, sizes, "x0")
    T = horizon(T)
    tolerance = small_number("tolerance", tolerance)
    most_intervals = positive_integer("most_intervals", most_intervals)
    starts = positive_integer("starts", starts)
    near = None if near is None else checked_turnpike(near)
    how = {"tolerance": tolerance, "most": most_intervals, "saves": saves, "progress": progress}
    last = _last_state(spec, x_end, sizes)
    with precision(dtype) as kind, precision("float64"):  # Newton's method needs float64
        flat = flatten(spec, sizes_of(sizes))
        z0 = np.asarray(jax.vmap(flat.pack_x)(state) if batch else flat.pack_x(state)[None])
        zT = None if last is None else np.asarray(flat.pack_x(last))
        if spec.free_time:
            flat, z0, zT, T = _timed(flat, z0, zT, T, saves)
        how |= {"starts": starts, "seed": seed}
        guess = spec.state(*(v[0] for v in state)) if batch else state
        if spec.sparse in ("l1", "l2norm") and not switching_in(flat, z0, values):
            found = sparse_control.solve(flat, z0, values, T, len(z0), saves)
        elif spec.switching:
            some = {k: how[k] for k in ("saves", "starts", "seed")}
            found = switching.solve(flat, z0, values, T=T, zT=zT, **some)
        else:
            found = _smooth(flat, z0, values, guess, near, batch, {"T": T, "zT": zT, **how})
        found = found if batch else extremals.first(found)
        return found if kind == np.float64 else _rounded(found, kind)


def _smooth(
    flat: Flat,
    z0: np.ndarray,
    params: Any,
    guess: Any,
    near: Turnpike | None,
    batch: int | None,
    how: dict[str, Any],
) -> Extremal:
    """Extremals of a continuous control law, by collocation."""
    if flat.spec.free_time:
        anchor = Anchor(z0[0], np.zeros(flat.n), np.zeros(flat.m), 0.0, 1.0)
    else:
        here = "at x0" if batch is None else "at x0[{}]"
        starts, seed = how["starts"], how["seed"]
        anchor = _checked_anchor(flat, params, near, guess, z0, starts, seed, here)
    try:
        return extremals.solve(flat, z0, params, anchor=anchor, **how)
    except ValueError as error:
        kink = None if "kink" in str(error) else kinked_goal(flat, params)
        if kink is None:
            raise
        raise ValueError(f"{error}; {kink}") from None


def _rounded(found: Extremal, kind: np.dtype) -> Extremal:
    """The result in numbers of this kind."""

    def rounded(value: Any) -> Any:
        return value.astype(kind) if getattr(value, "dtype", None) == np.float64 else value

    return jax.tree.map(rounded, found._replace(notes=()))._replace(notes=found.notes)


def switching_in(flat: Flat, z0: np.ndarray, params: Any) -> bool:
    """Whether full amplitude up to one time, then rest, need not be the shape of the optimum."""
    if not flat.spec.switching:
        return False
    try:
        radius = sparse_control.radius_of(flat, params)
        weight = sparse_control.weight_of(flat, params, z0[0])
        norm = sparse_control.norm_of(flat)
        check_problem(flat, norm, z0[0], weight, radius, params)
    except ValueError:
        return True
    return False


def _timed(
    flat: Flat, z0: np.ndarray, zT: np.ndarray | None, T: float, saves: Any
) -> tuple[Flat, np.ndarray, np.ndarray | None, float]:
    """The problem on the unit interval, from the guess T of its length."""
    if saves is not None and np.ndim(saves):
        raise ValueError("the final time is free: saves takes the number of times, not the times")
    first = np.concatenate([z0, np.full((len(z0), 1), T)], 1)
    return timed(flat), first, None if zT is None else np.append(zT, T), 1.0


def _last_state(spec: ControlModel, x_end: Any, sizes: dict[str, tuple[Any, ...]]) -> Any:
    """The State at a fixed end; None where the end is free."""
    if not spec.fixed_end:
        if x_end is not None:
            raise ValueError("this problem has a free end: x_end cannot be prescribed")
        return None
    if x_end is None:
        raise ValueError("this problem has a fixed end: pass x_end, the state at time T")
    last, several = checked_state(spec, x_end, sizes, "x_end")
    if several is not None:
        raise ValueError("x_end takes one state, not a batch")
    return last


def _checked_anchor(
    flat: Flat,
    params: Any,
    near: Turnpike | None,
    guess: Any,
    z0: np.ndarray,
    starts: int,
    seed: int,
    here: str,
) -> Anchor:
    """Where the first guess rests; raises where the functions fail at z0, `here` in words."""

    def check(q: Any, v: Any) -> None:
        check_functions(flat, z0, q, v, params, here.format)

    refusal: ValueError | None = None
    try:
        check(np.zeros(flat.n), np.zeros(flat.m))
    except ValueError as error:  # p = 0 may have no control, as with a cost -log(u)
        refusal = error
    try:
        points = [] if near is not None else _search(flat, params, guess, starts, seed)
    except ValueError as error:
        raise refusal or error from None
    points = [p for p in points if np.all(np.isfinite(p.z))]
    anchor = _anchor(flat, params, near, points, z0)
    if refusal is not None:
        check(anchor.q, anchor.v)
    return anchor


def _anchor(
    flat: Flat, params: Any, near: Turnpike | None, points: list[StaticPoint], z0: np.ndarray
) -> Anchor:
    """The point around which the first guess is built: the turnpike, or else the first state."""
    if near is not None and np.all(np.isfinite(flat.pack_x(near.x))):
        z, v = np.asarray(flat.pack_x(near.x)), np.asarray(flat.pack_u(near.u))
        q = np.asarray(flat.pack_x(flat.spec.state(*near.p)))
        slow, fast = rates_of(near.rates)
        return Anchor(z, q, v, slow, fast)
    for point in points:
        try:
            lin, _ = linearise(flat, point, params)
            if not minimises(flat, point, params, lin):
                continue
            spectrum = np.linalg.eigvals(lin.matrix)
        except (np.linalg.LinAlgError, ValueError):
            continue
        slow, fast = rates_of(np.abs(spectrum.real))
        return Anchor(point.z, point.q, point.v, slow, fast)
    zero = np.zeros(flat.n)
    return Anchor(z0[0], zero, np.zeros(flat.m), 0.0, 1.0)

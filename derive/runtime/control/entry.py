"""Optimal control over long horizons: static optima, the turnpike verdict, extremals.

Convention: minimise the integral of L plus phi at the end; H = L + p . f is minimised over u,
x' = H_p, p' = -H_x + rho p, p(T) = phi_x(x(T)) at a free end.  A `ControlModel` holds the derived
functions; whatever is computed here is computed from them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.runtime.common.inputs import positive_integer
from derive.runtime.common.precision import precision
from derive.runtime.control import extremals, sparse_control, sparse_turnpike
from derive.runtime.control.continuation import Anchor, rates_of
from derive.runtime.control.coordinates import Flat, flatten, on_sphere
from derive.runtime.control.creases import creased
from derive.runtime.control.inputs import (
    checked_params,
    checked_state,
    checked_turnpike,
    horizon,
    sizes_of,
    small_number,
)
from derive.runtime.control.results import Extremal, Turnpike
from derive.runtime.control.specification import ControlModel
from derive.runtime.control.static_problem import StaticPoint, static_points
from derive.runtime.control.static_problem import starts as static_starts
from derive.runtime.control.turnpike import (
    Linearised,
    bends,
    hautus,
    is_minimum,
    judge,
    law_slope,
    linearise,
)


@lru_cache(maxsize=32)
def _values(flat: Flat) -> Any:
    """Every function of the problem at points (batch, ...), by name, and H_uu there."""

    def find(z: Any, q: Any, v: Any, params: Any) -> tuple[dict[str, Any], Any]:
        v = flat.law(z, q, v, params)
        values = {
            "running_cost": flat.running(z, v, params),
            "state_rate": flat.rate(z, v, params),
            "costate_rate": flat.costate_rate(z, q, v, params),
            "stationarity": flat.stationarity(z, q, v, params),
            "terminal_cost": flat.terminal(z, params),
            "terminal_rate": flat.terminal_rate(z, params),
        }
        return values, jax.jacfwd(flat.stationarity, 2)(z, q, v, params)

    return jax.jit(jax.vmap(find, (0, None, None, None)))


def _check_functions(
    flat: Flat, z: Any, q: Any, v: Any, params: Any, where: Callable[[int], str]
) -> None:
    """At states z (batch, n): raise where a function is not finite, or H_uu not positive."""
    values, curvature = jax.tree.map(np.asarray, _values(flat)(z, q, v, params))
    for name, value in values.items():
        if not np.all(np.isfinite(value)):
            k, *rest = np.argwhere(~np.isfinite(value))[0]
            control = flat.law(jnp.asarray(z[k]), jnp.asarray(q), jnp.asarray(v), params)
            raise ValueError(
                f"{name} is {value[(k, *rest)]} {where(int(k))}, at state "
                f"{_show(flat.point(z[k]))} and control {_show(flat.control(control))}; "
                "check the definition there (log, sqrt or division at the edge of its range?)"
                + (
                    ""
                    if np.all(np.isfinite(np.asarray(control)))
                    else ", and whether H_uu = 0 there (a cost like u^4 is flat at u = 0: add "
                    "beta / 2 |u|^2)"
                )
            )
    if flat.m and flat.spec.sparse not in ("l1", "l2norm"):
        least = np.linalg.eigvalsh((curvature + np.swapaxes(curvature, -1, -2)) / 2)[:, 0]
        k = int(np.argmin(least))
        if not least[k] > 1e-12 * max(1.0, float(np.abs(curvature).max())):
            raise _not_convex(float(least[k]), where(k), bool(flat.spec.bounds))


def _check_one_of(flat: Flat, z: Any, q: Any, v: Any, params: Any) -> None:
    """Raise if the functions fail at each of these points, with what the first of them said."""
    refusal: ValueError | None = None
    for k in range(len(z)):
        try:
            _check_functions(
                flat, z[k : k + 1], q[k], v[k], params, lambda k: "at the start of a static search"
            )
        except ValueError as error:
            refusal = refusal or error
        else:
            return
    if refusal is not None:
        raise refusal


def _not_convex(least: float, where: str, bounded: bool = False) -> ValueError:
    if bounded:
        return ValueError(
            f"H_uu is not positive definite {where}: its smallest eigenvalue is {least:.4g}; "
            "within bounds alone the control jumps between them (or is singular), which no "
            "collocation finds; give every control a positive cost, such as beta / 2 |u|^2"
        )
    return ValueError(
        f"H_uu is not positive definite {where}: its smallest eigenvalue is {least:.4g}, so no "
        "control minimises H; give every control a cost with positive weight"
    )


def _show(tree: Any) -> str:
    texts = (
        f"{name} = {np.array2string(np.asarray(value), precision=4, threshold=12)}"
        for name, value in tree._asdict().items()
    )
    return ", ".join(texts).replace("\n", "")


# entry points


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
    **Raises** ValueError for wrong input, an H_uu that is not positive definite, or functions
    that are not finite.
    """
    values, sizes = checked_params(spec, params)
    starts = positive_integer("starts", starts)
    guess = None
    if x_guess is not None:
        guess, batch = checked_state(spec, x_guess, sizes, "x_guess")
        if batch is not None:
            raise ValueError("x_guess takes one state, not a batch")
    with precision(dtype):
        flat = flatten(spec, sizes_of(sizes))
        if spec.sparse and (spec.sparse != "elastic_net" or sparse_turnpike.rests(flat, values)):
            return sparse_turnpike.finite_time(flat, values, guess, starts, seed)
        points = _search(flat, values, guess, starts, seed)
        return _verdict(flat, values, points, starts)


def _search(flat: Flat, params: Any, guess: Any, starts: int, seed: int) -> list[StaticPoint]:
    candidates = [] if guess is None else [np.asarray(flat.pack_x(guess))]
    candidates += _goals(flat, params)
    first = static_starts(flat, candidates, starts, np.random.default_rng(seed))
    n = flat.n
    _check_one_of(flat, first[:8, :n], first[:8, n : 2 * n], first[:8, 2 * n :], params)
    return static_points(flat, params, first)


def _goals(flat: Flat, params: Any) -> list[np.ndarray]:
    """Data with the shape of the state: they may be goals."""
    spec = flat.spec
    names = spec.state._fields  # type: ignore[attr-defined]
    return [
        np.asarray(flat.pack_x(spec.state(getattr(params, name))))
        for name, shape in spec.param_shapes.items()
        if len(names) == 1 and tuple(shape) == tuple(spec.state_shapes[names[0]])
    ]


def _kinked_goal(flat: Flat, params: Any) -> str | None:
    """Words on a goal at which the dynamics or a cost have a kink, if there is one."""
    for z in (*_goals(flat, params), np.zeros(flat.n)):
        if creased(flat, z, np.zeros(flat.n), np.zeros(flat.m), params):
            return (
                f"the dynamics or a cost have a kink at {_show(flat.point(z))}: if the optimum "
                "rests there it arrives exactly, which no smooth extremal does; make it smooth, "
                "sqrt(x**2 + eps) for |x| say, or price its square"
            )
    return None


def _verdict(flat: Flat, params: Any, points: list[StaticPoint], starts: int) -> Turnpike:
    if not points:
        empty = np.zeros(0)
        nothing = flat.point(np.full(flat.n, np.nan))
        reason = f"no static point found in {starts} starts; pass x_guess, or more starts"
        kink = _kinked_goal(flat, params)
        reason = reason if kink is None else f"{reason}; {kink}"
        return Turnpike(
            nothing,
            flat.costate(np.full(flat.n, np.nan)),
            flat.control(np.full(flat.m, np.nan)),
            np.nan,
            empty,
            np.nan,
            "undetermined",
            (reason,),
            empty,
            np.zeros((0, 0)),
            None,
            np.zeros((0, 0)),
            np.nan,
            (),
        )
    judged = []
    for point in points:
        lin, ends = linearise(flat, point, params)
        minimum = _convex(lin)[0] and is_minimum(_whole(flat, point, params, lin))
        judged.append((point._replace(minimum=minimum), lin, ends))
    best = next((k for k, (p, _, _) in enumerate(judged) if p.minimum), 0)
    point, lin, ends = judged[best]
    convex, least = _convex(lin)
    if not convex and least > -1e-9 * max(1.0, float(np.abs(lin.R).max())):
        raise ValueError(
            f"H_uu = 0 at the static optimum (smallest eigenvalue {least:.3g}): the cost of the "
            "control is flat there to second order, as u^4 is, so the law of the control has no "
            "derivative and there is no linearisation; add beta / 2 |u|^2"
        )
    if not convex:
        raise _not_convex(least, "at the static optimum", bool(flat.spec.bounds))
    # A cost of the control alone prefers no state, unless curved dynamics price it in H_xx.
    blind = _blind(flat, params, point) and float(np.max(np.abs(lin.Q), initial=0.0)) < 1e-9
    found = judge(lin, ends, fixed_end=flat.spec.fixed_end, blind=blind)
    verdict, reasons = found.verdict, list(found.reasons)
    minima = [p for p, _, _ in judged if p.minimum]
    ties = [p for p in minima if p.cost - point.cost < 1e-8 * (1 + abs(point.cost))]
    if not point.minimum:
        verdict = "undetermined"
        reasons.insert(0, "no static point found is a minimum of the static problem")
    elif len(ties) > 1 and verdict != "none":
        verdict = "non_unique"
        reasons.insert(
            0, f"{len(ties)} different static optima of the same cost {point.cost:.9g} were found"
        )
    others = len(judged) - len(ties)
    if others > 0 and point.minimum:
        costs = ", ".join(f"{p.cost:.6g}" for p, _, _ in judged if p.cost > point.cost)
        reasons.append(f"{others} other static points, of costs {costs[:120]}")
    if flat.spec.constant:
        names = ", ".join(flat.spec.constant)
        reasons.append(
            f"{names}, constant in time, at the static optimum: rates are those of the other "
            "variables; on a horizon T the best constant may differ from it by O(1/T)"
        )
    if flat.bent:
        reasons.append(_activity(flat, params, point))
        if bends(flat, point, params) and verdict != "none":
            verdict = "undetermined"
            reasons.insert(
                0,
                "a bound or dead zone of the control is just touched at the static optimum: the "
                "system is not differentiable there, and its rates hold on one side only",
            )
    verdict, first = _not_smooth(flat, params, point, verdict)
    if first and "infinity" in first[0]:
        reasons = []  # what a linearisation out there says is rounding
    reasons = [*first, *reasons]
    reasons.append(f"static optimum found by search from {starts} starts, not proven global")
    candidates = tuple(
        (
            p.cost,
            p.residual,
            p.minimum,
            _numpy(flat.point(p.z)),
            _numpy(flat.costate(p.q)),
            _numpy(flat.control(p.v)),
        )
        for p, _, _ in judged
    )
    return Turnpike(
        candidates[best][3],
        candidates[best][4],
        candidates[best][5],
        point.cost,
        found.rates,
        found.rate if verdict in ("exponential", "entry_only", "non_unique") else np.nan,
        verdict,
        tuple(reasons),
        found.spectrum,
        lin.matrix,
        found.riccati,
        lin.basis,
        point.residual,
        candidates,
    )


def _not_smooth(flat: Flat, params: Any, point: StaticPoint, verdict: str) -> tuple[str, list[str]]:
    """The verdict where the linearisation at a static point means something, else undetermined."""
    reach = 10 * (1 + max((float(np.max(np.abs(a), initial=0)) for a in params), default=0.0))
    if verdict != "exponential" and np.max(np.abs(point.z), initial=0.0) > reach:
        return "undetermined", [
            f"the static search runs off to infinity (state of size {np.max(np.abs(point.z)):.3g}):"
            " the least running cost may not be attained"
        ]
    if creased(flat, point.z, point.q, point.v, params):
        return "undetermined", [
            "the state sits on a kink of the dynamics or of a cost at the static optimum: there is "
            "no linearisation, and an arrival in finite time is possible"
        ]
    if flat.spec.fixed_end and verdict in ("exponential", "entry_only", "non_unique"):
        lin, _ = linearise(flat, point, params)
        lost = hautus(lin.reduced[0].T, lin.reduced[1], -np.inf, 1e-6 * (1 + np.abs(lin.A).max()))
        if lost:
            return "undetermined", [
                "the end is fixed, and no control acts on the modes at eigenvalue "
                + ", ".join(
                    f"{s.real:.4g}{s.imag:+.4g}i" if abs(s.imag) > 1e-9 else f"{s.real:.4g}"
                    for s in lost
                )
                + ": an end is out of reach unless the free motion leads there"
            ]
    return verdict, []


def _convex(lin: Linearised) -> tuple[bool, float]:
    """Whether H_uu is positive definite, and its least eigenvalue."""
    if not len(lin.R):
        return True, np.inf
    least = float(np.linalg.eigvalsh(lin.R)[0])
    return least > 1e-12 * max(1.0, float(np.abs(lin.R).max())), least


def _whole(flat: Flat, point: StaticPoint, params: Any, lin: Linearised) -> Linearised:
    """The linearisation with the constant controls free to move, as the static problem has them."""
    return linearise(flat, point, params, whole=True)[0] if flat.spec.constant else lin


def _numpy(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)


def _blind(flat: Flat, params: Any, point: StaticPoint) -> bool:
    """Whether the running cost ignores the state: its gradient vanishes wherever one looks."""
    rng = np.random.default_rng(0)
    for _ in range(6):
        z = on_sphere(flat, jnp.asarray(point.z + 0.3 * rng.standard_normal(flat.n)))
        v = jnp.asarray(point.v + 0.3 * rng.standard_normal(flat.m))
        if float(jnp.max(jnp.abs(jax.grad(flat.running)(z, v, params)))) > 1e-12:
            return False
    return True


def _activity(flat: Flat, params: Any, point: StaticPoint) -> str:
    slope = np.asarray(flat.stationarity(point.z, point.q, point.v, params))
    active = np.abs(slope) > 1e-7
    if not active.any():
        return "no bound is active at the static optimum"
    moves = np.any(np.abs(law_slope(flat, point.z, point.q, point.v, params)) > 1e-12, 1)
    held, zero = int(np.sum(active & ~moves)), int(np.sum(active & ~moves & (point.v == 0)))
    return (
        f"bounds and norms act on {int(np.sum(active))} of {len(active)} controls at the static "
        f"optimum: {held} are held ({zero} of them at zero); rates are those with the held fixed"
    )


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
    `tolerance`: on the relative defect between mesh points.
    **Raises** ValueError for wrong input, and where Newton's method or the mesh gives up: with
    what was reached and what to try.
    """
    values, sizes = checked_params(spec, params)
    state, batch = checked_state(spec, x0, sizes, "x0")
    T = horizon(T)
    tolerance = small_number("tolerance", tolerance)
    most_intervals = positive_integer("most_intervals", most_intervals)
    starts = positive_integer("starts", starts)
    if near is not None:
        near = checked_turnpike(near)
    last = None
    if spec.fixed_end:
        if x_end is None:
            raise ValueError("this problem has a fixed end: pass x_end, the state at time T")
        last, several = checked_state(spec, x_end, sizes, "x_end")
        if several is not None:
            raise ValueError("x_end takes one state, not a batch")
    elif x_end is not None:
        raise ValueError("this problem has a free end: x_end cannot be prescribed")
    with precision(dtype):
        flat = flatten(spec, sizes_of(sizes))
        z0 = np.asarray(jax.vmap(flat.pack_x)(state) if batch else flat.pack_x(state)[None])
        if spec.sparse in ("l1", "l2norm"):
            return sparse_control.solve(flat, z0, values, T, batch, saves)

        guess = spec.state(*(v[0] for v in state)) if batch else state

        def check(q: Any, v: Any) -> None:
            here = "at x0" if batch is None else "at x0[{}]"
            _check_functions(flat, z0, q, v, values, here.format)

        refusal: ValueError | None = None
        try:
            check(np.zeros(flat.n), np.zeros(flat.m))
        except ValueError as error:  # p = 0 may have no control, as with a cost -log(u)
            refusal = error
        try:
            points = [] if near is not None else _search(flat, values, guess, starts, seed)
        except ValueError as error:
            raise refusal or error from None
        zT = None if last is None else np.asarray(flat.pack_x(last))
        points = [p for p in points if np.all(np.isfinite(p.z))]
        anchor = _anchor(flat, values, near, points, z0)
        if refusal is not None:
            check(anchor.q, anchor.v)
        try:
            found = extremals.solve(
                flat,
                z0,
                values,
                T=T,
                zT=zT,
                anchor=anchor,
                saves=saves,
                tolerance=tolerance,
                most=most_intervals,
                progress=progress,
            )
        except ValueError as error:
            kink = None if "kink" in str(error) else _kinked_goal(flat, values)
            if kink is None:
                raise
            raise ValueError(f"{error}; {kink}") from None
        return found if batch else extremals.first(found)


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
            if not _convex(lin)[0] or not is_minimum(_whole(flat, point, params, lin)):
                continue
            spectrum = np.linalg.eigvals(lin.matrix)
        except (np.linalg.LinAlgError, ValueError):
            continue
        slow, fast = rates_of(np.abs(spectrum.real))
        return Anchor(point.z, point.q, point.v, slow, fast)
    zero = np.zeros(flat.n)
    return Anchor(z0[0], zero, np.zeros(flat.m), 0.0, 1.0)


def solution_map(
    spec: ControlModel, x0: Any, params: Any, *, T: float, x_end: Any = None, **options: Any
) -> Callable[..., Any]:
    """`map(x0, params) -> (x, p, u, cost)` on the mesh found for this x0: pure and differentiable.

    The mesh is refined once, here; the map then runs Newton from the solution found, and its
    derivatives are those of the implicit rule, forwards or backwards.  Call it inside
    ``with precision("float64")`` (or with x64 enabled), under jax.grad, jax.jacfwd or jax.jit.
    """
    tolerance = options.get("tolerance", 1e-8)
    options.pop("saves", None)
    found = solve(spec, x0, params, T=T, x_end=x_end, **options)
    if found.cost.ndim:
        raise ValueError("solution_map takes one x0; map the result with jax.vmap")
    values, sizes = checked_params(spec, params)
    state, _ = checked_state(spec, x0, sizes, "x0")
    with precision(options.get("dtype", "float64")):
        flat = flatten(spec, sizes_of(sizes))
        return extremals.differentiable(
            flat, found, None if x_end is None else flat.pack_x(spec.state(*x_end)), tolerance
        )

"""L5 of control problems: what the module's solver returns, against the text alone.

A solution is held to the definition's own text in NumPy: x' = f and p' = -H_x (+ rho p) by
Simpson's rule along the returned arrays, with H_x by complex steps; the end condition; the
control against other admissible ones; the cost by quadrature.  `extremal` is held to `solve`, and
its derivative to the costate.  Nothing else of the derivation and the module is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jax
import numpy as np

from derive.draws import generator
from derive.methods.optimal_control import instances, law_checks
from derive.methods.optimal_control.instances import Point, inside, reached
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.scalars import number
from derive.notation.control.definition import ControlDefinition
from derive.runtime.control.results import Turnpike
from derive.verify.common.rung import Rung, digit

CLAIM = (
    "states, costates, controls, ends and cost of `solve` against the text; `extremal` beside it"
)
TRIES = ((20, 0.3), (21, 0.3), (20, 0.05), (22, 0.05), (20, 1.0))
_TINY = 1e-30


def solver(result: OptimalControl, module: ModuleType) -> Rung:
    """The module's `solve` at a random instance, judged by the text."""
    reason = ""
    for seed, T in TRIES:
        at = inside(result.model, seed)
        found = None
        for guessed in (True, False):
            try:
                found = found or _solved(result, module, at, T, guessed)
            except ValueError as refusal:
                reason = reason or str(refusal)
        if found is None:
            continue
        loose = bool(result.law.sparse) or bool(result.bounds)
        figures = _figures(result, at, found)
        most = {k: 5e-3 if loose else 1e-3 for k in figures}
        if not loose and not result.free_time:
            pure, limit = _pure(result, module, at, found, T)
            figures, most = figures | pure, most | dict.fromkeys(pure, limit)
        bad = [k for k, v in figures.items() if not v <= most[k]]
        return Rung(
            "L5 solver",
            CLAIM,
            not bad,
            {
                **{k: digit(v) for k, v in figures.items()},
                "T": T,
                "intervals": len(found.times) - 1,
            },
            f"relative error of a rate, an end or the cost: {max(most.values()):.0e}",
        )
    return Rung("L5 solver", CLAIM, False, unreached=f"no instance was solved: {reason}")


def _solved(result: OptimalControl, module: ModuleType, at: Point, T: float, guessed: bool) -> Any:
    """`guessed`: from the instance itself, where a static search may leave the text's domain."""
    params, x0, ends = _given(result, module, at, T)
    options: dict[str, Any] = {} if result.law.sparse in ("l1", "l2norm") else {"saves": _times(T)}
    if result.free_time:
        options["saves"] = len(_times(T))
    if guessed:
        options["near"] = _near(result.model, module, at)
    return module.solve(x0, params, T=T, starts=4, **ends, **options)


def _given(
    result: OptimalControl, module: ModuleType, at: Point, T: float
) -> tuple[Any, Any, dict[str, Any]]:
    """Parameters, first state, and the last one where it is fixed."""
    model = result.model
    values: dict[str, Any] = {q.name: at.params[q.name] for q in model.params}
    values |= {s.name: at.arrays[s.name] for s in model.data}
    x0 = module.State(*(at.arrays[s.name] for s in model.states))
    ends = {"x_end": module.State(*reached(model, at, T))} if result.fixed_end else {}
    return module.Params(**values), x0, ends


def _pure(
    result: OptimalControl, module: ModuleType, at: Point, found: Any, T: float
) -> tuple[dict[str, float], float]:
    """`extremal` on the mesh of what was solved against it, and dJ/dx0 = p(0) by its derivative.

    The figures, and how large they may be: more where a kink makes the mesh a bad one.
    """
    params, x0, ends = _given(result, module, at, T)

    def cost(x0: Any) -> tuple[Any, Any]:
        again = module.extremal(x0, params, T=T, near=found, **ends)
        return again.cost, again

    slope, again = jax.jit(jax.grad(cost, has_aux=True))(x0)
    pairs = [(_flat(a), _flat(b)) for a, b in ((again.x, found.x), (again.u, found.u))]
    gaps = [np.max(np.abs(a - b)) / (1 + np.max(np.abs(b))) for a, b in pairs]
    figures = {"extremal": float(np.max(np.nan_to_num(gaps, nan=np.inf)))}
    if not any(s.kind == "sphere" for s in result.model.states):
        first = _flat([p[0] for p in found.p])
        off = np.max(np.abs(_flat(slope) - first)) / (1 + np.max(np.abs(first)))
        figures["dJ/dx0 = p(0)"] = float(np.nan_to_num(off, nan=np.inf))
    return figures, 1e-5 + 10 * float(np.nan_to_num(again.defect))


def _near(model: ControlDefinition, module: ModuleType, at: Point) -> Turnpike:
    """A point to start from: the instance, with the costate that holds its control (H_u = 0)."""
    states, controls = ([at.arrays[s.name] for s in g] for g in (model.states, model.controls))

    def slopes(p: np.ndarray) -> np.ndarray:
        """H_u of the text under a costate, entry by entry."""
        changes, first = {}, 0
        for slot, x in zip(model.states, states, strict=True):
            changes[f"p_{slot.name}"] = p[first : first + x.size].reshape(x.shape)
            first += x.size
        out = []
        for slot, u in zip(model.controls, controls, strict=True):
            for index in np.ndindex(*u.shape):
                moved = u.astype(complex)
                moved[index] += 1j * _TINY
                H = instances.text_hamiltonian(model, at, {**changes, slot.name: moved})
                out.append(np.imag(H) / _TINY)
        return np.array(out)

    size = sum(x.size for x in states)
    at_zero = slopes(np.zeros(size))
    matrix = np.array([slopes(e) - at_zero for e in np.eye(size)]).T.reshape(-1, size)
    p = np.linalg.lstsq(matrix, -at_zero, rcond=1e-9)[0]
    parts = np.split(p, np.cumsum([x.size for x in states])[:-1])
    costate = [q.reshape(x.shape) for q, x in zip(parts, states, strict=True)]
    costate = [
        (q + q.T) / 2 if s.kind == "symmetric" else q
        for s, q in zip(model.states, costate, strict=True)
    ]
    nothing, none = np.zeros(0), np.zeros((0, 0))
    return Turnpike(
        module.State(*states),
        module.Costate(*costate),
        module.Control(*controls),
        cost=0.0,
        rates=nothing,
        rate=float("nan"),
        verdict="undetermined",
        reasons=(),
        spectrum=nothing,
        matrix=none,
        riccati=None,
        basis=none,
        residual=0.0,
        candidates=(),
    )


def _times(T: float, count: int = 96) -> np.ndarray:
    """Ends of intervals that are short at both ends of [0, T], and their midpoints."""
    s = np.linspace(0.0, 1.0, count + 1)
    ends = T * (s - np.sin(2 * np.pi * s) / (2 * np.pi))
    ends[-1] = T
    return np.sort(np.concatenate([ends, (ends[1:] + ends[:-1]) / 2]))


def _figures(result: OptimalControl, at: Point, found: Any) -> dict[str, float]:
    model, times = result.model, np.asarray(found.times)
    names = [s.name for s in model.states]
    rho = number(result.discount, at.numbers)

    def here(k: int, which: int) -> dict[str, np.ndarray]:
        out = {n: np.asarray(getattr(found.x, n)[k]) for n in names}
        out |= {f"p_{n}": np.asarray(getattr(found.p, n)[k]) for n in names}
        return out | {s.name: np.asarray(getattr(found.u, s.name)[which]) for s in model.controls}

    def look(k: int, which: int) -> _Rates:
        changes = here(k, which)
        f, cost, _ = instances.text_values(model, at, changes)
        force = [
            rho * changes[f"p_{n}"] - g
            for n, g in zip(names, _slope(model, at, changes), strict=True)
        ]
        return _flat(f), _flat(force), float(np.real(cost)) * float(np.exp(-rho * times[k]))

    x, p = (
        np.array([_flat([getattr(of, n)[k] for n in names]) for k in range(len(times))])
        for of in (found.x, found.p)
    )
    if found.stop is not None:  # two phases: the control is constant on each interval
        rates, forces, running = _by_trapezoids(times, look)
        dx, dp = np.diff(x, axis=0), np.diff(p, axis=0)
    else:
        rates, forces, running = _by_simpson(times, look)
        dx, dp = x[2::2] - x[:-2:2], p[2::2] - p[:-2:2]
    last = here(-1, -1)
    terminal = instances.text_values(model, at, last)[2]
    total = float(np.sum(running)) + float(np.exp(-rho * times[-1])) * float(np.real(terminal))
    moving = [s.name for s in model.states if s.kind != "constant"]
    first = _flat([at.arrays[n] for n in moving])
    began = _flat([getattr(found.x, n)[0] for n in moving])
    return {
        "x' = f": _off(dx, np.array(rates)),
        "p' = -H_x": _off(dp, np.array(forces)),
        "first state": float(np.max(np.abs(first - began), initial=0.0)),
        "end": _end(result, at, last),
        "control minimises H": _excess(result, at, [here(k, k) for k in _few(len(times))]),
        "cost": abs(total - float(found.cost)) / (1 + abs(total)),
    }


_Rates = tuple[np.ndarray, np.ndarray, float]  # x', p' and the running cost, discounted
_Look = Callable[[int, int], _Rates]  # by the node of the state, and that of the control


def _by_trapezoids(times: np.ndarray, look: _Look) -> Iterator[list[Any]]:
    """Integrals of the rates over every interval, with the control of its first node."""
    pairs = [(look(k, k), look(k + 1, k)) for k in range(len(times) - 1)]
    for j in range(3):
        yield [step * (a[j] + b[j]) / 2 for step, (a, b) in zip(np.diff(times), pairs, strict=True)]


def _by_simpson(times: np.ndarray, look: _Look) -> Iterator[list[Any]]:
    """Integrals of the rates over every two intervals, whose nodes are evenly spaced."""
    at = [look(k, k) for k in range(len(times))]
    for j in range(3):
        yield [
            s * (at[2 * k][j] + 4 * at[2 * k + 1][j] + at[2 * k + 2][j]) / 6
            for k, s in enumerate(times[2::2] - times[:-2:2])
        ]


def _few(count: int) -> list[int]:
    return sorted({int(k) for k in np.linspace(0, count - 2, 9)})


def _flat(parts: Any) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(a)) for a in parts])


def _off(moved: np.ndarray, integrals: np.ndarray) -> float:
    """The median over time: a kink of the control inside an interval spoils that one alone."""
    each = np.max(np.abs(moved - integrals), 1)
    return float(np.median(each) / max(float(np.median(np.max(np.abs(integrals), 1))), 1e-6))


def _slope(model: ControlDefinition, at: Point, changes: dict[Any, Any]) -> list[np.ndarray]:
    """H_x of the text, entry by entry."""
    out = []
    for slot in model.states:
        own = np.asarray(changes[slot.name], float)
        slope = np.zeros(own.shape)
        for index in np.ndindex(*own.shape):
            moved = own.astype(complex)
            moved[index] += 1j * _TINY
            slope[index] = (
                np.imag(instances.text_hamiltonian(model, at, {**changes, slot.name: moved}))
                / _TINY
            )
        out.append((slope + slope.T) / 2 if slot.kind == "symmetric" else slope)
    return out


def _end(result: OptimalControl, at: Point, last: dict[Any, Any]) -> float:
    """p(T) against the slope of the text's terminal cost; nothing at a fixed end."""
    if result.fixed_end:
        return 0.0
    worst = 0.0
    for slot in result.model.states:
        own = np.asarray(last[slot.name], float)
        slope = np.zeros(own.shape)
        for index in np.ndindex(*own.shape):
            moved = own.astype(complex)
            moved[index] += 1j * _TINY
            if slot.kind == "sphere":
                moved = moved / np.sqrt((moved * moved).sum(-1, keepdims=True))
            terminal = instances.text_values(result.model, at, {**last, slot.name: moved})[2]
            slope[index] = np.imag(terminal) / _TINY
        slope = (slope + slope.T) / 2 if slot.kind == "symmetric" else slope
        gap = np.max(np.abs(slope - last[f"p_{slot.name}"]), initial=0.0)
        worst = max(worst, float(gap) / (1 + float(np.max(np.abs(slope), initial=0.0))))
    return worst


def _excess(result: OptimalControl, at: Point, points: list[dict[Any, Any]]) -> float:
    """By how much the text's H at the control exceeds H at admissible others, near and far."""
    model, worst = result.model, 0.0
    rng = generator(11)
    for changes in points:
        own = float(np.real(instances.text_hamiltonian(model, at, changes)))
        for k in range(60 if model.controls else 0):
            other = dict(changes)
            for slot in model.controls:
                u = changes[slot.name]
                other[slot.name] = u + 10.0 ** (-(k % 4)) * rng.standard_normal(np.shape(u))
            other = law_checks.admissible(result, other, at)
            with np.errstate(all="ignore"):
                value = np.real(instances.text_hamiltonian(model, at, other))
            if np.isfinite(value):
                worst = max(worst, (own - float(value)) / (1 + abs(own)))
    return worst

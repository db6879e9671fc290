"""Random instances of a control problem, and its text run there on NumPy arrays.

Values of the dynamics, costs and Hamiltonian of the text; values of derived expressions at the
same instances.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import sympy as sp

from derive.draws import generator
from derive.methods.common.parameters import sample
from derive.methods.optimal_control.moment_dynamics import numeric_rates, run_problem
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.arrays import Array
from derive.notation.common.graph import value
from derive.notation.common.tracing import Rates
from derive.notation.control.definition import ControlDefinition
from derive.notation.control.slots import Slot
from derive.notation.control.words import Problem

_SEED = 20
INSTANCES = 3
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Point:
    """Numbers for everything: arrays by name, dimensions, parameters."""

    arrays: dict[str, np.ndarray]
    dims: dict[str, float]
    params: dict[str, float]
    numbers: dict[sp.Symbol, float]


def point(
    model: ControlDefinition,
    seed: int,
    reach: float | None = None,
    most: int | None = None,
    given: Mapping[str, int] = MappingProxyType({}),
) -> Point:
    """A random instance: small unequal dimensions, entries of both signs, some of them large.

    Symmetric data and states are positive definite: they may be covariances.  `most`: sizes are 2
    to `most`; `given`: those by dimension that are to be these.
    """
    rng = generator(_SEED, seed)
    sizes = rng.permutation(len(model.dims)) + 2
    if most is not None:
        sizes = 2 + (sizes + seed) % (most - 1)
    dims = {d.name: float(k) for d, k in zip(model.dims, sizes, strict=True)}
    dims |= {name: float(size) for name, size in given.items()}
    params = {q.name: float(sample(q, rng)) for q in model.params}
    reach = (0.7, 1.0, 2.0)[seed % 3] if reach is None else reach
    arrays = {}
    for slot in model.data:
        arrays[slot.name] = _draw(slot, dims, rng, reach, positive=True)
    for slot in (*model.states, *model.controls):
        arrays[slot.name] = _draw(slot, dims, rng, reach, positive=True)
        if slot.kind == "symmetric":  # rates are of high degree in a covariance
            arrays[slot.name] = arrays[slot.name] / (2 * len(arrays[slot.name]))
        flat = Slot(slot.name, slot.shape, "symmetric" if slot.kind == "symmetric" else "")
        for mark in ("p_", "d_"):
            arrays[f"{mark}{slot.name}"] = _draw(flat, dims, rng, 1.0)
    numbers = {d: dims[d.name] for d in model.dims}
    numbers |= {q: params[q.name] for q in model.params}
    return Point(arrays, dims, params, numbers)


def inside(
    model: ControlDefinition, seed: int, given: Mapping[str, int] = MappingProxyType({})
) -> Point:
    """An instance where dynamics and costs are finite, if one of a few shapes is.

    A cost such as -log(1 - u^2) is defined for small values alone, and u^a for positive ones.
    """
    first = at = point(model, seed, given=given)
    for attempt in range(10):
        with np.errstate(all="ignore"):
            rates, running, terminal = text_values(model, at, {})
        if all(np.all(np.isfinite(a)) for a in (*rates, running, terminal)):
            return at
        at = point(model, seed, 0.5 ** (attempt % 5), given=given)
        if attempt >= 4:
            names = {s.name for s in (*model.states, *model.controls) if not s.kind}
            arrays = {n: np.abs(a) + 0.1 if n in names else a for n, a in at.arrays.items()}
            at = replace(at, arrays=arrays)
    return first


def _draw(
    slot: Slot,
    dims: Mapping[str, float],
    rng: np.random.Generator,
    reach: float,
    positive: bool = False,
) -> np.ndarray:
    out = reach * rng.standard_normal([int(dims[d.name]) for d in slot.shape])
    if slot.kind == "symmetric":
        out = (out + out.T) / 2
        if positive:
            out = out @ out + np.eye(len(out)) / 2
    if slot.kind == "positive":
        out = np.abs(out) + 0.1
    if slot.kind == "sphere":
        out /= np.linalg.norm(out, axis=-1, keepdims=True)
    return out


Norm = Callable[[str, tuple[str, ...]], float]


def text_problem(
    model: ControlDefinition,
    at: Point,
    changes: Mapping[str, np.ndarray],
    norm: Norm | None = None,
    rates: Rates = numeric_rates,
) -> Problem:
    """The problem of the text, with some arrays changed; `norm`, `rates`: see `run_problem`."""
    arrays = {s.name: at.arrays[s.name] for s in (*model.states, *model.controls, *model.data)}
    arrays |= {k: v for k, v in changes.items() if k in arrays}
    return run_problem(model, arrays, dims=at.dims, params=at.params, norm=norm, rates=rates)


def text_values(
    model: ControlDefinition,
    at: Point,
    changes: Mapping[str, np.ndarray],
    norm: Norm | None = None,
    rates: Rates = numeric_rates,
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Dynamics, running and terminal cost from the text, with some arrays changed."""
    found = text_problem(model, at, changes, norm, rates)
    return [np.asarray(f) for f in found.dynamics], found.running, found.terminal


def reached(model: ControlDefinition, at: Point, T: float, steps: int = 64) -> list[np.ndarray]:
    """Where half of the instance's control leads: an end that can be reached."""
    names = [s.name for s in model.states]
    state = [at.arrays[n] for n in names]
    held = {s.name: at.arrays[s.name] / 2 for s in model.controls}

    def rate(state: list[np.ndarray]) -> list[np.ndarray]:
        rates, _, _ = text_values(model, at, {**held, **dict(zip(names, state, strict=True))})
        return [np.asarray(r) for r in rates]

    h = T / steps
    for _ in range(steps):
        half = [x + h / 2 * r for x, r in zip(state, rate(state), strict=True)]
        state = [x + h * r for x, r in zip(state, rate(half), strict=True)]
    if not all(np.all(np.isfinite(x)) for x in state):
        raise ValueError("a simulation of the text left its domain")
    for k, slot in enumerate(model.states):
        if slot.kind == "sphere":
            state[k] = state[k] / np.linalg.norm(state[k], axis=-1, keepdims=True)
    return state


def leaving_sphere(model: ControlDefinition) -> str | None:
    """The state on the sphere whose dynamics point off it, if there is one."""
    for k in range(INSTANCES):
        at = point(model, k)
        rates, _, _ = text_values(model, at, {})
        for slot, rate in zip(model.states, rates, strict=True):
            if slot.kind == "sphere":
                radial = np.abs((at.arrays[slot.name] * rate).sum(-1)).max(initial=0.0)
                if radial > 1e-9 * (1 + np.abs(rate).max(initial=0.0)):
                    return slot.name
    return None


def text_hamiltonian(
    model: ControlDefinition, at: Point, changes: Mapping[str, np.ndarray], smooth: bool = False
) -> complex:
    """H = L + p.f from the text; on spheres through x/|x| and |x| P_x p.

    `smooth`: without the norms of whole controls.
    """
    values = {**at.arrays, **changes}
    moved = dict(changes)
    costates = []
    for slot in model.states:
        p = values[f"p_{slot.name}"]
        if slot.kind == "sphere":
            x = values[slot.name]
            norm = np.sqrt((x * x).sum(-1, keepdims=True))
            moved[slot.name] = unit = x / norm
            p = norm * (p - unit * (unit * p).sum(-1, keepdims=True))
        costates.append(p)
    norm = (lambda *_: 0.0) if smooth else None
    rates, running, _ = text_values(model, at, moved, norm)
    return running + sum((p * f).sum() for p, f in zip(costates, rates, strict=True))


def evaluate(
    result: OptimalControl,
    name: str,
    at: Point,
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> list[Any]:
    return [graph_value(result, a, at, changes) for a in result.equations[name]]


def graph_value(
    result: OptimalControl,
    root: Array,
    at: Point,
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    values = {**at.arrays, **changes}
    leaves = {
        leaf: values[leaf.data]
        for group in (result.x, result.p, result.u, result.data, result.dx, result.du)
        for leaf in group
    }
    return value(root, leaves, at.numbers)


def tame_point(model: ControlDefinition, seed: int) -> Point:
    """An instance whose Gaussian averages a quadrature of few nodes resolves to round-off."""
    at = point(model, seed, 0.25, most=3)
    small = {s.name for s in (*model.states, *model.data) if s.kind == "symmetric"}
    arrays = {n: 0.2 * a if n in small else a for n, a in at.arrays.items()}
    return replace(at, arrays=arrays)


def relative(left: np.ndarray, right: np.ndarray, scale: float = 1.0) -> float:
    left, right = np.asarray(left), np.asarray(right)
    if left.shape != right.shape or not np.all(np.isfinite(left)):
        return float("inf")
    size = max(scale, float(np.max(np.abs(right), initial=0.0))) or 1.0
    return float(np.max(np.abs(left - right), initial=0.0)) / size

"""Numeric checks of the steps of an optimal control derivation.

Each compares a derived expression with the definition's own text, run on NumPy arrays: values
with values, derivatives with complex steps of the text (exact to rounding), second derivatives
with complex steps of the gradients, minimisers with other admissible controls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import sympy as sp

from derive.draws import generator
from derive.methods.common.parameters import sample
from derive.methods.common.record import Check
from derive.notation.common.arrays import Array
from derive.notation.common.graph import value
from derive.notation.common.scalars import number
from derive.notation.control.problem import ControlDefinition, Problem, Slot, run_problem

if TYPE_CHECKING:
    from derive.methods.optimal_control.derivation import OptimalControl

_SEED = 20
_STEP = 1e-30  # of complex steps: no cancellation, so as small as one likes
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
) -> Point:
    """A random instance: small unequal dimensions, entries of both signs, some of them large.

    Symmetric data and states are positive definite: they may be covariances.  `most`: sizes are 2
    to `most`.
    """
    rng = generator(_SEED, seed)
    sizes = rng.permutation(len(model.dims)) + 2
    if most is not None:
        sizes = 2 + (sizes + seed) % (most - 1)
    dims = {d.name: float(k) for d, k in zip(model.dims, sizes, strict=True)}
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


def inside(model: ControlDefinition, seed: int) -> Point:
    """An instance where dynamics and costs are finite, if one of a few shapes is.

    A cost such as -log(1 - u^2) is defined for small values alone, and u^a for positive ones.
    """
    first = at = point(model, seed)
    for attempt in range(10):
        with np.errstate(all="ignore"):
            rates, running, terminal = text_values(model, at, {})
        if all(np.all(np.isfinite(a)) for a in (*rates, running, terminal)):
            return at
        at = point(model, seed, 0.5 ** (attempt % 5))
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
    model: ControlDefinition, at: Point, changes: Mapping[str, np.ndarray], norm: Norm | None = None
) -> Problem:
    """The problem of the text, with some arrays changed; `norm`: see `run_problem`."""
    arrays = {s.name: at.arrays[s.name] for s in (*model.states, *model.controls, *model.data)}
    arrays |= {k: v for k, v in changes.items() if k in arrays}
    return run_problem(model, arrays, dims=at.dims, params=at.params, norm=norm)


def text_values(
    model: ControlDefinition, at: Point, changes: Mapping[str, np.ndarray], norm: Norm | None = None
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Dynamics, running and terminal cost from the text, with some arrays changed."""
    found = text_problem(model, at, changes, norm)
    return [np.asarray(f) for f in found.dynamics], found.running, found.terminal


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


def evaluate(result: OptimalControl, name: str, at: Point, changes: Mapping = {}) -> list:  # noqa: B006
    return [graph_value(result, a, at, changes) for a in result.equations[name]]


def graph_value(result: OptimalControl, root: Array, at: Point, changes: Mapping = {}):  # noqa: B006,ANN201
    values = {**at.arrays, **changes}
    leaves = {
        leaf: values[leaf.data]
        for group in (result.x, result.p, result.u, result.data, result.dx, result.du)
        for leaf in group
    }
    return value(root, leaves, at.numbers)


def relative(left: np.ndarray, right: np.ndarray, scale: float = 1.0) -> float:
    left, right = np.asarray(left), np.asarray(right)
    if left.shape != right.shape or not np.all(np.isfinite(left)):
        return float("inf")
    size = max(scale, float(np.max(np.abs(right), initial=0.0))) or 1.0
    return float(np.max(np.abs(left - right), initial=0.0)) / size


def all_checks(result: OptimalControl) -> dict[str, Check]:
    """The check of every step, by the step's name."""
    tests = {
        "trace": (_trace, "costs against the definition's text on arrays"),
        "hamiltonian": (_hamiltonian, "H against the text"),
        "first order": (_first, "gradients against complex steps of the text"),
        "control law": (law_residual, "H at the law against H at other admissible controls"),
        "transversality": (_terminal, "gradient against complex steps of the text"),
        "second order": (_second, "blocks against complex steps of the gradients, and symmetry"),
    }
    points = [inside(result.model, k) for k in range(INSTANCES)]
    return {
        name: Check(words, float(max(test(result, at) for at in points)), TOLERANCE)
        for name, (test, words) in tests.items()
    }


def closure_check(result: OptimalControl) -> Check:
    """Derived dynamics against the closure's text averaged by quadrature, at tame instances."""
    sound = all(s.check is None or s.check.passed for c in result.closures for s in c.steps)
    worst = 0.0 if sound else float("inf")
    for k in range(INSTANCES):
        worst = max(worst, closure_residual(result, tame_point(result.model, k)))
    return Check("dynamics against quadrature of the closure's text", worst, TOLERANCE)


def tame_point(model: ControlDefinition, seed: int) -> Point:
    """An instance whose Gaussian averages a quadrature of few nodes resolves to round-off."""
    at = point(model, seed, 0.25, most=3)
    small = {s.name for s in (*model.states, *model.data) if s.kind == "symmetric"}
    arrays = {n: 0.2 * a if n in small else a for n, a in at.arrays.items()}
    return replace(at, arrays=arrays)


def closure_residual(result: OptimalControl, at: Point) -> float:
    from derive.methods.optimal_control.moment_dynamics import by_quadrature

    with by_quadrature():
        rates, _, _ = text_values(result.model, at, {})
    found = evaluate(result, "state_rate", at)
    return max(relative(a, b) for a, b in zip(found, rates, strict=True))


def _trace(result: OptimalControl, at: Point) -> float:
    _, running, terminal = text_values(result.model, at, {})
    return max(
        relative(evaluate(result, "running_cost", at)[0], running),
        relative(evaluate(result, "terminal_cost", at)[0], terminal),
    )


def _hamiltonian(result: OptimalControl, at: Point) -> float:
    expected = text_hamiltonian(result.model, at, {})
    return relative(evaluate(result, "hamiltonian", at)[0], np.asarray(expected))


def _price(result: OptimalControl, at: Point, changes: Mapping[str, np.ndarray]) -> complex:
    """The part of the running cost that is not smooth, from the values of the controls."""
    values = {**at.arrays, **changes}
    out: complex = 0.0
    for price in result.prices:
        flat = np.concatenate([np.ravel(values[a.data]) for a in price.arrays])
        # |a| without its modulus: complex steps go through it
        norm = (
            (flat * np.sign(flat.real)).sum()
            if price.kind == "l1"
            else np.sqrt((flat * flat).sum())
        )
        out += number(price.weight, at.numbers) * norm
    return out


def _first(result: OptimalControl, at: Point) -> float:
    """<gradient, direction> against the complex step of the text along it."""
    worst = 0.0
    groups = (
        (result.p, evaluate(result, "state_rate", at), 1.0),
        (result.x, evaluate(result, "costate_rate", at), -1.0),
        (result.u, evaluate(result, "stationarity", at), 1.0),
    )
    rho = number(result.discount, at.numbers)
    for leaves, found, sign in groups:
        for position, (leaf, gradient) in enumerate(zip(leaves, found, strict=True)):
            if sign < 0 and rho:
                gradient = gradient - rho * at.arrays[result.p[position].data]
            if gradient.shape != at.arrays[leaf.data].shape:
                return float("inf")
            for k in range(2):
                direction = _direction(leaf, at, k)
                # a symmetric state moves symmetrically, and its gradient must be symmetric
                moved = _even(direction) if leaf in result.algebra.symmetric else direction
                changes = {leaf.data: at.arrays[leaf.data] + 1j * _STEP * moved}
                slope = _text_slope(result, at, changes, leaf in result.u)
                scale = np.abs(gradient).sum() * np.abs(direction).max()
                worst = max(
                    worst,
                    relative(np.asarray(sign * (gradient * direction).sum()), slope, scale),
                )
    return worst


def _text_slope(
    result: OptimalControl, at: Point, changes: Mapping[str, np.ndarray], control: bool
) -> np.ndarray:
    """Imaginary part of H over the step; norms of controls are taken out before."""
    if control and result.prices:
        # the norms drop the imaginary part: |z| of NumPy is a modulus, its own derivative is real
        whole = text_hamiltonian(result.model, at, changes)
        own = _price(result, at, changes)
        return np.asarray((whole - own).imag / _STEP)
    return np.asarray(np.imag(text_hamiltonian(result.model, at, changes)) / _STEP)


def _direction(leaf: Array, at: Point, seed: int) -> np.ndarray:
    rng = generator(_SEED, seed, len(leaf.data))
    return rng.standard_normal(at.arrays[leaf.data].shape)


def _even(matrix: np.ndarray) -> np.ndarray:
    return (matrix + matrix.T) / 2


def _terminal(result: OptimalControl, at: Point) -> float:
    worst = 0.0
    for leaf, gradient in zip(result.x, evaluate(result, "terminal_rate", at), strict=True):
        direction = _direction(leaf, at, 0)
        even = _even(direction) if leaf in result.algebra.symmetric else direction
        moved = at.arrays[leaf.data] + 1j * _STEP * even
        slot = next(s for s in result.model.states if s.name == leaf.data)
        if slot.kind == "sphere":
            moved = moved / np.sqrt((moved * moved).sum(-1, keepdims=True))
        _, _, terminal = text_values(result.model, at, {leaf.data: moved})
        slope = np.imag(terminal) / _STEP
        worst = max(worst, relative(np.asarray((gradient * direction).sum()), np.asarray(slope)))
    return worst


def _second(result: OptimalControl, at: Point) -> float:
    worst = 0.0
    pairs = (
        ("h_xx", "costate_rate", result.x, result.dx, -1.0),
        ("h_xu", "costate_rate", result.u, result.du, -1.0),
        ("h_ux", "stationarity", result.x, result.dx, 1.0),
        ("h_uu", "stationarity", result.u, result.du, 1.0),
        ("h_px", "state_rate", result.x, result.dx, 1.0),
        ("h_pu", "state_rate", result.u, result.du, 1.0),
    )
    found = {}
    for name, first, leaves, moves, sign in pairs:
        changes = {
            leaf.data: at.arrays[leaf.data] + 1j * _STEP * at.arrays[move.data]
            for leaf, move in zip(leaves, moves, strict=True)
        }
        found[name] = evaluate(result, name, at)
        for block, row in zip(found[name], evaluate(result, first, at, changes), strict=True):
            worst = max(worst, relative(block, sign * np.imag(row) / _STEP))
    left = _pair(found["h_ux"], [at.arrays[m.data] for m in result.du])
    right = _pair(found["h_xu"], [at.arrays[m.data] for m in result.dx])
    return max(worst, relative(left, right))


def _pair(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(sum((a * b).sum() for a, b in zip(first, second, strict=True)))


def law_residual(result: OptimalControl, at: Point) -> float:
    """The worst over small and large costates: weak and strong pulls on the control."""
    loud = {leaf.data: 20 * at.arrays[leaf.data] for leaf in result.p}
    return max(_law_at(result, at), _law_at(result, replace(at, arrays={**at.arrays, **loud})))


def _law_at(result: OptimalControl, at: Point) -> float:
    """By how much H(law) exceeds the least H found; |H_u| where nothing bounds the control."""
    if result.law.expressions is None:
        return 0.0
    if not result.u:
        return 0.0
    best = dict(zip((u.data for u in result.u), evaluate(result, "control_law", at), strict=True))
    if any(np.shape(best[u.data]) != at.arrays[u.data].shape for u in result.u):
        return float("inf")
    if not result.bounds and not result.prices:
        return max(
            relative(a, np.zeros_like(a), 1 + float(np.abs(b).max(initial=0.0)))
            for a, b in zip(
                evaluate(result, "stationarity", at, best),
                evaluate(result, "stationarity", at),
                strict=True,
            )
        )
    lowest = graph_value(result, result.equations["hamiltonian"][0], at, best)
    if not np.isfinite(lowest) or _outside(result, best, at) > 1e-12:
        return float("inf")
    worst = 0.0
    rng = generator(_SEED, 7)
    for k in range(200):
        other = {
            u.data: best[u.data] + 10.0 ** (-(k % 4)) * rng.standard_normal(best[u.data].shape)
            if k % 2
            else at.arrays[u.data] * 10.0 ** (k % 3 - 1) * rng.choice([-1, 0, 1])
            for u in result.u
        }
        other = _inside(result, other, at)
        there = graph_value(result, result.equations["hamiltonian"][0], at, other)
        worst = max(worst, float(lowest - there) / (1 + abs(float(lowest))))
    return worst


def _inside(result: OptimalControl, u: dict[str, np.ndarray], at: Point) -> dict[str, np.ndarray]:
    out = dict(u)
    for bound in result.bounds:
        names = [a.data for a in bound.arrays]
        low, high = (number(sp.sympify(b), at.numbers) for b in (bound.low, bound.high))
        if bound.kind == "box":
            for name in names:
                out[name] = np.clip(out[name], low, high)
            continue
        flat = np.concatenate([np.ravel(out[name]) for name in names])
        size = np.abs(flat).sum() if bound.kind == "l1" else np.linalg.norm(flat)
        if size > high:
            for name in names:
                out[name] = out[name] * high / size
    return out


def _outside(result: OptimalControl, u: dict[str, np.ndarray], at: Point) -> float:
    kept = _inside(result, u, at)
    return max(float(np.max(np.abs(kept[n] - u[n]), initial=0.0)) for n in u)

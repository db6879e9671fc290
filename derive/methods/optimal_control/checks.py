"""Numeric checks of the steps of an optimal control derivation.

Each compares a derived expression with the definition's own text, run on NumPy arrays: values
with values, derivatives with complex steps of the text (exact to rounding), second derivatives
with complex steps of the gradients, minimisers with other admissible controls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from derive.draws import generator
from derive.methods.common.record import Check
from derive.methods.optimal_control.instances import (
    _SEED,
    INSTANCES,
    TOLERANCE,
    Point,
    evaluate,
    inside,
    relative,
    tame_point,
    text_hamiltonian,
    text_values,
)
from derive.methods.optimal_control.law_checks import law_residual
from derive.methods.optimal_control.moment_dynamics import rates_by_text
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.arrays import Array
from derive.notation.common.scalars import number

_STEP = 1e-30  # of complex steps: no cancellation, so as small as one likes


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


def closure_residual(result: OptimalControl, at: Point) -> float:
    rates, _, _ = text_values(result.model, at, {}, rates=rates_by_text)
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
    # a gradient may vanish (all tokens where relu is flat): the text's slope then holds rounding of
    # H, some 1e-16 of it, which is no error; 1e-14 of it is one
    least = 1e-4 * float(np.abs(text_hamiltonian(result.model, at, {})))
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
                scale = max(np.abs(gradient).sum() * np.abs(direction).max(), least)
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

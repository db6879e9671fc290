"""L0 and L1 of control problems: a well-formed definition, and its steps against its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sympy as sp

from derive.methods.optimal_control import checks, instances, law_checks
from derive.methods.optimal_control.instances import Point, inside
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.arrays import walk
from derive.verify.common.rung import Rung, digit

STEP_OF = {
    "running_cost": "trace",
    "terminal_cost": "trace",
    "hamiltonian": "hamiltonian",
    "state_rate": "first order",
    "costate_rate": "first order",
    "stationarity": "first order",
    "control_law": "control law",
    "terminal_rate": "transversality",
}


def definition(result: OptimalControl) -> Rung:
    """Shapes are symbolic, scalars exact, and every declared array is used."""
    nodes = {a for parts in result.equations.values() for part in parts for a in walk(part)}
    floats = [a for a in nodes if a.op == "full" and a.data.has(sp.Float)]
    unused = [leaf.data for leaf in result.data if leaf not in nodes]
    sized = all(
        d in result.model.dims or d == 1 for a in nodes for s in a.shape for d in s.free_symbols
    )
    return Rung(
        "L0 definition",
        "shapes are symbolic, scalars exact, all data used",
        not floats and not unused and sized,
        {"nodes": len(nodes), "unused": unused},
    )


def steps(result: OptimalControl) -> Rung:
    """Every step's stored residual, and how small an error of each equation it would show."""
    found = {s.name: s.check.residual for s in result.steps if s.check}
    power = {}
    at = [inside(result.model, k) for k in range(instances.INSTANCES)]
    for name in result.equations:
        if all(result.algebra.is_zero(a) for a in result.equations[name]):
            continue
        wrong = residual_of(_scaled(result, name, sp.Rational(1001, 1000)), name, at)
        power[name] = digit(1e-3 * instances.TOLERANCE / wrong) if wrong else float("inf")
    caught = {k: v for k, v in power.items() if k != "control_law"}
    return Rung(
        "L1 steps",
        "every derivation step against the definition's text at random instances",
        all(s.check is None or s.check.passed for s in result.steps),
        {k: digit(v) for k, v in found.items()},
        f"relative error of an equation: {max(caught.values(), default=0.0):.0e}",
    )


def _scaled(result: OptimalControl, name: str, factor: sp.Expr) -> OptimalControl:
    parts = tuple(result.algebra.scale(factor, a) for a in result.equations[name])
    return replace(result, equations={**result.equations, name: parts})


def residual_of(result: OptimalControl, name: str, at: Sequence[Point]) -> float:
    test = {
        "trace": checks._trace,
        "hamiltonian": checks._hamiltonian,
        "first order": checks._first,
        "control law": law_checks.law_residual,
        "transversality": checks._terminal,
        "second order": checks._second,
    }[STEP_OF.get(name, "second order")]
    return max(test(result, p) for p in at)

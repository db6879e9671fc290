"""Optimality system of a control problem: from the definition to the first-order conditions.

Input: a `ControlDefinition`.  Output: `OptimalControl`: Hamiltonian, costate equation,
stationarity, the control law, transversality, the static problem and the second derivatives in
directional form, as array expressions at symbolic dimensions; a record of the steps, each with
its numeric check.

Convention: minimise the integral of L plus a terminal cost; H = L + p.f is minimised in u;
x' = H_p, p' = -H_x (+ rho p under a discount rho), H_u = 0, p(T) = gradient of the terminal cost.
Symmetric states pair by the Frobenius product, and their gradients are symmetrised.  A state on
the sphere enters H as x/|x| and its costate as |x| P_x p: this extends H to all x so that the flow
keeps |x| = 1 and the gradients stand for those on the sphere.

Not supported: controls that enter beyond the second order together with bounds; constraints on
the state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sympy as sp

from derive.calculus.arrays.algebra import Algebra
from derive.calculus.arrays.derivative import along, gradient
from derive.calculus.arrays.interned import ZERO
from derive.errors import Refusal
from derive.methods.common.record import Step
from derive.methods.optimal_control import checks, instances
from derive.methods.optimal_control import facts as control_facts
from derive.methods.optimal_control.law import ControlLaw, Price, control_law
from derive.methods.optimal_control.moment_dynamics import ReplacedRates, expand
from derive.methods.optimal_control.result import Leaves, OptimalControl, Parts
from derive.notation.common.arrays import Array, walk
from derive.notation.control.definition import ControlDefinition
from derive.notation.control.problem import ControlTrace, trace_problem
from derive.notation.control.words import Bound


def derive(model: ControlDefinition) -> OptimalControl:
    """Derive the optimality system; every step is checked on numbers as it is made."""
    trace = trace_problem(model)
    g = Algebra()
    leaves, variables = _variables(g, model)
    x, p, u = variables.x, variables.p, variables.u
    problem, expansion = _interned(g, trace, leaves)
    _require_on_spheres(model, trace)
    smooth, prices = _split_cost(g, problem["running"], u, trace)
    # H = L + p.f
    pairing = [
        g.sum_all(g.multiply(costate, rate)) for costate, rate in zip(p, problem["f"], strict=True)
    ]
    running, smooth_h, terminal = g.rebuild(
        [problem["running"], g.total_of([smooth, *pairing]), problem["terminal"]],
        _sphere(g, model, x, p),
    )
    whole_h = g.total_of([smooth_h, *(_cost(g, q) for q in prices)]) if prices else smooth_h
    h_p, h_x, h_u = (tuple(gradient(g, smooth_h, of)) for of in (p, x, u))
    rho = sp.sympify(trace.problem.discount)
    bounds = tuple(
        Bound(b.kind, tuple(leaves[a.data] for a in b.arrays), b.low, b.high, b.place)
        for b in trace.problem.bounds
    )
    law = _law(g, model, trace, u, h_u, prices, bounds)
    equations: dict[str, Parts] = {
        "running_cost": (running,),
        "terminal_cost": (terminal,),
        "hamiltonian": (whole_h,),
        "state_rate": h_p,
        "costate_rate": _costate_rate(g, h_x, p, rho),
        "stationarity": h_u,
    }
    if law.expressions is not None:
        equations["control_law"] = law.expressions
    equations["terminal_rate"] = end_costate(g, terminal, x)
    equations |= _second_derivatives(g, variables, h_x, h_u, h_p)
    _definite(g, model, equations["h_uu"], law, trace)
    result = OptimalControl(
        model,
        g,
        **vars(variables),
        equations=equations,
        law=law,
        prices=prices,
        bounds=bounds,
        discount=rho,
        fixed_end=trace.problem.end == "fixed",
        steps=(),
        facts=(),
        closures=expansion.closures,
        free_time=trace.problem.horizon == "free",
    )
    steps = tuple(_steps(result, trace, expansion))
    return replace(result, steps=steps, facts=tuple(f for s in steps for f in s.facts))


@dataclass(frozen=True)
class _Variables:
    """Leaves of the system: states, costates, controls, data, and directions of both."""

    x: Leaves
    p: Leaves
    u: Leaves
    data: Leaves
    dx: Leaves
    du: Leaves


def _variables(g: Algebra, model: ControlDefinition) -> tuple[dict[str, Array], _Variables]:
    """What the definition declares by name, and all leaves by what they are."""
    leaves = {
        s.name: g.leaf(s.name, s.shape, symmetric=s.kind == "symmetric")
        for s in (*model.states, *model.controls, *model.data)
    }
    x, u, data = (
        tuple(leaves[s.name] for s in slots) for slots in (model.states, model.controls, model.data)
    )
    p, dx = (
        tuple(
            g.leaf(f"{mark}{s.name}", s.shape, symmetric=s.kind == "symmetric")
            for s in model.states
        )
        for mark in ("p_", "d_")
    )
    du = tuple(g.leaf(f"d_{s.name}", s.shape) for s in model.controls)
    return leaves, _Variables(x, p, u, data, dx, du)


def _require_on_spheres(model: ControlDefinition, trace: ControlTrace) -> None:
    leaving = instances.leaving_sphere(model)
    if leaving is not None:
        raise Refusal(
            f"the dynamics of {leaving} leave the sphere: x . x' is not zero; take their tangent "
            f"part, project({leaving}, ...)",
            trace.problem.place,
        )


def _costate_rate(g: Algebra, h_x: Parts, p: Leaves, rho: sp.Expr) -> Parts:
    """p' = -H_x + rho p."""
    minus = tuple(g.scale(sp.Integer(-1), a) for a in h_x)
    if rho == 0:
        return minus
    return tuple(g.add(a, g.scale(rho, b)) for a, b in zip(minus, p, strict=True))


def _law(
    g: Algebra,
    model: ControlDefinition,
    trace: ControlTrace,
    u: Leaves,
    h_u: Parts,
    prices: tuple[Price, ...],
    bounds: tuple[Bound, ...],
) -> ControlLaw:
    """The control law.  Raises Refusal for one that the solver has no equation for."""
    place = trace.problem.place
    law = control_law(g, u, h_u, prices, bounds, place) if u else _NO_LAW
    if law.sparse and model.constants:
        raise Refusal(
            "a control that is constant in time beside a sparse one: the two-phase solver has no "
            "equation for it; price the other controls by squared_norm",
            place,
        )
    return law


def _second_derivatives(
    g: Algebra, variables: _Variables, h_x: Parts, h_u: Parts, h_p: Parts
) -> dict[str, Parts]:
    """Second derivatives of H along a direction: h_xu is that of H_x along du."""
    directions = {
        "x": dict(zip(variables.x, variables.dx, strict=True)),
        "u": dict(zip(variables.u, variables.du, strict=True)),
    }
    rows = {"x": h_x, "u": h_u, "p": h_p}
    return {
        f"h_{row}{column}": tuple(along(g, rows[row], directions[column]))
        for row in rows
        for column in directions
    }


_NO_LAW = ControlLaw((), False, None, ("no control depends on time: no control law",))


def end_costate(g: Algebra, terminal: Array, x: Leaves) -> Parts:
    """Transversality: p(T) of a free end is the gradient of the terminal cost."""
    return tuple(gradient(g, terminal, x))


def _interned(
    g: Algebra, trace: ControlTrace, leaves: Mapping[str, Array]
) -> tuple[dict[Any, Any], ReplacedRates]:
    known = {trace.arrays[name]: leaf for name, leaf in leaves.items()}
    problem = trace.problem
    before = list(trace.names)
    roots = g.rebuild([*problem.dynamics, problem.running, problem.terminal, *before], known)
    expansion = expand(g, roots)
    roots = expansion.roots
    size = len(problem.dynamics)
    for old, new in zip(before, roots[size + 2 :], strict=True):
        core = g.split(new)[1]
        if core.op not in ("leaf", "full", "eye") and new is core:
            g.names.setdefault(new, trace.names[old])
    rates = []
    for slot, rate in zip(trace.model.states, roots[:size], strict=True):
        if slot.kind == "symmetric" and not g.is_symmetric(rate):
            raise Refusal(
                f"{slot.name} is declared symmetric, but its dynamics are not symmetric by form; "
                "write them as M + M.T",
                problem.place,
            )
        rates.append(rate)
    return {"f": rates, "running": roots[size], "terminal": roots[size + 1]}, expansion


def _split_cost(
    g: Algebra, running: Array, controls: Leaves, trace: ControlTrace
) -> tuple[Array, tuple[Price, ...]]:
    """The smooth part of the running cost, and the norms of controls in it."""
    prices, rest = [], {}
    for term, weight in g.terms(running).items():
        named = term.op == "composite" and term.data in ("l1_norm", "l2_norm")
        if not named or not all(a in controls for a in term.args[:-1]):
            rest[term] = weight
            continue
        if weight.is_nonpositive:
            raise Refusal(
                f"the weight {weight} of {term.data} is not positive", trace.problem.place
            )
        prices.append(Price(term.data[:2], weight, term.args[:-1]))
    smooth = g.combine(rest, ()) if prices else running
    for a in walk(smooth):
        rough = a.op == "composite" and a.data in ("l1_norm", "l2_norm")
        if rough and g.depends(a, controls):
            raise Refusal(
                f"{a.data} of a control stands inside something else; a norm may be a term of "
                "the running cost, of whole controls alone",
                trace.problem.place,
            )
    return smooth, tuple(prices)


def _cost(g: Algebra, price: Price) -> Array:
    """The norm of a price, written out."""
    if price.kind == "l1":
        parts = [g.sum_all(g.function("abs", a)) for a in price.arrays]
        return g.scale(price.weight, g.total_of(parts))
    parts = [g.sum_all(g.multiply(a, a)) for a in price.arrays]
    return g.scale(price.weight, g.function("sqrt", g.total_of(parts)))


def _sphere(g: Algebra, model: ControlDefinition, x: Leaves, p: Leaves) -> dict[Array, Array]:
    """x -> x/|x| and p -> |x| P_x p, row by row, for states on the sphere."""
    out: dict[Array, Array] = {}
    for slot, state, costate in zip(model.states, x, p, strict=True):
        if slot.kind != "sphere":
            continue
        norm = g.function("sqrt", g.total(g.multiply(state, state), -1, keepdims=True))
        unit = g.multiply(state, g.function("reciprocal", norm))
        radial = g.total(g.multiply(unit, costate), -1, keepdims=True)
        flat = g.add(costate, g.scale(sp.Integer(-1), g.multiply(unit, radial)))
        g.names.update(
            {norm: f"{slot.name}_norm", unit: f"{slot.name}_unit", flat: f"p_{slot.name}_flat"}
        )
        out[state], out[costate] = unit, g.multiply(norm, flat)
    return out


def _definite(
    g: Algebra, model: ControlDefinition, h_uu: Parts, law: ControlLaw, trace: ControlTrace
) -> None:
    """Refuse a curvature that is zero where nothing else holds the control."""
    if law.sparse or trace.problem.bounds:
        return
    for slot, part in zip(model.controls, h_uu, strict=True):
        if g.split(part)[0] == ZERO or g.is_zero(part):
            raise Refusal(
                f"H_uu is singular: the control {slot.name} has no quadratic cost",
                trace.problem.place,
            )


def _end(result: OptimalControl) -> str:
    """Transversality in words."""
    if result.fixed_end:
        return "fixed end: p(T) is free"
    if all(result.algebra.is_zero(a) for a in result.equations["terminal_rate"]):
        return "free end, no terminal cost: p(T) = 0"
    return "free end: p(T) is the gradient of the terminal cost"


def _hints(result: OptimalControl) -> list[str]:
    """What is to be known of the Hamiltonian, in words."""
    model = result.model
    spheres = [s.name for s in model.states if s.kind == "sphere"]
    matrices = [s.name for s in model.states if s.kind == "symmetric"]
    hints = []
    if spheres:
        hints.append(f"{', '.join(spheres)} on the sphere: x -> x/|x|, p -> |x| P_x p in H")
    if matrices:
        hints.append(f"{', '.join(matrices)} symmetric: Frobenius pairing, symmetrised gradients")
    for slot in model.constants:
        c = slot.name
        hints.append(
            f"{c} constant in time: a state with {c}' = 0 and a free first value; p_{c} vanishes "
            f"at t = 0, so with p_{c}' = -H_{c} the integral of H_{c} vanishes (up to the "
            "terminal cost)"
        )
    if result.free_time:
        hints.append("free final time: H = 0 along an optimum")
    if result.discount != 0:
        hints.append(f"discount {result.discount}: p' = -H_x + {result.discount} p")
    return hints


def _steps(result: OptimalControl, trace: ControlTrace, expansion: ReplacedRates) -> list[Step]:
    eq = result.equations
    found = checks.all_checks(result)
    hints = _hints(result)

    def step(name: str, rule: str, facts: Sequence[str], *words: str) -> Step:
        results = {w: eq[w] for w in words if w in eq}
        said = control_facts.facts(facts, result, found)
        return Step(name, rule, results, said, found.get(name))  # type: ignore[arg-type]

    closure: list[Step] = []
    if expansion.closures:
        closure.append(
            Step(
                "closure",
                "rates of mean and covariance from the derivation of the Gaussian closure",
                {"state_rate": eq["state_rate"]},  # type: ignore[dict-item]
                control_facts.facts(expansion.facts, result, found),
                checks.closure_check(result),
            )
        )
    return [
        step(
            "trace",
            "the definition run on symbols",
            trace.facts,
            "running_cost",
            "terminal_cost",
        ),
        *closure,
        step("hamiltonian", "H = L + p.f", hints, "hamiltonian"),
        step(
            "first order",
            "adjoint rules: x' = H_p, p' = -H_x, H_u",
            (),
            "state_rate",
            "costate_rate",
            "stationarity",
        ),
        step("control law", "argmin of H in u", result.law.facts, "control_law"),
        step("transversality", "gradient of the terminal cost", (_end(result),), "terminal_rate"),
        step(
            "second order",
            "tangent rules on the gradients",
            (),
            "h_xx",
            "h_xu",
            "h_ux",
            "h_uu",
            "h_px",
            "h_pu",
        ),
    ]

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

import sympy as sp

from derive.calculus.arrays.algebra import ZERO, Algebra
from derive.calculus.arrays.derivative import along, gradient
from derive.errors import Refusal
from derive.methods.common.record import Step
from derive.methods.optimal_control import checks, instances
from derive.methods.optimal_control import facts as control_facts
from derive.methods.optimal_control.law import ControlLaw, Price, control_law
from derive.methods.optimal_control.moment_dynamics import ReplacedRates, expand
from derive.methods.optimal_control.result import Leaves, OptimalControl, Parts
from derive.notation.common.arrays import Array
from derive.notation.control.problem import Bound, ControlDefinition, ControlTrace, trace_problem


def derive(model: ControlDefinition) -> OptimalControl:
    """Derive the optimality system; every step is checked on numbers as it is made."""
    trace = trace_problem(model)
    g = Algebra()
    leaves = {
        s.name: g.leaf(s.name, s.shape, symmetric=s.kind == "symmetric")
        for s in (*model.states, *model.controls, *model.data)
    }
    x = tuple(leaves[s.name] for s in model.states)
    u = tuple(leaves[s.name] for s in model.controls)
    data = tuple(leaves[s.name] for s in model.data)
    p, dx = (
        tuple(
            g.leaf(f"{mark}{s.name}", s.shape, symmetric=s.kind == "symmetric")
            for s in model.states
        )
        for mark in ("p_", "d_")
    )
    du = tuple(g.leaf(f"d_{s.name}", s.shape) for s in model.controls)
    problem, expansion = _interned(g, trace, leaves)
    place = trace.problem.place
    leaving = instances.leaving_sphere(model)
    if leaving is not None:
        raise Refusal(
            f"the dynamics of {leaving} leave the sphere: x . x' is not zero; take their tangent "
            f"part, project({leaving}, ...)",
            place,
        )
    smooth, prices = _split_cost(g, problem["running"], u, trace)
    # H = L + p.f
    pairing = [
        g.sum_all(g.multiply(costate, rate)) for costate, rate in zip(p, problem["f"], strict=True)
    ]
    smooth_h = g.total_of([smooth, *pairing])
    on_sphere = _sphere(g, model, x, p)
    running, smooth_h, terminal = g.rebuild(
        [problem["running"], smooth_h, problem["terminal"]], on_sphere
    )
    prices = tuple(Price(q.kind, q.weight, q.arrays) for q in prices)
    whole_h = g.total_of([smooth_h, *(_cost(g, q) for q in prices)]) if prices else smooth_h

    def minus(parts: Sequence[Array]) -> Parts:
        return tuple(g.scale(sp.Integer(-1), a) for a in parts)

    # first derivatives
    h_p = tuple(gradient(g, smooth_h, p))
    h_x = tuple(gradient(g, smooth_h, x))
    h_u = tuple(gradient(g, smooth_h, u))
    rho = sp.sympify(trace.problem.discount)
    costate_rate = minus(h_x)
    if rho != 0:
        costate_rate = tuple(
            g.add(a, g.scale(rho, b)) for a, b in zip(costate_rate, p, strict=True)
        )
    bounds = tuple(
        Bound(b.kind, tuple(leaves[a.data] for a in b.arrays), b.low, b.high, b.place)
        for b in trace.problem.bounds
    )
    law = control_law(g, u, h_u, prices, bounds, place) if u else _NO_LAW
    if law.sparse and model.constants:
        raise Refusal(
            "a control that is constant in time beside a sparse one: the two-phase solver has no "
            "equation for it; price the other controls by squared_norm",
            place,
        )
    # second derivatives, along a direction
    to_x, to_u = dict(zip(x, dx, strict=True)), dict(zip(u, du, strict=True))
    equations: dict[str, Parts] = {
        "running_cost": (running,),
        "terminal_cost": (terminal,),
        "hamiltonian": (whole_h,),
        "state_rate": h_p,
        "costate_rate": costate_rate,
        "stationarity": h_u,
    }
    if law.expressions is not None:
        equations["control_law"] = law.expressions
    equations["terminal_rate"] = end_costate(g, terminal, x)
    equations |= {
        "h_xx": tuple(along(g, h_x, to_x)),
        "h_xu": tuple(along(g, h_x, to_u)),
        "h_ux": tuple(along(g, h_u, to_x)),
        "h_uu": tuple(along(g, h_u, to_u)),
        "h_px": tuple(along(g, h_p, to_x)),
        "h_pu": tuple(along(g, h_p, to_u)),
    }
    _definite(g, model, equations["h_uu"], law, trace)
    fixed = trace.problem.end == "fixed"
    result = OptimalControl(
        model,
        g,
        x,
        p,
        u,
        data,
        dx,
        du,
        equations,
        law,
        prices,
        bounds,
        rho,
        fixed,
        (),
        (),
        expansion.closures,
    )
    steps = tuple(_steps(result, trace, expansion))
    facts = tuple(f for s in steps for f in s.facts)
    return OptimalControl(**{**vars(result), "steps": steps, "facts": facts})


_NO_LAW = ControlLaw((), False, None, ("no control depends on time: no control law",))


def end_costate(g: Algebra, terminal: Array, x: Leaves) -> Parts:
    """Transversality: p(T) of a free end is the gradient of the terminal cost."""
    return tuple(gradient(g, terminal, x))


def _interned(
    g: Algebra, trace: ControlTrace, leaves: Mapping[str, Array]
) -> tuple[dict, ReplacedRates]:
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
    for a in g.walk(smooth):
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


def _steps(result: OptimalControl, trace: ControlTrace, expansion: ReplacedRates) -> list[Step]:
    model, eq = result.model, result.equations
    found = checks.all_checks(result)
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
    if result.discount != 0:
        hints.append(f"discount {result.discount}: p' = -H_x + {result.discount} p")

    def step(name: str, rule: str, facts: Sequence[str], *words: str) -> Step:
        results = {w: eq[w] for w in words if w in eq}
        said = control_facts.facts(facts, result, found)
        return Step(name, rule, results, said, found.get(name))  # type: ignore[arg-type]

    closure = [
        Step(
            "closure",
            "rates of mean and covariance from the derivation of the Gaussian closure",
            {"state_rate": eq["state_rate"]},  # type: ignore[dict-item]
            control_facts.facts(expansion.facts, result, found),
            checks.closure_check(result),
        )
    ]
    return [
        step(
            "trace",
            "the definition run on symbols",
            trace.facts,
            "running_cost",
            "terminal_cost",
        ),
        *(closure if expansion.closures else ()),
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

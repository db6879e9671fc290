"""The first reading of an optimal control problem turns its text into graphs.

>>> @optimal_control(state="x[d]", control="u[d]", data="goal[d]")
... def reach(x, u, goal):
...     return problem(dynamics=u, running=squared_norm(x - goal) / 2 + squared_norm(u) / 2)

The cost is the integral of `running` plus `terminal` at the end, to be minimised.  The text is
run on symbols for the derivation and on NumPy arrays for the checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import sympy as sp

from derive.errors import DefinitionError, Place, Refusal
from derive.notation.common.arrays import Array, lift, node, show_shape, walk
from derive.notation.common.tracing import Run, call, check_symbols
from derive.notation.control.definition import ControlDefinition
from derive.notation.control.names import CLOCK
from derive.notation.control.slots import Slot
from derive.notation.control.words import Bound, Problem


@dataclass(frozen=True)
class ControlTrace:
    """The problem as graphs over the leaves `arrays`, with the names that the text gives."""

    model: ControlDefinition
    arrays: Mapping[str, Array]
    problem: Problem
    names: dict[Array, str]
    facts: tuple[str, ...] = ()


#: nodes that belong to other kinds of definitions, and what to write instead
FOREIGN = {
    "gaussian": "a control problem draws no weights: give them as data",
    "noise": "a control problem has deterministic dynamics: noise has no place in them; the "
    "moments of a law of tokens with noise can be controlled: moment_rates(...)",
    "concatenate": "heads side by side are not part of a control problem; add them up, each with "
    "its matrices",
} | dict.fromkeys(
    ("integral", "average", "bistochastic", "query", "key", "mask", "select", "sum_over"),
    "averages over tokens belong to a velocity field: write a gaussian_closure, and take its "
    "dynamics by moment_rates(...) or particle_velocity(...)",
)

#: what users try, as the error of Python says it, and what to write instead
REMEDIES = {
    "name 't' is not defined": CLOCK,
    "__array_ufunc__": "take functions from derive.notation, not from NumPy",
    "for abs()": "write l1_norm(x) for a sum of absolute values, sqrt(x**2 + eps) entry by entry",
    "attribute 'max'": "write log(exp(beta * x).sum()) / beta for a smooth maximum",
    "attribute 'min'": "write -log(exp(-beta * x).sum()) / beta for a smooth minimum",
    "problem() got an unexpected": "a problem takes dynamics, running, terminal, bounds, discount, "
    "end and horizon",
    "not supported between": "a definition cannot branch on the values of an array; relu(...) has "
    "a kink where its argument changes sign",
}


def trace_problem(model: ControlDefinition) -> ControlTrace:
    """Run the definition once on symbols.

    Raises `DefinitionError`, with the line, for whatever is no problem: wrong shapes, a cost
    without control or without state, a control that does nothing.
    """
    slots = (*model.states, *model.controls, *model.data)
    arrays = {s.name: node("leaf", (), s.shape, s.name) for s in slots}
    found, run = _called(model, arrays)
    place = found.place or model.place
    moving = [s for s in model.states if s.kind != "constant"]
    _check_shapes(moving, found, place)
    roots = (*found.dynamics, found.running, found.terminal)
    nodes = [a for root in roots for a in walk(root)]
    _check_nodes(nodes, place)
    costs = walk(found.running) + walk(found.terminal)
    check_symbols({*model.dims, *model.params}, costs + nodes)
    if (
        found.end != "fixed"
        and found.horizon != "free"
        and not {arrays[s.name] for s in moving} & set(costs)
    ):
        raise DefinitionError(
            "the cost does not depend on the state: there is nothing to steer towards; add a "
            "tracking term to running, or a terminal cost",
            place,
        )
    _check_controls(model, arrays, found, place)
    _check_constants(model, arrays, found, place)
    _check_bounds([arrays[s.name] for s in model.controls], found.bounds, place)
    still = (node("full", (), s.shape, sp.Integer(0)) for s in model.constants)
    whole = replace(found, dynamics=(*found.dynamics, *still))
    made = set(nodes)
    names = {a: word for a, word in run.names.items() if a in made}
    names |= {array: name for name, array in run.local.items() if array.op != "leaf"}
    facts = dict.fromkeys(word for a, word in run.facts.items() if a in made)
    return ControlTrace(model, arrays, whole, names, tuple(facts))


def _called(model: ControlDefinition, arrays: Mapping[str, Array]) -> tuple[Problem, Run]:
    """What the text returns, its dynamics and costs as arrays."""
    try:
        found, run = call(lambda: model.function(**arrays), model.name, model.place)
    except DefinitionError as problem:
        for sign, remedy in REMEDIES.items():
            if sign in problem.message:
                raise type(problem)(f"{problem.message}; {remedy}", problem.place) from None
        raise problem from None
    if not isinstance(found, Problem):
        raise DefinitionError(
            f"{model.name} returns {type(found).__name__}; return problem(dynamics=..., "
            "running=...)",
            model.place,
        )
    dynamics = tuple(lift(f) for f in found.dynamics)
    running, terminal = lift(found.running), lift(found.terminal)
    return replace(found, dynamics=dynamics, running=running, terminal=terminal), run


def _check_shapes(moving: list[Slot], found: Problem, place: Place) -> None:
    if len(found.dynamics) != len(moving):
        raise DefinitionError(
            f"{len(moving)} states ({', '.join(s.name for s in moving)}), but the "
            f"dynamics have {len(found.dynamics)} parts",
            place,
        )
    for slot, rate in zip(moving, found.dynamics, strict=True):
        if rate.shape != slot.shape:
            raise DefinitionError(
                f"the dynamics of {slot.name} have shape {show_shape(rate.shape)}, but "
                f"{slot.name} has shape {show_shape(slot.shape)}",
                place,
            )
    for word, cost in (("running", found.running), ("terminal", found.terminal)):
        if cost.shape != ():
            raise DefinitionError(
                f"the {word} cost has shape {show_shape(cost.shape)}; a cost is a scalar: sum it",
                place,
            )


def _check_nodes(nodes: list[Array], place: Place) -> None:
    """Nothing of other kinds of definitions."""
    for a in nodes:
        if a.op == "constant" and getattr(a.data, "given", False):
            raise DefinitionError(
                f"{a.data.name} is a pattern that is given with the parameters; in a control "
                f'problem it is data: data="{a.data.name}[{a.shape[0]}, {a.shape[1]}]"',
                place,
            )
        if a.op in FOREIGN:
            raise Refusal(FOREIGN[a.op], a.place or place)
        if a.op == "constant" and isinstance(a.data, str):
            raise DefinitionError(
                f"{a.data} is a matrix of a velocity field; in a control problem it is a control "
                f'or data: data="{a.data}[{", ".join(map(str, a.shape))}]"',
                place,
            )


def _check_controls(
    model: ControlDefinition, arrays: Mapping[str, Array], found: Problem, place: Place
) -> None:
    """Every control steers something, and its size has a price or a bound."""
    moved = {a for f in found.dynamics for a in walk(f)}
    held = {id(a) for a in walk(found.running)} | {id(a) for b in found.bounds for a in b.arrays}
    for slot in (*model.controls, *model.constants):
        own = arrays[slot.name]
        if own not in moved:
            raise DefinitionError(
                f"the control {slot.name} does not occur in the dynamics, so it steers nothing",
                place,
            )
        if id(own) not in held:
            raise DefinitionError(
                f"the running cost does not depend on the control {slot.name}, and no bound "
                "holds it: it would be infinite; add a term such as "
                f"beta / 2 * squared_norm({slot.name})",
                place,
            )
        if slot.kind != "constant" and own in walk(found.terminal):
            raise DefinitionError(f"the terminal cost depends on the control {slot.name}", place)


def _check_bounds(controls: list[Array], bounds: tuple[Bound, ...], place: Place) -> None:
    for bound in bounds:
        if any(all(a is not c for c in controls) for a in bound.arrays):
            raise DefinitionError(
                "a bound takes controls alone, each by its own name; constraints on the state "
                "are not supported: price what lies outside in the running cost, for instance "
                "squared_norm(relu(x - limit))",
                bound.place or place,
            )
        width = sp.sympify(bound.high) - sp.sympify(bound.low)
        if width.is_nonpositive:
            raise DefinitionError(
                f"the bounds cross: {bound.low} .. {bound.high}", bound.place or place
            )


def _check_constants(
    model: ControlDefinition,
    arrays: Mapping[str, Array],
    found: Problem,
    place: Place,
) -> None:
    """What the solver does not do with a control that is constant in time."""
    leaves = {arrays[s.name] for s in model.constants}
    if not leaves:
        return
    names = ", ".join(s.name for s in model.constants)
    if found.end == "fixed":
        raise Refusal(
            f"{names} constant in time with a fixed end: the first value of a constant control is "
            "free, and the sweep of a fixed end starts from a given first value; use a free end "
            "with a terminal cost, or let the control depend on time",
            place,
        )
    for bound in found.bounds:
        if leaves & set(bound.arrays):
            raise Refusal(
                f"a bound on a control that is constant in time ({names}): its law is an equation "
                "over the whole horizon, not a maximum at each time; bound it by a cost",
                bound.place or place,
            )
    for a in walk(found.running):
        rough = a.op == "composite" and a.data in ("l1_norm", "l2_norm")
        if rough and leaves & set(walk(a)):
            raise Refusal(
                f"{a.data} of a control that is constant in time ({names}): its kink has no law "
                "at each time; use squared_norm",
                place,
            )

"""Optimal control problems as definitions: state, dynamics, control, costs, bounds.

>>> @optimal_control(state="x[d]", control="u[d]", data="goal[d]")
... def reach(x, u, goal):
...     return problem(dynamics=u, running=squared_norm(x - goal) / 2 + squared_norm(u) / 2)

The cost is the integral of `running` plus `terminal` at the end, to be minimised.  The text is
run on symbols for the derivation and on NumPy arrays for the checks.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import sympy as sp

from derive.errors import DefinitionError, Place, Refusal, user_place
from derive.notation.closures.particles import FACTS, NAMED
from derive.notation.common.arrays import Array, exact, lift, node, show_shape, walk
from derive.notation.common.elementwise import named
from derive.notation.common.functions import eye, log, sqrt
from derive.notation.common.names import identifier
from derive.notation.common.scalars import Dim, Param
from derive.notation.layers.model import Model, _call, _check_symbols, _nearest


@dataclass(frozen=True)
class Slot:
    """A named array of a problem: `kind` is "", "symmetric", "sphere" (rows of norm one),
    "positive" (entries above zero; of data alone) or "constant" (a control constant in time)."""

    name: str
    shape: tuple[Dim, ...]
    kind: str = ""


@dataclass(frozen=True)
class Bound:
    """A constraint on controls: `kind` is "box", "l1" or "l2" (of all `arrays` together)."""

    kind: str
    arrays: tuple[Any, ...]
    low: Any
    high: Any
    place: Place | None = None


@dataclass(frozen=True)
class Problem:
    """What the text of a definition returns."""

    dynamics: tuple[Any, ...]
    running: Any
    terminal: Any
    bounds: tuple[Bound, ...]
    discount: Any
    end: str
    place: Place | None


@dataclass(frozen=True)
class ControlDefinition:
    """One optimal control problem, as defined.

    A control that is constant in time is carried as a state c with c' = 0, of kind "constant",
    whose first value is free: p_c = 0 at both ends says that the integral of H_c vanishes.
    """

    name: str
    method: str
    function: Callable[..., Any] = field(compare=False)
    states: tuple[Slot, ...]
    controls: tuple[Slot, ...]
    data: tuple[Slot, ...]
    dims: tuple[Dim, ...]
    params: tuple[Param, ...]
    doc: str
    place: Place

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    @property
    def constants(self) -> tuple[Slot, ...]:
        return tuple(s for s in self.states if s.kind == "constant")


@dataclass(frozen=True)
class ControlTrace:
    """The problem as graphs over the leaves `arrays`, with the names that the text gives."""

    model: ControlDefinition
    arrays: Mapping[str, Array]
    problem: Problem
    names: dict[Array, str]
    facts: tuple[str, ...] = ()


def optimal_control(
    *, state: str, control: str, data: str = ""
) -> Callable[[Callable[..., Any]], ControlDefinition]:
    """Declare an optimal control problem.

    **Arguments:** names and dimensions of arrays, comma separated: ``"x[N, d]"``.  `state`: may
    add "symmetric" (a symmetric matrix) or "on sphere" (rows of norm one).  `control`: what is
    chosen at every time, or once and for all where it says "constant".  `data`: what the user
    gives; may add "symmetric" or "positive".  The function takes these arrays by name and returns
    `problem(...)`.
    """

    def decorate(function: Callable[..., Any]) -> ControlDefinition:
        code = function.__code__
        place = Place(code.co_filename, code.co_firstlineno)
        names = function.__globals__
        dims = {v.name: v for v in names.values() if isinstance(v, Dim)}
        params = {v.name: v for v in names.values() if isinstance(v, Param)}
        states, controls, given = (
            _slots(text, word, dims, place)
            for text, word in ((state, "state"), (control, "control"), (data, "data"))
        )
        identifier(function.__name__, "model", place)
        _check_names(function, states, controls, given, dims, params, place)
        doc = function.__doc__ or sys.modules.get(function.__module__, function).__doc__ or ""
        constant = tuple(s for s in controls if s.kind == "constant")
        if any(s.name == "u" for s in constant):
            raise DefinitionError(
                "the name u means something else in a kernel; rename this constant control", place
            )
        states, controls = (*states, *constant), tuple(s for s in controls if s not in constant)
        return ControlDefinition(
            function.__name__,
            "optimal_control",
            function,
            states,
            controls,
            given,
            tuple(dims.values()),
            tuple(params.values()),
            doc.strip(),
            place,
        )

    return decorate


RESERVED = ("p", "params", "dx", "du", "np", "runtime")


def _check_names(
    function: Callable[..., Any],
    states: tuple[Slot, ...],
    controls: tuple[Slot, ...],
    data: tuple[Slot, ...],
    dims: Mapping[str, Dim],
    params: Mapping[str, Param],
    place: Place,
) -> None:
    if not states:
        raise DefinitionError('no state; say for instance state="x[d]"', place)
    if not controls:
        raise DefinitionError('no control; say for instance control="u[d]"', place)
    known = {d for s in (*states, *data) for d in s.shape}
    for slot in controls:
        for dim in slot.shape:
            if dim not in known and slot.kind != "constant":
                shape = ", ".join(d.name for d in slot.shape)
                raise DefinitionError(
                    f"the size {dim.name} of the control {slot.name} follows from no state and no "
                    f"data; give data of that size, for instance {slot.name}_ref[{shape}] as the "
                    "reference of its cost",
                    place,
                )
    seen: dict[str, str] = {}
    for role, names in (
        ("state", [s.name for s in states]),
        ("control", [s.name for s in controls]),
        ("data", [s.name for s in data]),
        ("dimension", list(dims)),
        ("parameter", list(params)),
    ):
        for name in names:
            if name in seen:
                raise DefinitionError(
                    f"{name} is a {seen[name]} and a {role}; give them two names", place
                )
            if (
                name in RESERVED
                or (name == "x" and role != "state")
                or (name == "u" and role != "control")
            ):
                raise DefinitionError(
                    f"the name {name} means something else in a kernel; rename this {role}", place
                )
            seen[name] = role
    for mark, what, slots in (
        ("p_", "the costate of", states),
        ("d_", "the variation of", (*states, *controls)),
    ):
        for slot in slots:
            if (name := f"{mark}{slot.name}") in seen:
                raise DefinitionError(
                    f"the name {name} means {what} {slot.name}; rename this {seen[name]}", place
                )
    taken = list(inspect.signature(function).parameters)
    arrays = [s.name for s in (*states, *controls, *data)]
    for slot in controls:
        if slot.name not in taken:
            raise DefinitionError(
                f"the control {slot.name} does not occur in {function.__name__}, which takes "
                f"{', '.join(taken)}{_nearest(slot.name, taken)}; to control a product of "
                "matrices, such as A = K^T Q, write the definition in that product",
                place,
            )
    for name in taken:
        if name not in arrays:
            clock = REMEDIES["name 't' is not defined"]
            if name in ("t", "time"):
                raise DefinitionError(f"{function.__name__} takes {name}: {clock}", place)
            raise DefinitionError(
                f"{function.__name__} takes {name}, which is no state, control or data"
                f'{_nearest(name, arrays)}; add it, for instance data="{name}[d]"',
                place,
            )
    for name in arrays:
        if name not in taken:
            raise DefinitionError(
                f"{name} is declared as {seen[name]}, but {function.__name__} does not take it",
                place,
            )


_SLOT = re.compile(r"\s*(\w+)\s*(?:\[([\w\s,]*)\])?\s*(symmetric|on sphere|positive|constant)?\s*$")


def _slots(text: str, word: str, dims: Mapping[str, Dim], place: Place) -> tuple[Slot, ...]:
    out = []
    for part in re.split(r",(?![^\[]*\])", text):
        if not part.strip():
            continue
        match = _SLOT.match(part)
        if not match:
            raise DefinitionError(
                f'{word}={text!r}: {part.strip()!r} is not of the form "x[N, d]", '
                '"S[d, d] symmetric" or "x[n, d] on sphere"',
                place,
            )
        name, inside, kind = match.groups()
        name = identifier(name, word, place)
        words = [w.strip() for w in (inside or "").split(",") if w.strip()]
        for one in words:
            if one not in dims:
                raise DefinitionError(
                    f"{word}={text!r} uses the dimension {one}, which is not declared"
                    f'{_nearest(one, list(dims))}; declare it: {one} = dims("{one}: meaning")',
                    place,
                )
        if len(words) > 2:
            raise DefinitionError(f"{name} has more than two dimensions", place)
        shape = tuple(dims[w] for w in words)
        kind = (kind or "").replace("on ", "")
        if kind == "symmetric" and (len(shape) != 2 or shape[0] != shape[1]):
            raise DefinitionError(f"{name} is declared symmetric, but is not square", place)
        if kind == "constant" and word != "control":
            raise DefinitionError(f"{word}={text!r}: controls alone may be constant", place)
        if (
            kind
            and kind not in ("symmetric", "constant")
            and (kind == "positive") != (word == "data")
        ):
            raise DefinitionError(f"{word}={text!r}: {name} cannot be {kind}", place)
        if word == "control" and kind == "sphere":
            raise Refusal(
                f"the control {name} is declared on the sphere: the law of a control is a minimum "
                "over all directions; make it a state with a rate as control, or leave out the "
                "sphere and price its size",
                place,
            )
        if word == "control" and kind == "symmetric":
            raise Refusal(
                f"the control {name} is declared symmetric; declare {name}[{inside}] and write "
                f"({name} + {name}.T) / 2 in the dynamics: its price makes the other part vanish",
                place,
            )
        if kind == "sphere" and not shape:
            raise DefinitionError(f"{name} is declared on the sphere, but is a scalar", place)
        out.append(Slot(name, shape, kind))
    return tuple(out)


# the words


def problem(
    *,
    dynamics: Any,
    running: Any = 0,
    terminal: Any = 0,
    bounds: Any = (),
    discount: Any = 0,
    end: str = "free",
) -> Problem:
    """A problem: d state / dt = `dynamics` (a tuple if there are several states), and its cost.

    **Arguments:** `running`: cost per unit of time.  `terminal`: cost of the last state.
    `bounds`: `box(u, low, high)`, `l1_ball(W, b, radius=M)`, `l2_ball(...)`, one or several.
    `discount`: a rate rho; costs at time t count exp(-rho t).  `end`: "free" or "fixed".
    """
    if end not in ("free", "fixed"):
        raise DefinitionError(f'end={end!r}; say "free" or "fixed"')
    if isinstance(discount, Array):
        raise DefinitionError(
            "the discount is a rate: a number or a declared parameter, not an array; a weight that "
            "depends on the state belongs into the running cost"
        )
    if isinstance(running, Array) and not isinstance(discount, float):
        discount = exact(discount)
        if discount.is_negative:
            raise DefinitionError(
                f"the discount {discount} is negative: costs at time t would count more and more; "
                "a rate rho >= 0 counts them exp(-rho t)"
            )
    dynamics = tuple(dynamics) if isinstance(dynamics, (tuple, list)) else (dynamics,)
    bounds = (bounds,) if isinstance(bounds, Bound) else tuple(bounds)
    return Problem(dynamics, running, terminal, bounds, discount, end, user_place())


def inner(left: Any, right: Any) -> Any:
    """The sum of products of entries."""
    if isinstance(left, Array) and left.shape != right.shape:
        raise DefinitionError(
            f"inner product of shapes {show_shape(left.shape)} and {show_shape(right.shape)}"
        )
    return (left * right).sum()


def squared_norm(array: Any) -> Any:
    """The sum of squares of all entries."""
    return (array * array).sum()


def trace(matrix: Any) -> Any:
    """The sum of the diagonal."""
    if isinstance(matrix, Array):
        return (matrix * eye(matrix.shape[0])).sum()
    return np.trace(matrix)


def inverse(matrix: Any) -> Any:
    """The inverse of a square matrix."""
    if isinstance(matrix, Array):
        return node("word", (matrix,), _square("inverse", matrix).shape, ("inverse",))
    return np.linalg.inv(matrix)


def log_det(matrix: Any) -> Any:
    """The logarithm of the determinant of a square matrix, where that is positive."""
    if isinstance(matrix, Array):
        root = node("word", (_square("log_det", matrix),), (), ("inv_sqrt_det",))
        return -2 * log(root)
    return np.log(np.linalg.det(matrix))


def _square(word: str, matrix: Array) -> Array:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DefinitionError(f"{word} of an array of shape {show_shape(matrix.shape)}")
    return matrix


def project(points: Any, vectors: Any) -> Any:
    """Rows of `vectors` without their part along the rows of `points` (which have norm one)."""
    return vectors - (points * vectors).sum(axis=-1, keepdims=True) * points


def l1_norm(*arrays: Any) -> Any:
    """The sum of absolute values of all entries."""
    if not isinstance(arrays[0], Array):
        return sum(_modulus(a).sum() for a in arrays)
    meaning = lift(0)
    for a in arrays:
        meaning = meaning + node("function", (a,), a.shape, ("abs", named("abs"))).sum()
    return node("composite", (*arrays, meaning), (), "l1_norm")


def _modulus(array: np.ndarray) -> np.ndarray:
    """|a|, continued to complex numbers near the real axis: complex steps differentiate it."""
    return array * np.sign(np.real(array))


def l2_norm(*arrays: Any) -> Any:
    """The Euclidean norm of all entries together."""
    if not isinstance(arrays[0], Array):
        return np.sqrt(sum((a * a).sum() for a in arrays))
    meaning = squared_norm(arrays[0])
    for a in arrays[1:]:
        meaning = meaning + squared_norm(a)
    return node("composite", (*arrays, sqrt(meaning)), (), "l2_norm")


def _scalar_limits(*limits: Any) -> None:
    for limit in limits:
        if isinstance(limit, Array):
            raise Refusal(
                "the limits of a bound are numbers or declared parameters, not arrays; scale the "
                "control instead: u = limit * w with box(w, -1, 1)"
            )


def box(array: Any, low: Any, high: Any) -> Bound:
    """low <= every entry <= high."""
    _scalar_limits(low, high)
    return Bound("box", (array,), low, high, user_place())


def l1_ball(*arrays: Any, radius: Any) -> Bound:
    """The absolute values of all entries together sum to at most `radius`."""
    _scalar_limits(radius)
    return Bound("l1", arrays, 0, radius, user_place())


def l2_ball(*arrays: Any, radius: Any) -> Bound:
    """The Euclidean norm of all entries together is at most `radius`."""
    _scalar_limits(radius)
    return Bound("l2", arrays, 0, radius, user_place())


# the first reading

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
    "name 't' is not defined": "a definition does not know the time; carry a clock as states "
    "(c' = -w s, s' = w c for a period 2 pi / w)",
    "__array_ufunc__": "take functions from derive.notation, not from NumPy",
    "for abs()": "write l1_norm(x) for a sum of absolute values, sqrt(x**2 + eps) entry by entry",
    "attribute 'max'": "write log(exp(beta * x).sum()) / beta for a smooth maximum",
    "attribute 'min'": "write -log(exp(-beta * x).sum()) / beta for a smooth minimum",
    "problem() got an unexpected": "a problem takes dynamics, running, terminal, bounds, discount "
    "and end",
    "not supported between": "a definition cannot branch on the values of an array; relu(...) has "
    "a kink where its argument changes sign",
}


def _with_remedy(problem: DefinitionError) -> DefinitionError:
    for sign, remedy in REMEDIES.items():
        if sign in problem.message:
            return type(problem)(f"{problem.message}; {remedy}", problem.place)
    return problem


def trace_problem(model: ControlDefinition) -> ControlTrace:
    """Run the definition once on symbols.

    Raises `DefinitionError`, with the line, for whatever is no problem: wrong shapes, a cost
    without control or without state, a control that does nothing.
    """
    slots = (*model.states, *model.controls, *model.data)
    arrays = {s.name: node("leaf", (), s.shape, s.name) for s in slots}
    shim = replace(
        _SHIM, name=model.name, function=lambda _: model.function(**arrays), place=model.place
    )
    try:
        found, local = _call(shim, None)  # type: ignore[arg-type]
    except DefinitionError as problem:
        raise _with_remedy(problem) from None
    if not isinstance(found, Problem):
        raise DefinitionError(
            f"{model.name} returns {type(found).__name__}; return problem(dynamics=..., "
            "running=...)",
            model.place,
        )
    place = found.place or model.place
    dynamics = tuple(lift(f) for f in found.dynamics)
    moving = [s for s in model.states if s.kind != "constant"]
    if len(dynamics) != len(moving):
        raise DefinitionError(
            f"{len(moving)} states ({', '.join(s.name for s in moving)}), but the "
            f"dynamics have {len(dynamics)} parts",
            place,
        )
    for slot, rate in zip(moving, dynamics, strict=True):
        if rate.shape != slot.shape:
            raise DefinitionError(
                f"the dynamics of {slot.name} have shape {show_shape(rate.shape)}, but "
                f"{slot.name} has shape {show_shape(slot.shape)}",
                place,
            )
    running, terminal = lift(found.running), lift(found.terminal)
    for word, cost in (("running", running), ("terminal", terminal)):
        if cost.shape != ():
            raise DefinitionError(
                f"the {word} cost has shape {show_shape(cost.shape)}; a cost is a scalar: sum it",
                place,
            )
    for a in (n for root in (*dynamics, running, terminal) for n in walk(root)):
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
    _check_symbols(model, walk(running) + walk(terminal) + [a for f in dynamics for a in walk(f)])  # type: ignore[arg-type]
    below = {id(a) for c in (running, terminal) for a in walk(c)}
    if found.end != "fixed" and not any(id(arrays[s.name]) in below for s in moving):
        raise DefinitionError(
            "the cost does not depend on the state: there is nothing to steer towards; add a "
            "tracking term to running, or a terminal cost",
            place,
        )
    moved = {id(a) for f in dynamics for a in walk(f)}
    priced = {id(a) for a in walk(running)}
    bounded = {id(a) for b in found.bounds for a in b.arrays}
    for slot in (*model.controls, *model.constants):
        own = id(arrays[slot.name])
        if own not in moved:
            raise DefinitionError(
                f"the control {slot.name} does not occur in the dynamics, so it steers nothing",
                place,
            )
        if own not in priced and own not in bounded:
            raise DefinitionError(
                f"the running cost does not depend on the control {slot.name}, and no bound "
                "holds it: it would be infinite; add a term such as "
                f"beta / 2 * squared_norm({slot.name})",
                place,
            )
        if slot.kind != "constant" and any(id(a) == own for a in walk(terminal)):
            raise DefinitionError(f"the terminal cost depends on the control {slot.name}", place)
    _check_constants(model, arrays, found, running, place)
    for bound in found.bounds:
        for a in bound.arrays:
            if all(a is not arrays[s.name] for s in model.controls):
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
    nodes = {a for root in (*dynamics, running, terminal) for a in walk(root)}
    dynamics = (*dynamics, *(node("full", (), s.shape, sp.Integer(0)) for s in model.constants))
    names = {a: word for a, word in NAMED.items() if a in nodes}
    names |= {array: name for name, array in local.items() if array.op != "leaf"}
    whole = replace(found, dynamics=dynamics, running=running, terminal=terminal)
    facts = tuple(dict.fromkeys(word for a, word in FACTS.items() if a in nodes))
    return ControlTrace(model, arrays, whole, names, facts)


def _check_constants(
    model: ControlDefinition,
    arrays: Mapping[str, Array],
    found: Problem,
    running: Array,
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
    for a in walk(running):
        rough = a.op == "composite" and a.data in ("l1_norm", "l2_norm")
        if rough and leaves & set(walk(a)):
            raise Refusal(
                f"{a.data} of a control that is constant in time ({names}): its kink has no law "
                "at each time; use squared_norm",
                place,
            )


def run_problem(
    model: ControlDefinition,
    arrays: Mapping[str, np.ndarray],
    *,
    dims: Mapping[str, float],
    params: Mapping[str, float],
    norm: Callable[[str, tuple[str, ...]], float] | None = None,
) -> Problem:
    """The second reading: the definition's text on NumPy arrays and numbers.

    `norm`: what stands for a norm of whole controls, given the word and the names of the controls.
    """
    from derive.notation.common.numeric import _bound

    def no_draw(*_: Any) -> np.ndarray:
        raise DefinitionError("a control problem draws no weights", model.place)

    function = _bound(model.function, dims, params, no_draw)
    if norm is not None:
        controls = {id(arrays[s.name]): s.name for s in model.controls}
        _hear_norms(function, controls, norm)
    found = function(**arrays)
    still = tuple(np.zeros_like(arrays[s.name]) for s in model.constants)
    return replace(found, dynamics=(*found.dynamics, *still)) if still else found


def _hear_norms(
    function: Callable[..., Any],
    controls: Mapping[int, str],
    norm: Callable[[str, tuple[str, ...]], float],
) -> None:
    """Norms of whole controls (by the identity of their arrays) are what `norm` says."""

    def instead(plain: Callable[..., Any]) -> Callable[..., Any]:
        def word(*arrays: Any) -> Any:
            names = tuple(controls.get(id(a), "") for a in arrays)
            return norm(plain.__name__, names) if all(names) else plain(*arrays)

        return word

    names = function.__globals__
    for name, value in list(names.items()):
        if value in (l1_norm, l2_norm):
            names[name] = instead(value)
        elif isinstance(value, types.SimpleNamespace):  # the notation by its module's name
            for plain in (l1_norm, l2_norm):
                if getattr(value, plain.__name__, None) is plain:
                    setattr(value, plain.__name__, instead(plain))


_SHIM = Model("", "", lambda _: None, "", (), Dim("n"), Dim("n"), False, (), (), "", Place("", 0))

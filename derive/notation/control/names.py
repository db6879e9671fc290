"""Checks the names of a control problem: each means one thing, and the function takes them all."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from derive.errors import DefinitionError, Place
from derive.notation.common.names import nearest
from derive.notation.common.scalars import Dim, Param
from derive.notation.control.slots import Slot

RESERVED = ("p", "params", "dx", "du", "np", "runtime")
#: names that one role alone may have
_OWNER = {"x": "state", "u": "control"}
Slots = tuple[Slot, ...]

#: what to write where a definition asks for the time
CLOCK = (
    "a definition does not know the time; carry a clock as states: s with the rate 1 "
    '(state="x[d], s", dynamics=(..., 1)), which starts at s = 0, or one that goes round '
    "(c' = -w s, s' = w c for a period 2 pi / w)"
)


@dataclass(frozen=True)
class Declared:
    """What a definition declares by the decorator, and the symbols of its file by name."""

    states: Slots
    controls: Slots
    data: Slots
    dims: Mapping[str, Dim]
    params: Mapping[str, Param]


def check_names(function: Callable[..., Any], own: Declared, place: Place) -> None:
    """Raises `DefinitionError` at `place` for the first name that is missing, unknown or taken."""
    if not own.states:
        raise DefinitionError('no state; say for instance state="x[d]"', place)
    if not own.controls:
        raise DefinitionError('no control; say for instance control="u[d]"', place)
    _check_sizes(own, place)
    roles = _roles(own, place)
    for mark, what, slots in (
        ("p_", "the costate of", own.states),
        ("d_", "the variation of", (*own.states, *own.controls)),
    ):
        for slot in slots:
            if (name := f"{mark}{slot.name}") in roles:
                raise DefinitionError(
                    f"the name {name} means {what} {slot.name}; rename this {roles[name]}", place
                )
    arrays = [s.name for s in (*own.states, *own.controls, *own.data)]
    _check_arguments(function, arrays, own.controls, place)
    for name in arrays:
        if name not in inspect.signature(function).parameters:
            raise DefinitionError(
                f"{name} is declared as {roles[name]}, but {function.__name__} does not take it",
                place,
            )


def _check_sizes(own: Declared, place: Place) -> None:
    """The sizes of a control follow from the arrays that a user gives."""
    known = {d for s in (*own.states, *own.data) for d in s.shape}
    for slot in own.controls:
        for dim in slot.shape:
            if dim not in known and slot.kind != "constant":
                shape = ", ".join(d.name for d in slot.shape)
                raise DefinitionError(
                    f"the size {dim.name} of the control {slot.name} follows from no state and no "
                    f"data; give data of that size, for instance {slot.name}_ref[{shape}] as the "
                    "reference of its cost",
                    place,
                )


def _roles(own: Declared, place: Place) -> dict[str, str]:
    """What each name is; refuses one of two roles, and those that mean something in a kernel."""
    roles: dict[str, str] = {}
    for role, names in (
        ("state", [s.name for s in own.states]),
        ("control", [s.name for s in own.controls]),
        ("data", [s.name for s in own.data]),
        ("dimension", list(own.dims)),
        ("parameter", list(own.params)),
    ):
        for name in names:
            if name in roles:
                raise DefinitionError(
                    f"{name} is a {roles[name]} and a {role}; give them two names", place
                )
            if name in RESERVED or _OWNER.get(name, role) != role:
                raise DefinitionError(
                    f"the name {name} means something else in a kernel; rename this {role}", place
                )
            roles[name] = role
    return roles


def _check_arguments(
    function: Callable[..., Any], arrays: list[str], controls: Slots, place: Place
) -> None:
    """The function takes every control, and nothing that is not declared."""
    taken = list(inspect.signature(function).parameters)
    for slot in controls:
        if slot.name not in taken:
            raise DefinitionError(
                f"the control {slot.name} does not occur in {function.__name__}, which takes "
                f"{', '.join(taken)}{nearest(slot.name, taken)}; to control a product of "
                "matrices, such as A = K^T Q, write the definition in that product",
                place,
            )
    for name in taken:
        if name in arrays:
            continue
        if name in ("t", "time"):
            raise DefinitionError(f"{function.__name__} takes {name}: {CLOCK}", place)
        raise DefinitionError(
            f"{function.__name__} takes {name}, which is no state, control or data"
            f'{nearest(name, arrays)}; add it, for instance data="{name}[d]"',
            place,
        )

"""An optimal control problem is an object: the decorated function and what it declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from derive.errors import DefinitionError, Place
from derive.notation.common.declared import doc_of, place_of, symbols_of
from derive.notation.common.names import identifier
from derive.notation.common.scalars import Dim, Param
from derive.notation.control.names import Declared, check_names
from derive.notation.control.slots import Slot, slots


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
        place = place_of(function)
        said = f"{state} {control} {data}"
        dims, params = symbols_of(function, Dim, said), symbols_of(function, Param, said)
        states, controls, given = (
            slots(text, word, dims, place)
            for text, word in ((state, "state"), (control, "control"), (data, "data"))
        )
        identifier(function.__name__, "model", place)
        check_names(function, Declared(states, controls, given, dims, params), place)
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
            doc_of(function),
            place,
        )

    return decorate

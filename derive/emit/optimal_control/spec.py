"""The specification of a control problem's module: what the runtime is told of the problem."""

from __future__ import annotations

from collections.abc import Sequence

import sympy as sp

from derive.emit.common.names import NAME, local
from derive.emit.common.scalars import interval, python
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.control.slots import Slot

#: functions of every module of this kind
_FUNCTIONS = ("hamiltonian", "state_rate", "costate_rate", "stationarity", "static_residual",
              "control_law", "h_xx", "h_xu", "h_ux", "h_uu", "h_px", "h_pu")  # fmt: skip


def specification(result: OptimalControl) -> list[tuple[str, str]]:
    """Fields of the runtime's `ControlModel` and their texts."""
    model = result.model
    has_end = not all(result.algebra.is_zero(a) for a in result.equations["terminal_rate"])
    out = [
        ("params", "Params"),
        ("param_shapes", _text({q.name: () for q in model.params} | _shapes(model.data))),
        ("state", "State"),
        ("control", "Control"),
        ("costate", "Costate"),
        ("state_shapes", _text(_shapes(model.states))),
        ("control_shapes", _text(_shapes(model.controls))),
        ("symmetric", _text(tuple(s.name for s in model.states if s.kind == "symmetric"))),
        ("sphere", _text(tuple(s.name for s in model.states if s.kind == "sphere"))),
        ("bounds", _bounds(result)),
        ("running_cost", "running_cost.single"),
        ("terminal_cost", "terminal_cost.single" if has_end else "None"),
        ("terminal_rate", "terminal_rate.single" if has_end else "None"),
        *((name, f"{name}.single") for name in _FUNCTIONS),
    ]
    if model.constants:
        out.append(("constant", _text(tuple(s.name for s in model.constants))))
    if result.law.expressions is None and not result.law.numeric:
        out.append(("implicit", "True"))
    if _curvature_varies(result):
        out.append(("curved", "True"))
    rho = result.discount
    out += [
        ("discount", "None" if rho == 0 else f"lambda params: {_of_params(rho)}"),
        ("fixed_end", repr(result.fixed_end)),
        ("sparse", _text(result.law.sparse)),
    ]
    if result.free_time:
        out.append(("free_time", "True"))
    if result.law.switching:
        out.append(("switching", _switching(result)))
    ranges = {q.name: interval(q) for q in model.params if q.range.text}
    kinds = {s.name: s.kind for s in model.data if s.kind}
    out += [(name, repr(v)) for name, v in (("ranges", ranges), ("kinds", kinds)) if v]
    return out


def _shapes(slots: Sequence[Slot]) -> dict[str, tuple[str, ...]]:
    return {s.name: tuple(d.name for d in s.shape) for s in slots}


def _text(value: object) -> str:
    """A literal in double quotes."""
    return repr(value).replace("'", '"')


def _curvature_varies(result: OptimalControl) -> bool:
    """Whether H_uu depends on state, costate or control, so that its sign may change."""
    moving = (*result.x, *result.p, *result.u)
    return not result.bounds and any(
        result.algebra.depends(part, moving) for part in result.equations["h_uu"]
    )


def _of_params(scalar: sp.Expr) -> str:
    names = {local(s.name): f"params.{s.name}" for s in scalar.free_symbols}
    return NAME.sub(lambda m: names.get(m[0], m[0]), python(scalar))


def _bounds(result: OptimalControl) -> str:
    """Bounds by control: numbers, names of parameters, or functions of them."""
    entries = []
    for bound in result.bounds:
        ends = [sp.sympify(e) for e in (bound.low, bound.high)]
        values = ", ".join(_limit(e) for e in (ends if bound.kind == "box" else ends[1:]))
        entries += [f'"{a.data}": ("{bound.kind}", {values})' for a in bound.arrays]
    return "{" + ", ".join(entries) + "}"


def _switching(result: OptimalControl) -> str:
    """Groups of controls whose law jumps: names, kind of bound, price, limits."""
    entries = []
    for group in result.law.switching:
        names = _text(tuple(a.data for a in group.arrays))
        numbers = ", ".join(_limit(e) for e in (group.weight, group.low, group.high))
        entries.append(f'({names}, "{group.kind}", {numbers})')
    return f"({', '.join(entries)},)"


def _limit(end: sp.Expr) -> str:
    if end.is_Symbol:
        return f'"{end.name}"'
    return python(end) if end.is_number else f"lambda params: {_of_params(end)}"

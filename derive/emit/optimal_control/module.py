"""One generated module per control problem: the derived system bound to the runtime.

Input: a derivation.  Output: the module's text, the same bytes for the same input.  Every formula
comes from the derivation; the template holds the shape of the module.
"""

from __future__ import annotations

import hashlib

import sympy as sp

from derive.emit.common import array_latex
from derive.emit.common.graph_code import statements
from derive.emit.common.layout import tidy
from derive.emit.common.rendering import NO_HASH, body_hash, environment
from derive.emit.common.scalars import python
from derive.emit.optimal_control.kernels import kernels_of, words_of_runtime
from derive.emit.optimal_control.names import leaf_names
from derive.emit.optimal_control.shortened import shortened
from derive.emit.optimal_control.spec import specification
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.scalars import Param
from derive.notation.control.slots import Slot
from derive.version import ENGINE

LEFT_SIDES = {
    "running_cost": "L",
    "terminal_cost": r"\varphi",
    "hamiltonian": "H",
    "state_rate": r"\dot{{{x}}}",
    "costate_rate": r"\dot{{{p}}}",
    "stationarity": r"\partial_{{{u}}} H",
    "control_law": "{u}",
    "terminal_rate": r"{p}(T)",
}


def render(result: OptimalControl, source: str, request: str) -> str:
    """Text of `generated/<model>.py`."""
    model = result.model
    kernels, shown = kernels_of(result), shortened(result)
    text = (
        environment()
        .get_template("optimal_control.py.jinja")
        .render(
            title=model.doc.splitlines()[0] if model.doc else model.name,
            engine=ENGINE,
            source=source,
            request=request,
            toolchain=f"SymPy {sp.__version__}",
            body=NO_HASH,
            model=model.name,
            signature=model_signature(result),
            task=_task(result),
            equations_text=equations_text(shown),
            equations_latex=equations_latex(shown),
            facts=result.facts,
            words=words_of_runtime(kernels),
            params=[{"name": q.name, "meaning": _meaning(q)} for q in model.params]
            + [{"name": s.name, "meaning": _shape_text(s)} for s in model.data],
            states=[{"name": s.name, "meaning": _shape_text(s)} for s in model.states],
            controls=[{"name": s.name, "meaning": _shape_text(s)} for s in model.controls],
            ranks=_ranks(result),
            kernels=kernels,
            spec=specification(result),
            sphere=any(s.kind == "sphere" for s in model.states),
        )
    )
    text = tidy(text)
    return text.replace(NO_HASH, body_hash(text), 1)


def model_signature(result: OptimalControl) -> str:
    """Sixteen digits over what the definition says: equations, bounds, parameters, shapes."""
    model = result.model
    parts = [model.method, *equations_text(result)]
    for slot in (*model.states, *model.controls, *model.data):
        parts.append(f"{slot.name} {[d.name for d in slot.shape]} {slot.kind}")
    parts += [f"{q.name}: {q.range.text}" for q in model.params]
    parts += [f"{b.kind} {[a.data for a in b.arrays]} {b.low} {b.high}" for b in result.bounds]
    parts += [f"{q.kind} {q.weight} {[a.data for a in q.arrays]}" for q in result.prices]
    parts += [str(result.discount), str(result.fixed_end), str(result.law.sparse)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def equations_text(result: OptimalControl) -> list[str]:
    """The equations as lines of array code, the second derivatives left out."""
    out = []
    for name, parts in result.equations.items():
        if name.startswith("h_"):
            continue
        for position, part in enumerate(parts):
            lines, text = statements(
                part, result.algebra.names, leaf_names(result), "x.dtype", signed=True
            )
            out.append(f"{_plain(result, name, position)} = {text}")
            out += [f"    {n} = {words}" for n, words in lines]
    return out


def _plain(result: OptimalControl, name: str, position: int) -> str:
    x = result.x[min(position, len(result.x) - 1)]
    u = result.u[min(position, len(result.u) - 1)] if result.u else x
    return {
        "running_cost": "L",
        "terminal_cost": "phi",
        "hamiltonian": "H",
        "state_rate": f"{x.data}'",
        "costate_rate": f"p_{x.data}'",
        "stationarity": f"dH/d{u.data}",
        "control_law": u.data,
        "terminal_rate": f"p_{x.data}(T)",
    }[name]


def equations_latex(result: OptimalControl) -> dict[str, str]:
    out = {}
    for name, left in LEFT_SIDES.items():
        for position, part in enumerate(result.equations.get(name, ())):
            x = result.x[position] if position < len(result.x) else result.x[0]
            u = result.u[position] if position < len(result.u) else (*result.u, x)[0]
            words = (
                left.format(
                    x=array_latex.symbol(x.data),
                    p=array_latex.symbol(f"p_{x.data}"),
                    u=array_latex.symbol(u.data),
                )
                if "{" in left
                else left
            )
            own = u.data if name in ("stationarity", "control_law") else x.data
            many = len(result.equations[name]) > 1
            key = f"{name} of {own}" if many else name
            out[key] = array_latex.equation(words, part, result.algebra.names)
    return out


def _task(result: OptimalControl) -> str:
    """What is minimised, and what the equations below it are, in words."""
    rho = result.discount
    late = "" if rho == 0 else f", costs discounted at the rate {python(rho)}"
    return (
        f"Minimise the integral of L plus phi at the end{late}.  H: the Hamiltonian, minimised in "
        f"the control; p: the costate{''.join(f'; {words}' for words in spheres(result))}."
    )


def spheres(result: OptimalControl) -> list[str]:
    """Where the equations are as they are shown."""
    names = [s.name for s in result.model.states if s.kind == "sphere"]
    return [
        f"equations as they are where rows of {x} have norm one and rows of p_{x} are orthogonal "
        "to them"
        for x in names
    ]


def _meaning(symbol: Param) -> str:
    words = [symbol.range.text, symbol.meaning]
    return ", ".join(dict.fromkeys(w for w in words if w))


def _shape_text(slot: Slot) -> str:
    shape = (
        "(" + ", ".join(d.name for d in slot.shape) + ("," if len(slot.shape) == 1 else "") + ")"
    )
    kind = slot.kind.replace("sphere", "rows of norm one")
    if kind == "constant":
        kind = "a control that is constant in time; in x0 a first guess"
    return f"{shape}, {kind}" if kind else shape


def _ranks(result: OptimalControl) -> dict[str, tuple[int, ...]]:
    x, u = (tuple(len(a.shape) for a in group) for group in (result.x, result.u))
    params = tuple([0] * len(result.model.params) + [len(a.shape) for a in result.data])
    return {"x": x, "p": x, "u": u, "params": params, "dx": x, "du": u}

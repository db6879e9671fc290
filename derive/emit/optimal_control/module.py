"""One generated module per control problem: the derived system bound to the runtime.

Input: a derivation.  Output: the module's text, the same bytes for the same input.  Every formula
comes from the derivation; the template holds the shape of the module.
"""

from __future__ import annotations

import hashlib

import sympy as sp

from derive.calculus.written.dialect import LATEX, TEXT, Dialect
from derive.calculus.written.equation import Written
from derive.emit.common.array_matrices import symbol
from derive.emit.common.array_written import written
from derive.emit.common.graph_code import statements
from derive.emit.common.layout import tidy
from derive.emit.common.rendering import NO_HASH, body_hash, environment
from derive.emit.common.scalars import python
from derive.emit.optimal_control.kernels import kernels_of, words_of_runtime
from derive.emit.optimal_control.names import leaf_names
from derive.emit.optimal_control.shortened import shortened
from derive.emit.optimal_control.spec import specification
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.arrays import Array
from derive.notation.common.scalars import Param
from derive.notation.control.slots import Slot
from derive.version import ENGINE

#: what an equation says, in text and in LaTeX
LEFT_SIDES = {
    "running_cost": ("L", "L"),
    "terminal_cost": ("phi", r"\varphi"),
    "hamiltonian": ("H", "H"),
    "state_rate": ("{x}'", r"\dot{{{x}}}"),
    "costate_rate": ("{p}'", r"\dot{{{p}}}"),
    "stationarity": ("dH/d{u}", r"\partial_{{{u}}} H"),
    "control_law": ("{u}", "{u}"),
    "terminal_rate": ("{p}(T)", "{p}(T)"),
}
OF_CONTROLS = ("stationarity", "control_law")


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
            equations_text=[row for w in equations(shown).values() for row in w.rows],
            equations_latex={name: w.latex for name, w in equations(shown, LATEX).items()},
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
    parts = [model.method, *_code(result)]
    for slot in (*model.states, *model.controls, *model.data):
        parts.append(f"{slot.name} {[d.name for d in slot.shape]} {slot.kind}")
    parts += [f"{q.name}: {q.range.text}" for q in model.params]
    parts += [f"{b.kind} {[a.data for a in b.arrays]} {b.low} {b.high}" for b in result.bounds]
    parts += [f"{q.kind} {q.weight} {[a.data for a in q.arrays]}" for q in result.prices]
    parts += [str(result.discount), str(result.fixed_end), str(result.law.sparse)]
    parts += ["free final time"] if result.free_time else []
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def equations(result: OptimalControl, dialect: Dialect = TEXT) -> dict[str, Written]:
    """Every equation but the second derivatives; one of several states or controls names it."""
    out = {}
    for name, (text, tex) in LEFT_SIDES.items():
        parts = result.equations.get(name, ())
        leaves = result.u if name in OF_CONTROLS else result.x
        for leaf, part in zip(leaves or result.x, parts, strict=False):
            own = str(leaf.data)
            spelt = symbol if dialect.is_latex else str
            left = (tex if dialect.is_latex else text).format(
                x=spelt(own), p=spelt(f"p_{own}"), u=spelt(own)
            )
            key = f"{name} of {own}" if len(parts) > 1 else name
            out[key] = of_graph(result, left, part, dialect)
    return out


def of_graph(result: OptimalControl, left: str, part: Array, dialect: Dialect = TEXT) -> Written:
    """One equation, of an equation's or of another value."""
    algebra, model = result.algebra, result.model
    groups = (result.x, result.p, result.u, result.data, result.dx, result.du)
    avoid = {str(leaf.data) for group in groups for leaf in group}
    avoid |= {d.name for d in model.dims} | {q.name for q in model.params}
    return written(left, part, algebra.names, dialect, algebra.symmetric, avoid)


def _code(result: OptimalControl) -> list[str]:
    """The equations as array code, the second derivatives left out."""
    out = []
    for name in (n for n in result.equations if n in LEFT_SIDES):
        for part in result.equations[name]:
            lines, text = statements(part, result.algebra.names, leaf_names(result), "x.dtype")
            out += [f"{name} = {text}", *(f"    {n} = {words}" for n, words in lines)]
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

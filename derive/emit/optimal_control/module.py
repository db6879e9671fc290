"""One generated module per control problem: the derived system bound to the runtime.

Input: a derivation.  Output: the module's text, the same bytes for the same input.  Every formula
comes from the derivation; the template holds the shape of the module.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import sympy as sp

from derive.emit.common import array_latex
from derive.emit.common.graph_code import statements
from derive.emit.common.layout import tidy
from derive.emit.common.names import NAME, local, words_in
from derive.emit.common.rendering import NO_HASH, body_hash, environment
from derive.emit.common.scalars import python
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.arrays import Array, walk
from derive.notation.common.scalars import Param
from derive.notation.control.slots import Slot
from derive.version import ENGINE

#: name -> (arguments, what it returns, docstring)
FUNCTIONS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "running_cost": (("x", "u", "params"), "", "Running cost L(x, u): a scalar per unit of time."),
    "terminal_cost": (("x", "params"), "", "Terminal cost of the last state: a scalar."),
    "terminal_rate": (
        ("x", "params"),
        "Costate",
        "Gradient of the terminal cost: p at a free end.",
    ),
    "hamiltonian": (("x", "p", "u", "params"), "", "H = L + p.f, a scalar; minimised in u."),
    "state_rate": (("x", "u", "params"), "State", "x' = H_p: the dynamics."),
    "costate_rate": (("x", "p", "u", "params"), "Costate", "p' = -H_x: the costate equation."),
    "stationarity": (
        ("x", "p", "u", "params"),
        "Control",
        "H_u: zero along a free optimum (norms of the control in the cost are left out).",
    ),
    "control_law": (("x", "p", "params"), "Control", "The control that minimises H."),
    "h_xx": (("x", "p", "u", "params", "dx"), "Costate", "H_xx dx."),
    "h_xu": (("x", "p", "u", "params", "du"), "Costate", "H_xu du."),
    "h_ux": (("x", "p", "u", "params", "dx"), "Control", "H_ux dx."),
    "h_uu": (("x", "p", "u", "params", "du"), "Control", "H_uu du."),
    "h_px": (("x", "u", "params", "dx"), "State", "H_px dx: the dynamics linearised in the state."),
    "h_pu": (("x", "u", "params", "du"), "State", "H_pu du: ... and in the control."),
}

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


@dataclass
class Kernel:
    """One function of the module."""

    name: str
    arguments: tuple[str, ...]
    doc: str
    body: list[str] = field(default_factory=list)
    result: str = ""


def render(result: OptimalControl, source: str, request: str) -> str:
    """Text of `generated/<model>.py`."""
    model = result.model
    kernels = [_kernel(result, name) for name in result.equations]
    if result.law.expressions is None:
        kernels.append(_solved_law(result))
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
            equations_text=equations_text(result),
            equations_latex=equations_latex(result),
            facts=result.facts,
            words=_words(kernels),
            params=[{"name": q.name, "meaning": _meaning(q)} for q in model.params]
            + [{"name": s.name, "meaning": _shape_text(s)} for s in model.data],
            states=[{"name": s.name, "meaning": _shape_text(s)} for s in model.states],
            controls=[{"name": s.name, "meaning": _shape_text(s)} for s in model.controls],
            ranks=_ranks(result),
            kernels=kernels,
            spec=_spec(result),
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
                part, result.algebra.names, _leaf_names(result), "x.dtype", signed=True
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


def _leaf_names(result: OptimalControl) -> dict[Array, str]:
    groups = (result.x, result.p, result.u, result.data, result.dx, result.du)
    return {leaf: local(leaf.data) for group in groups for leaf in group}


def _reserved(result: OptimalControl) -> set[str]:
    from derive.notation.common.elementwise import BODIES

    return {
        "x", "p", "u", "params", "dx", "du", "full", "eye", "softmax", "maximum", "minimum",
        "linear_solve", "inverse", "inv_sqrt_det", "tril", "triu", "sum", "pi", "np", "runtime",
        "linf_norm", "l1_vertex", "l2_direction",
        "l2_norm_of", "l1_norm", "l2_norm", "State", "Costate", "Control", "Params",
        *BODIES, *(local(d.name) for d in result.model.dims),
        *(local(q.name) for q in result.model.params),
        *FUNCTIONS, *_OPS, *_CONTROL_WORDS,
    }  # fmt: skip


def _kernel(result: OptimalControl, name: str) -> Kernel:
    arguments, kind, doc = FUNCTIONS[name]
    parts = result.equations[name]
    root = Array("tuple", parts, ())
    leaves = _leaf_names(result)
    first = leaves[result.x[0]]
    dtype = f"{first}.dtype"
    reserved = _reserved(result) | set(leaves.values())
    lines, text = statements(root, result.algebra.names, leaves, dtype, reserved, True)
    kernel = Kernel(name, arguments, doc)
    words = words_in([t for _, t in lines] + [text])
    kernel.body = _header(result, words, arguments) + [f"{n} = {t}" for n, t in lines]
    kernel.result = f"{kind}({text})" if kind else _as_scalar(text, parts[0], dtype)
    if not kind and kernel.result != text:
        kernel.body = (
            _header(result, words | {first}, arguments)
            + kernel.body[len(_header(result, words, arguments)) :]
        )
    return kernel


def _as_scalar(text: str, part: Array, dtype: str) -> str:
    """A cost that is a number becomes an array of the state's type."""
    return f"full((), {text}, {dtype})" if part.op == "full" else text


def _header(result: OptimalControl, words: set[str], arguments: Sequence[str]) -> list[str]:
    """Unpack the arguments that the statements use, all at once: names may trade places."""
    groups = {
        "x": result.x,
        "p": result.p,
        "u": result.u,
        "dx": result.dx,
        "du": result.du,
    }
    names = _leaf_names(result)
    dims = sorted(local(d.name) for d in result.model.dims if local(d.name) in words)
    sized: dict[str, tuple[str, int]] = {}
    holders = [*result.x, *result.data, *(result.u if "u" in arguments else ())]
    for dim in dims:
        for leaf in holders:
            sizes = [local(d.name) for d in leaf.shape]
            if dim in sizes and dim not in sized:
                sized[dim] = (names[leaf], sizes.index(dim))
    words = words | {name for name, _ in sized.values()}
    used = [a for a in arguments if a in groups and {names[leaf] for leaf in groups[a]} & words]
    out = []
    if used:
        left = [_pattern([names[leaf] for leaf in groups[a]]) for a in used]
        if len(used) == 1:
            out.append(f"{left[0].strip('()') if ', ' in left[0] else left[0]} = {used[0]}")
        else:
            out.append(f"{', '.join(left)} = {', '.join(used)}")
    fields = {local(q.name): q.name for q in result.model.params}
    fields |= {names[leaf]: leaf.data for leaf in result.data}
    wanted = [n for n in fields if n in words]
    if wanted:
        out.append(f"{', '.join(wanted)} = {', '.join(f'params.{fields[n]}' for n in wanted)}")
    for dim, (name, axis) in sized.items():
        out.append(f"{dim} = {name}.shape[{axis}]")
    return out


def _pattern(names: list[str]) -> str:
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"


def _solved_law(result: OptimalControl) -> Kernel:
    """The control law by Newton's method on H_u, where it has no closed form."""
    kernel = Kernel("control_law", *FUNCTIONS["control_law"][::2])
    names = _leaf_names(result)
    shapes = [tuple(local(d.name) for d in s.shape) for s in result.model.controls]
    before = names[result.x[0]]
    words = {d for shape in shapes for d in shape} | {before}
    kernel.body = _header(result, words, ("x",))
    parts = [
        f"full(({', '.join(s)}{',' if len(s) == 1 else ''}), 0, {before}.dtype)" for s in shapes
    ]
    # the header may hide the argument x behind a state of that name
    pack = f"State({', '.join(names[leaf] for leaf in result.x)})"
    kernel.body.append(f"start = Control({', '.join(parts)})")
    kernel.result = (
        f"solved_control(stationarity, h_uu, {pack}, p, params, start, steps=1)"
        if result.law.numeric
        else f"minimising_control(hamiltonian, stationarity, h_uu, {pack}, p, params, start)"
    )
    if not any("= x" in line for line in kernel.body):
        kernel.body.insert(0, f"{_pattern([names[leaf] for leaf in result.x])} = x")
    return kernel


_OPS = ("causal", "cos", "erf", "exp", "eye", "full", "gelu", "log", "pi", "relu", "sigmoid",
        "silu", "sin", "softmax", "sqrt", "tanh")  # fmt: skip
_CONTROL_WORDS = (
    "abs",
    "heaviside",
    "inv_sqrt_det",
    "inverse",
    "l1_norm",
    "l1_vertex",
    "l2_direction",
    "l2_norm",
    "l2_norm_of",
    "linear_solve",
    "linf_norm",
    "maximum",
    "minimising_control",
    "minimum",
    "sign",
    "solved_control",
    "tril",
    "triu",
)


def _words(kernels: Sequence[Kernel]) -> dict[str, list[str]]:
    found = words_in([line for k in kernels for line in [*k.body, k.result]])
    return {
        "ops": [w for w in _OPS if w in found],
        "control": sorted([*(w for w in _CONTROL_WORDS if w in found), "over_batches"]),
    }


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


def _spec(result: OptimalControl) -> list[tuple[str, str]]:
    model = result.model
    has_end = not all(result.algebra.is_zero(a) for a in result.equations["terminal_rate"])

    def shapes(slots: Sequence[Slot]) -> str:
        return repr({s.name: tuple(d.name for d in s.shape) for s in slots}).replace("'", '"')

    out = [
        ("params", "Params"),
        (
            "param_shapes",
            repr(
                {q.name: () for q in model.params}
                | {s.name: tuple(d.name for d in s.shape) for s in model.data}
            ).replace("'", '"'),
        ),
        ("state", "State"),
        ("control", "Control"),
        ("costate", "Costate"),
        ("state_shapes", shapes(model.states)),
        ("control_shapes", shapes(model.controls)),
        ("symmetric", _names(s.name for s in model.states if s.kind == "symmetric")),
        ("sphere", _names(s.name for s in model.states if s.kind == "sphere")),
        ("bounds", _bounds(result)),
        ("running_cost", "running_cost.single"),
        ("terminal_cost", "terminal_cost.single" if has_end else "None"),
        ("terminal_rate", "terminal_rate.single" if has_end else "None"),
    ]
    out += [
        (name, f"{name}.single")
        for name in (
            "hamiltonian",
            "state_rate",
            "costate_rate",
            "stationarity",
            "static_residual",
            "control_law",
            "h_xx",
            "h_xu",
            "h_ux",
            "h_uu",
            "h_px",
            "h_pu",
        )
    ]
    if model.constants:
        out.append(("constant", _names(s.name for s in model.constants)))
    if result.law.expressions is None and not result.law.numeric:
        out.append(("implicit", "True"))
    if _curvature_varies(result):
        out.append(("curved", "True"))
    rho = result.discount
    out += [
        ("discount", "None" if rho == 0 else f"lambda params: {_of_params(rho)}"),
        ("fixed_end", repr(result.fixed_end)),
        ("sparse", repr(result.law.sparse).replace("'", '"')),
    ]
    ranges = {q.name: _range(q) for q in model.params if q.range.text}
    kinds = {s.name: s.kind for s in model.data if s.kind}
    out += [(name, repr(v)) for name, v in (("ranges", ranges), ("kinds", kinds)) if v]
    return out


def _range(parameter: Param) -> tuple[float | str, float | str, bool, bool, str]:
    """The interval as `ControlModel.ranges` holds it: no infinities, which have no literal."""
    r = parameter.range
    low, high = (e if math.isfinite(e) else str(e) for e in (float(r.low), float(r.high)))
    return low, high, r.low_open, r.high_open, r.text


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


def _limit(end: sp.Expr) -> str:
    if end.is_Symbol:
        return f'"{end.name}"'
    return python(end) if end.is_number else f"lambda params: {_of_params(end)}"


def _names(names) -> str:  # type: ignore[no-untyped-def]
    return repr(tuple(names)).replace("'", '"')


def operations(root: Array) -> int:
    """Number of array operations of an expression, shared ones counted once."""
    return sum(a.op not in ("leaf", "full", "eye") for a in walk(root))

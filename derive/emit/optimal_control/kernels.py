"""The functions of a control problem's module: costs, first-order system, second derivatives."""

from __future__ import annotations

from collections.abc import Sequence

from derive.emit.common.graph_code import statements
from derive.emit.common.kernel import Kernel
from derive.emit.common.names import local, words_in
from derive.emit.optimal_control.names import header, leaf_names, pattern
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.arrays import Array
from derive.notation.common.words.word import WORDS

#: name -> (arguments, what it returns, docstring)
FUNCTIONS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "running_cost": (("x", "u", "params"), "", "Running cost L(x, u): a scalar per unit of time."),
    "terminal_cost": (("x", "params"), "", "Terminal cost of the last state: a scalar."),
    "terminal_rate": (
        ("x", "params"),
        "Costate",
        "Gradient of the terminal cost: the costate at a free end.",
    ),
    "hamiltonian": (
        ("x", "p", "u", "params"),
        "",
        "The Hamiltonian H, a scalar; minimised in the control.",
    ),
    "state_rate": (("x", "u", "params"), "State", "Rate of the state: the dynamics."),
    "costate_rate": (
        ("x", "p", "u", "params"),
        "Costate",
        "Rate of the costate: the costate equation.",
    ),
    "stationarity": (
        ("x", "p", "u", "params"),
        "Control",
        "Derivative of H by the control: zero along a free optimum (norms of the control in the "
        "cost are left out).",
    ),
    "control_law": (("x", "p", "params"), "Control", "The control that minimises H."),
    "h_xx": (
        ("x", "p", "u", "params", "dx"),
        "Costate",
        "Change of the derivative of H by the state, as the state moves along dx.",
    ),
    "h_xu": (
        ("x", "p", "u", "params", "du"),
        "Costate",
        "Change of the derivative of H by the state, as the control moves along du.",
    ),
    "h_ux": (
        ("x", "p", "u", "params", "dx"),
        "Control",
        "Change of the derivative of H by the control, as the state moves along dx.",
    ),
    "h_uu": (
        ("x", "p", "u", "params", "du"),
        "Control",
        "Change of the derivative of H by the control, as the control moves along du.",
    ),
    "h_px": (
        ("x", "u", "params", "dx"),
        "State",
        "Change of the dynamics, as the state moves along dx.",
    ),
    "h_pu": (
        ("x", "u", "params", "du"),
        "State",
        "Change of the dynamics, as the control moves along du.",
    ),
}


def kernels_of(result: OptimalControl) -> list[Kernel]:
    """A function for each equation, and the control law where it has no closed form."""
    kernels = [_kernel(result, name) for name in result.equations]
    return kernels + ([_solved_law(result)] if result.law.expressions is None else [])


def _named(name: str) -> Kernel:
    """The kernel of this name without its statements."""
    arguments, _, doc = FUNCTIONS[name]
    batched = ", ".join(f'"{a}"' for a in arguments)
    return Kernel(name, ", ".join(arguments), doc, decorators=[f"_batched({batched})"])


def _reserved(result: OptimalControl) -> set[str]:
    return {
        "x", "p", "u", "params", "dx", "du", "sum", "np", "runtime", "State", "Costate", "Control",
        "Params", *WORDS, *(local(d.name) for d in result.model.dims),
        *(local(q.name) for q in result.model.params),
        *FUNCTIONS, *_called("ops"), *_called("control"),
    }  # fmt: skip


def _kernel(result: OptimalControl, name: str) -> Kernel:
    arguments, kind, _ = FUNCTIONS[name]
    parts = result.equations[name]
    leaves = leaf_names(result)
    first = leaves[result.x[0]]
    dtype = f"{first}.dtype"
    reserved = _reserved(result) | set(leaves.values())
    root = Array("tuple", parts, ())
    lines, text = statements(root, result.algebra.names, leaves, dtype, reserved, True)
    words = words_in([t for _, t in lines] + [text])
    kernel = _named(name)
    kernel.result = f"{kind}({text})" if kind else _as_scalar(text, parts[0], dtype)
    if not kind and kernel.result != text:
        words |= {first}
    kernel.body = header(result, words, arguments) + [f"{n} = {t}" for n, t in lines]
    return kernel


def _as_scalar(text: str, part: Array, dtype: str) -> str:
    """A cost that is a number becomes an array of the state's type."""
    return f"full((), {text}, {dtype})" if part.op == "full" else text


def _solved_law(result: OptimalControl) -> Kernel:
    """The control law by Newton's method on H_u, where it has no closed form."""
    kernel = _named("control_law")
    names = leaf_names(result)
    shapes = [tuple(local(d.name) for d in s.shape) for s in result.model.controls]
    before = names[result.x[0]]
    words = {d for shape in shapes for d in shape} | {before}
    kernel.body = header(result, words, ("x",))
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
        kernel.body.insert(0, f"{pattern([names[leaf] for leaf in result.x])} = x")
    return kernel


#: what kernels of control problems take from the runtime besides words
_BESIDES = {
    "ops": {"causal", "eye", "full", "pi"},
    "control": {"minimising_control", "solved_control"},
}


def _called(runtime: str) -> set[str]:
    words = {w.calls for w in WORDS.values() if w.runtime == runtime and w.calls}
    return words | _BESIDES[runtime]


def words_of_runtime(kernels: Sequence[Kernel]) -> dict[str, list[str]]:
    found = words_in([line for k in kernels for line in k.lines])
    return {
        "ops": sorted(_called("ops") & found),
        "control": sorted(_called("control") & found | {"over_batches"}),
    }

"""L5 of control problems: the derivative of a simulated cost against the derived costate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.draws import generator
from derive.methods.optimal_control import checks
from derive.methods.optimal_control.instances import Point, inside
from derive.methods.optimal_control.moment_dynamics import run_problem
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.scalars import number
from derive.notation.control.slots import Slot
from derive.verify.common.rung import Rung, digit
from derive.verify.optimal_control.points import arguments, hamiltonian_nodes, inner_product

_SEED = 43


def variation(result: OptimalControl, module: ModuleType, steps_: Sequence[int]) -> Rung:
    """Derivative of the cost along a change of the control: costate against simulation.

    The text is simulated by RK4 in NumPy with a control that varies in time; the complex step of
    that simulation is the derivative of the discrete cost.  The other side integrates the emitted
    costate equation backward from the emitted end value and integrates H_u against the change.
    Both converge with order four, so their difference falls sixteenfold as the step is halved.
    """
    at = inside(result.model, 0)
    kinked = any(q.op == "function" and q.data[0] == "relu" for q in hamiltonian_nodes(result))
    steps_ = [4 * k for k in steps_] if kinked else steps_
    claim = "derivative of the simulated cost along controls against the costate, order four in "
    claim += "the step" + (" (the kink of relu lowers the order)" if kinked else "")
    walk = next((w for w in WALKS if _inside(_simulated(result, at, steps_[0], w)[1])), None)
    if walk is None:
        reason = "the text is finite along none of the controls tried, from a random state"
        return Rung("L5 simulation", claim, False, unreached=reason)
    errors = [_variation_error(result, module, at, k, walk) for k in steps_]
    most = 1e-3 if kinked else 1e-5
    fine = errors[-1] < most and (kinked or errors[-1] < max(1e-9, errors[-2] / 10))
    for _ in range(0 if fine else 3):
        # near a pole of the text the first steps are too long; a wrong term stays where it is
        errors.append(_variation_error(result, module, at, steps_[-1] * 2, walk))
        steps_, errors = [*steps_[1:], 2 * steps_[-1]], errors[1:]
        slow = errors[-1] > errors[-2] / 4  # order below two: no refinement will help
        if slow or (errors[-1] < most and errors[-1] < errors[-2] / 10):
            break
    orders = [float(np.log2(a / b)) for a, b in zip(errors, errors[1:], strict=False) if b > 0]
    enough = errors[-1] < most
    # beyond 1e-9 the leading terms may cancel by accident, and rounding is near
    fourth = kinked or all(o > 3.3 or e < 1e-9 for o, e in zip(orders, errors[1:], strict=False))
    return Rung(
        "L5 simulation",
        claim,
        bool(enough and fourth),
        {
            "steps": list(steps_),
            "errors": [digit(e) for e in errors],
            "orders": [round(o, 1) for o in orders],
        },
        f"relative error of the derivative: {digit(errors[-1]):.0e}",
    )


def _inside(derivative: float) -> bool:
    """Whether a simulation stayed in the domain: a complex log of a negative number is finite, but
    its imaginary part is no multiple of the step of 1e-30."""
    return bool(abs(derivative) < 1e12)


@dataclass(frozen=True)
class Walk:
    """How far a simulation goes; `tame`: controls stay near those of the instance, which is inside
    the domain of the text (log, powers), instead of taking both signs."""

    horizon: float
    tame: bool


WALKS = (Walk(1.0, False), Walk(1.0, True), Walk(0.3, True), Walk(0.1, True), Walk(0.02, True))


def _controls(
    result: OptimalControl, at: Point, time: float, walk: Walk
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """A control that varies in time, and a change of it."""
    rng = generator(_SEED)
    base, change = {}, {}
    t = time / walk.horizon
    for leaf in result.u:
        own = at.arrays[leaf.data]
        a, b, c, d = 0.4 * rng.standard_normal((4, *own.shape))
        if walk.tame:
            a, b = own, 0.2 * own
        base[leaf.data] = a + b * np.sin(3 * t)
        change[leaf.data] = c + d * np.cos(2 * t)
    return base, change


def _variation_error(
    result: OptimalControl, module: ModuleType, at: Point, count: int, walk: Walk
) -> float:
    state, expected, times = _simulated(result, at, count, walk)
    return abs(_by_costate(result, module, at, state, times, walk) - expected) / (1 + abs(expected))


def _simulated(
    result: OptimalControl, at: Point, count: int, walk: Walk
) -> tuple[list[np.ndarray], float, np.ndarray]:
    """Last state, derivative of the cost along the change of control, and times, from the text."""
    horizon, tiny = walk.horizon, 1e-30
    h = horizon / count
    model = result.model
    names = [s.name for s in model.states]

    def text(state: list[np.ndarray], time: float) -> tuple[list[np.ndarray], Any]:
        base, change = _controls(result, at, time, walk)
        arrays = {s.name: at.arrays[s.name] for s in model.data}
        arrays |= dict(zip(names, state, strict=True))
        arrays |= {k: base[k] + 1j * tiny * change[k] for k in base}
        found = run_problem(model, arrays, dims=at.dims, params=at.params)
        rho = number(result.discount, at.numbers)
        running = found.running - checks._price(result, at, arrays)  # H_u leaves norms out
        return [np.asarray(f) for f in found.dynamics], np.exp(-rho * time) * running

    state = [np.asarray(at.arrays[n], complex) for n in names]
    for k, slot in enumerate(model.states):
        if slot.kind == "constant":  # its first value is chosen, so it is changed too
            state[k] = state[k] + 1j * tiny * _change(slot.name, state[k].shape)
    cost: Any = 0.0
    times = np.linspace(0.0, horizon, count + 1)
    for t in times[:-1]:
        k1, c1 = text(state, t)
        k2, c2 = text([s + h / 2 * k for s, k in zip(state, k1, strict=True)], t + h / 2)
        k3, c3 = text([s + h / 2 * k for s, k in zip(state, k2, strict=True)], t + h / 2)
        k4, c4 = text([s + h * k for s, k in zip(state, k3, strict=True)], t + h)
        state = [
            s + h / 6 * (a + 2 * b + 2 * c + d)
            for s, a, b, c, d in zip(state, k1, k2, k3, k4, strict=True)
        ]
        cost = cost + h / 6 * (c1 + 2 * c2 + 2 * c3 + c4)
    arrays = {s.name: at.arrays[s.name] for s in (*model.controls, *model.data)}
    arrays |= dict(zip(names, state, strict=True))
    last = run_problem(model, arrays, dims=at.dims, params=at.params).terminal
    last = last + sum(np.sum(_pull(s, x) * x) for s, x in zip(model.states, state, strict=True))
    rho = number(result.discount, at.numbers)
    with np.errstate(all="ignore"):
        expected = float(np.imag(cost + np.exp(-rho * horizon) * last)) / tiny
    return state, expected, times


def _by_costate(
    result: OptimalControl,
    module: ModuleType,
    at: Point,
    state: list[np.ndarray],
    times: np.ndarray,
    walk: Walk,
) -> float:
    """Integral of H_u against the change of control, with x and p integrated backward."""
    params = arguments(module, result, at)["params"]
    h = times[1] - times[0]
    rho = number(result.discount, at.numbers)

    @jax.jit
    def rates(x: Any, p: Any, u: Any) -> Any:
        return module.state_rate(x, u, params), module.costate_rate(x, p, u, params)

    force = jax.jit(lambda x, p, u: module.stationarity(x, p, u, params))
    x = module.State(*(jnp.asarray(np.real(s)) for s in state))
    pulls = [_pull(s, v) for s, v in zip(result.model.states, state, strict=True)]
    ends = zip(module.terminal_rate(x, params), pulls, strict=True)
    p = module.Costate(*(a + jnp.asarray(b) for a, b in ends))

    def control(t: float, which: int) -> Any:
        return module.Control(*_controls(result, at, t, walk)[which].values())

    def shifted(pair: Any, rate: Any, step: float) -> Any:
        return jax.tree.map(
            lambda a, b: a + step * b, pair, (type(pair[0])(*rate[0]), type(pair[1])(*rate[1]))
        )

    def half(pair: Any, t: float, step: float) -> Any:
        k1 = rates(*pair, control(t, 0))
        k2 = rates(*shifted(pair, k1, step / 2), control(t + step / 2, 0))
        k3 = rates(*shifted(pair, k2, step / 2), control(t + step / 2, 0))
        k4 = rates(*shifted(pair, k3, step), control(t + step, 0))
        total = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4)
        return shifted(pair, total, step)

    def gain(pair: Any, t: float) -> float:
        return float(np.exp(-rho * t) * inner_product(force(*pair, control(t, 0)), control(t, 1)))

    pair, total = (x, p), 0.0
    for t in times[:0:-1]:
        middle = half(pair, t, -h / 2)
        end = half(middle, t - h / 2, -h / 2)
        total += h / 6 * (gain(pair, t) + 4 * gain(middle, t - h / 2) + gain(end, t - h))
        pair = end
    for slot in result.model.constants:
        slope = np.asarray(getattr(pair[1], slot.name))
        total += float(np.sum(slope * _change(slot.name, slope.shape)))
    return total


def _pull(slot: Slot, state: np.ndarray) -> np.ndarray:
    """A price c . x(T) that both sides add: without it p may vanish, and its equation be unseen."""
    c = generator(_SEED, 7, len(slot.name)).standard_normal(state.shape)
    if slot.kind == "constant":
        return np.zeros(state.shape)
    if slot.kind == "symmetric":
        return (c + c.T) / 2
    x = np.real(state)
    return c - (c * x).sum(-1, keepdims=True) * x if slot.kind == "sphere" else c


def _change(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A direction for a control that is constant in time."""
    return generator(_SEED, len(name)).standard_normal(shape)

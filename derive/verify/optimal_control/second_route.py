"""L2 of control problems: derivatives of the text by differences, of the emitted H by JAX.

What both need besides (which norms of controls are priced, and how, the discount, which arrays are
symmetric) is taken from the text too, see `control_text`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.draws import generator
from derive.methods.optimal_control import instances
from derive.methods.optimal_control.instances import Point, relative
from derive.methods.optimal_control.moment_dynamics import rates_by_text
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.arrays import Array
from derive.notation.control.definition import ControlDefinition
from derive.verify.common.rung import Rung, digit
from derive.verify.optimal_control.points import arguments, moved
from derive.verify.optimal_control.text import TextFacts, text_facts

_SEED = 43
_TINY = 1e-30  # of complex steps
_SETTLED = 3e-9  # distance of two differences, beside the 1e-8 that a block may be off
BLOCKS = 5


def independent(result: OptimalControl, module: ModuleType, points: Sequence[Point]) -> Rung:
    """Second derivatives of the text by differences, and JAX's derivatives of H."""
    text = grad = hessian = 0.0
    kinks = 0
    more: dict[str, float] = {}
    if result.closures:
        more["closure's text by quadrature"] = max(
            _by_quadrature(result, module, 10 + k) for k in range(len(points))
        )
    for at in points:
        off, near = _text_second(result, at)
        text, kinks = max(text, off), kinks + near
        first, second = _jax(result, module, at)
        grad, hessian = max(grad, first), max(hessian, second)
    return Rung(
        "L2 second route",
        "derivatives of the text by differences, and of the emitted H by jax.grad and jax.hessian",
        text < 1e-8
        and kinks < BLOCKS * len(points)
        and grad < 1e-10
        and hessian < 1e-10
        and all(v < instances.TOLERANCE for v in more.values()),
        {
            "text second differences": digit(text),
            **({"blocks at a kink of the text": kinks} if kinks else {}),
            "jax.grad": digit(grad),
            "jax.hessian": digit(hessian),
            **{k: digit(v) for k, v in more.items()},
        },
        "relative error of a block: 1e-08 by the text, 1e-10 by JAX",
    )


def _by_quadrature(result: OptimalControl, module: ModuleType, seed: int) -> float:
    """The module's dynamics against the text of its closure averaged by quadrature."""
    at = instances.tame_point(result.model, seed)
    rates, _, _ = instances.text_values(result.model, at, {}, rates=rates_by_text)
    given = arguments(module, result, at)
    found = module.state_rate(given["x"], given["u"], given["params"])
    return max(relative(np.asarray(a), b) for a, b in zip(found, rates, strict=True))


def _text_second(result: OptimalControl, at: Point) -> tuple[float, int]:
    """d^2 H along (a, b): fourth-order central difference along b of complex steps along a.

    And how many of the blocks no difference settles for: a kink of the text is near.
    """
    rng = generator(_SEED)
    worst, kinks = 0.0, 0
    pairs = (
        ("h_xx", result.x, result.x, result.dx),
        ("h_ux", result.u, result.x, result.dx),
        ("h_uu", result.u, result.u, result.du),
        ("h_px", result.p, result.x, result.dx),
        ("h_pu", result.p, result.u, result.du),
    )
    for name, first, second, moves in pairs:
        a, b = moved(first, at, rng, result), moved(second, at, rng, result)
        steps_ = {m.data: b[leaf.data] for m, leaf in zip(moves, second, strict=True)}
        rows = instances.evaluate(result, name, at, steps_)
        terms = [row * a[leaf.data] for row, leaf in zip(rows, first, strict=True)]
        found = sum(t.sum() for t in terms)
        scale = 1 + sum(float(np.abs(t).sum()) for t in terms)
        expected = _settled(result.model, at, a, b, _SETTLED * scale)
        if expected is None:
            kinks += 1
        else:
            worst = max(worst, relative(np.asarray(found), np.asarray(expected), scale))
    return worst, kinks


def _settled(
    model: ControlDefinition, at: Point, a: Mapping[Any, Any], b: Mapping[Any, Any], enough: float
) -> float | None:
    """The second difference of the text along a and b, once two steps agree; None at a kink."""

    def slope(t: float) -> float:
        here = {k: at.arrays[k] + t * d for k, d in b.items()}
        changes = {k: here.get(k, at.arrays[k]) + 1j * _TINY * d for k, d in a.items()}
        return (
            float(np.imag(instances.text_hamiltonian(model, at, {**here, **changes}, True))) / _TINY
        )

    def difference(h: float) -> float:
        return (8 * (slope(h) - slope(-h)) - (slope(2 * h) - slope(-2 * h))) / (12 * h)

    h = _step(at, b)
    last = difference(h)
    for k in (1, 2, 3):
        found = difference(h / 2**k)
        if abs(found - last) <= enough:
            return found
        last = found
    return None


def _step(at: Point, moves: Mapping[str, np.ndarray]) -> float:
    """A step that is small beside every entry: log and powers are singular at zero.

    The slopes are exact to rounding, which leaves 1e-11 of them at the smallest step.
    """
    sizes = [np.abs(at.arrays[n]) / (1e-300 + np.abs(d)) for n, d in moves.items()]
    least = min((float(np.min(s, initial=1.0)) for s in sizes), default=1.0)
    return float(np.clip(1e-3 * least, 1e-5, 1e-3))


def _jax(result: OptimalControl, module: ModuleType, at: Point) -> tuple[float, float]:
    """Emitted derivatives against JAX's of the emitted H; norms of controls are left out of H."""
    args = arguments(module, result, at)
    facts = text_facts(result.model, at)

    def smooth(x: Any, p: Any, u: Any) -> Any:
        out = module.hamiltonian(x, p, u, args["params"])
        for price in facts.prices:
            flat = jnp.concatenate([jnp.ravel(getattr(u, n)) for n in price.names])
            l1 = price.word == "l1_norm"
            out = out - price.weight * (jnp.abs(flat).sum() if l1 else jnp.sqrt(flat @ flat))
        return out

    point_ = args["x"], args["p"], args["u"]
    by_x, by_p, by_u = jax.grad(smooth, (0, 1, 2))(*point_)
    rate = module.costate_rate(*point_, args["params"])
    first = [
        (by_p, module.state_rate(args["x"], args["u"], args["params"]), result.x),
        ([facts.discount * b - a for a, b in zip(by_x, args["p"], strict=True)], rate, result.x),
        (by_u, module.stationarity(*point_, args["params"]), result.u),
    ]
    grad = max(_compare(facts, left, right, leaves) for left, right, leaves in first)

    def push(by: int, k: int, move: Any) -> Any:
        """d/dt of the gradient by argument `by` as argument `k` moves: forward over reverse."""
        moves = [jax.tree.map(jnp.zeros_like, a) for a in point_]
        moves[k] = type(point_[k])(*move)
        return jax.jvp(jax.grad(smooth, by), point_, tuple(moves))[1]

    params = args["params"]
    blocks = [
        (push(0, 0, args["dx"]), module.h_xx(*point_, params, args["dx"]), result.x),
        (push(0, 2, args["du"]), module.h_xu(*point_, params, args["du"]), result.x),
        (push(2, 0, args["dx"]), module.h_ux(*point_, params, args["dx"]), result.u),
        (push(2, 2, args["du"]), module.h_uu(*point_, params, args["du"]), result.u),
        (push(1, 0, args["dx"]), module.h_px(args["x"], args["u"], params, args["dx"]), result.x),
        (push(1, 2, args["du"]), module.h_pu(args["x"], args["u"], params, args["du"]), result.x),
    ]
    second = max(_compare(facts, left, right, leaves) for left, right, leaves in blocks)
    return grad, second


def _compare(facts: TextFacts, left: Any, right: Any, leaves: Sequence[Array]) -> float:
    worst = 0.0
    for a, b, leaf in zip(left, right, leaves, strict=True):
        a = (a + a.T) / 2 if leaf.data in facts.symmetric else a
        worst = max(worst, relative(np.asarray(b), np.asarray(a)))
    return worst

"""L2 of control problems: derivatives of the text by differences, of the emitted H by JAX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derive.draws import generator
from derive.methods import control_checks as checks
from derive.methods.control_checks import Point, relative
from derive.methods.moment_dynamics import by_quadrature
from derive.methods.optimal_control import OptimalControl
from derive.notation.arrays import Array
from derive.notation.scalars import number
from derive.verify.control_points import arguments, digit, hamiltonian_nodes, moved
from derive.verify.rung import Rung

_SEED = 43


def independent(result: OptimalControl, module: ModuleType, points: Sequence[Point]) -> Rung:
    """Second derivatives of the text by differences, and JAX's derivatives of H."""
    text = grad = hessian = 0.0
    more: dict[str, float] = {}
    if result.closures:
        more["closure's text by quadrature"] = max(
            _by_quadrature(result, module, 10 + k) for k in range(len(points))
        )
    for at in points:
        text = max(text, _text_second(result, at))
        first, second = _jax(result, module, at)
        grad, hessian = max(grad, first), max(hessian, second)
    return Rung(
        "L2 second route",
        "derivatives of the text by differences, and of the emitted H by jax.grad and jax.hessian",
        text < 1e-8
        and grad < 1e-10
        and hessian < 1e-10
        and all(v < checks.TOLERANCE for v in more.values()),
        {
            "text second differences": digit(text),
            "jax.grad": digit(grad),
            "jax.hessian": digit(hessian),
            **{k: digit(v) for k, v in more.items()},
        },
        "relative error of a block: 1e-08 by the text, 1e-10 by JAX",
    )


def _by_quadrature(result: OptimalControl, module: ModuleType, seed: int) -> float:
    """The module's dynamics against the text of its closure averaged by quadrature."""
    at = checks.tame_point(result.model, seed)
    with by_quadrature():
        rates, _, _ = checks.text_values(result.model, at, {})
    given = arguments(module, result, at)
    found = module.state_rate(given["x"], given["u"], given["params"])
    return max(relative(np.asarray(a), b) for a, b in zip(found, rates, strict=True))


def _text_second(result: OptimalControl, at: Point) -> float:
    """d^2 H along (a, b): fourth-order central difference along b of complex steps along a."""
    rng = generator(_SEED)
    worst, tiny = 0.0, 1e-30
    pairs = (
        ("h_xx", result.x, result.x, result.dx),
        ("h_ux", result.u, result.x, result.dx),
        ("h_uu", result.u, result.u, result.du),
        ("h_px", result.p, result.x, result.dx),
        ("h_pu", result.p, result.u, result.du),
    )
    for name, first, second, moves in pairs:
        a, b = moved(first, at, rng, result), moved(second, at, rng, result)
        h = _step(at, b)

        def slope(t: float, a=a, b=b) -> float:  # noqa: ANN001
            here = dict(at.arrays)
            for k, d in b.items():
                here[k] = here[k] + t * d
            changes = {k: here[k] + 1j * tiny * d for k, d in a.items()}
            changes = {**{k: here[k] for k in b if k not in a}, **changes}
            smooth = checks.text_hamiltonian(result.model, at, changes)
            return float(np.imag(smooth - checks._price(result, at, changes))) / tiny

        expected = (8 * (slope(h) - slope(-h)) - (slope(2 * h) - slope(-2 * h))) / (12 * h)
        steps_ = {m.data: b[leaf.data] for m, leaf in zip(moves, second, strict=True)}
        rows = checks.evaluate(result, name, at, steps_)
        terms = [row * a[leaf.data] for row, leaf in zip(rows, first, strict=True)]
        found = sum(t.sum() for t in terms)
        scale = sum(float(np.abs(t).sum()) for t in terms)
        kinked = any(q.op == "function" and q.data[0] == "relu" for q in hamiltonian_nodes(result))
        if kinked and _near_kink(result, at, 3 * h, a, b):
            continue
        worst = max(worst, relative(np.asarray(found), np.asarray(expected), 1 + scale))
    return worst


def _step(at: Point, moves: Mapping[str, np.ndarray]) -> float:
    """A step that is small beside every entry: log and powers are singular at zero.

    The slopes are exact to rounding, which leaves 1e-11 of them at the smallest step.
    """
    sizes = [np.abs(at.arrays[n]) / (1e-300 + np.abs(d)) for n, d in moves.items()]
    least = min((float(np.min(s, initial=1.0)) for s in sizes), default=1.0)
    return float(np.clip(1e-3 * least, 1e-5, 1e-3))


def _near_kink(result: OptimalControl, at: Point, h: float, a: Mapping, b: Mapping) -> bool:
    """Whether a state may cross zero within the differences (where relu has its kink)."""
    return any(float(np.min(np.abs(at.arrays[leaf.data]))) < h * 5 for leaf in result.x)


def _jax(result: OptimalControl, module: ModuleType, at: Point) -> tuple[float, float]:
    """Emitted derivatives against JAX's of the emitted H; norms of controls are left out of H."""
    args = arguments(module, result, at)

    def smooth(x: Any, p: Any, u: Any) -> Any:
        out = module.hamiltonian(x, p, u, args["params"])
        for price in result.prices:
            fields = [getattr(u, a.data) for a in price.arrays]
            flat = jnp.concatenate([jnp.ravel(f) for f in fields])
            norm = jnp.abs(flat).sum() if price.kind == "l1" else jnp.sqrt((flat * flat).sum())
            out = out - number(price.weight, at.numbers) * norm
        return out

    point_ = args["x"], args["p"], args["u"]
    by_x, by_p, by_u = jax.grad(smooth, (0, 1, 2))(*point_)
    rho = number(result.discount, at.numbers)
    rate = module.costate_rate(*point_, args["params"])
    first = [
        (by_p, module.state_rate(args["x"], args["u"], args["params"]), result.x),
        ([rho * b - a for a, b in zip(by_x, args["p"], strict=True)], rate, result.x),
        (by_u, module.stationarity(*point_, args["params"]), result.u),
    ]
    grad = max(_compare(result, left, right, leaves) for left, right, leaves in first)

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
    second = max(_compare(result, left, right, leaves) for left, right, leaves in blocks)
    return grad, second


def _compare(result: OptimalControl, left: Any, right: Any, leaves: Sequence[Array]) -> float:
    worst = 0.0
    for a, b, leaf in zip(left, right, leaves, strict=True):
        a = (a + a.T) / 2 if leaf in result.algebra.symmetric else a
        worst = max(worst, relative(np.asarray(b), np.asarray(a)))
    return worst

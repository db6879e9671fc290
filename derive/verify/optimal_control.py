"""The ladder for control problems: six ways of being wrong, and mutants.

Input: a definition and its generated module.  Output: rungs with figures and power.  L1 compares
every step with the definition's text; L2 takes first and second derivatives from the text alone,
and from JAX; L3 evaluates the module beside the equations; L4 checks what a Hamiltonian system
must satisfy; L5 compares the derivative of the cost along controls, by the derived costate, with
that of a simulation of the text; L6 breaks the equations one node at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp

from derive.emit.optimal_control import FUNCTIONS
from derive.methods import control_checks as checks
from derive.methods.control_checks import Point, inside, relative
from derive.methods.moment_dynamics import by_quadrature
from derive.methods.optimal_control import OptimalControl, derive
from derive.notation.arrays import Array, walk
from derive.notation.control import ControlDefinition, run_problem
from derive.notation.scalars import number
from derive.verify.ladder import load_module
from derive.verify.rungs import Rung

_SEED = 43
SIZES = {
    "quick": {"points": 1, "steps": (16, 32), "mutants": 120},
    "full": {"points": 3, "steps": (16, 32, 64), "mutants": 1500},
}
STEP_OF = {
    "running_cost": "trace",
    "terminal_cost": "trace",
    "hamiltonian": "hamiltonian",
    "state_rate": "first order",
    "costate_rate": "first order",
    "stationarity": "first order",
    "control_law": "control law",
    "terminal_rate": "transversality",
}


def climb(
    model: ControlDefinition, file: Path, level: str
) -> Iterator[tuple[OptimalControl, Rung]]:
    """The rungs one by one, for the generated module in `file`."""
    result = derive(model)
    size: Any = SIZES[level]
    with jax.enable_x64(True):
        module = load_module(file)
    points = [inside(model, 10 + k) for k in range(size["points"])]
    rungs: tuple[Callable[[], Rung], ...] = (
        lambda: definition(result),
        lambda: steps(result),
        lambda: independent(result, module, points),
        lambda: kernel(result, module, points),
        lambda: invariants(result, module, points),
        lambda: variation(result, module, size["steps"]),
        lambda: mutants(result, size["mutants"]),
    )
    for rung in rungs:
        with jax.enable_x64(True):
            yield result, rung()


def _digit(value: float) -> float:
    return float(f"{value:.0e}")


# L0, L1


def definition(result: OptimalControl) -> Rung:
    """Shapes are symbolic, scalars exact, and every declared array is used."""
    nodes = {a for parts in result.equations.values() for part in parts for a in walk(part)}
    floats = [a for a in nodes if a.op == "full" and a.data.has(sp.Float)]
    unused = [leaf.data for leaf in result.data if leaf not in nodes]
    sized = all(
        d in result.model.dims or d == 1 for a in nodes for s in a.shape for d in s.free_symbols
    )
    return Rung(
        "L0 definition",
        "shapes are symbolic, scalars exact, all data used",
        not floats and not unused and sized,
        {"nodes": len(nodes), "unused": unused},
    )


def steps(result: OptimalControl) -> Rung:
    """Every step's stored residual, and how small an error of each equation it would show."""
    found = {s.name: s.check.residual for s in result.steps if s.check}
    power = {}
    at = [inside(result.model, k) for k in range(checks.INSTANCES)]
    for name in result.equations:
        if all(result.algebra.is_zero(a) for a in result.equations[name]):
            continue
        wrong = _residual(_scaled(result, name, sp.Rational(1001, 1000)), name, at)
        power[name] = _digit(1e-3 * checks.TOLERANCE / wrong) if wrong else float("inf")
    caught = {k: v for k, v in power.items() if k != "control_law"}
    return Rung(
        "L1 steps",
        "every derivation step against the definition's text at random instances",
        all(s.check is None or s.check.passed for s in result.steps),
        {k: _digit(v) for k, v in found.items()},
        f"relative error of an equation: {max(caught.values(), default=0.0):.0e}",
    )


def _scaled(result: OptimalControl, name: str, factor: sp.Expr) -> OptimalControl:
    parts = tuple(result.algebra.scale(factor, a) for a in result.equations[name])
    return replace(result, equations={**result.equations, name: parts})


def _residual(result: OptimalControl, name: str, at: Sequence[Point]) -> float:
    test = {
        "trace": checks._trace,
        "hamiltonian": checks._hamiltonian,
        "first order": checks._first,
        "control law": checks._law,
        "transversality": checks._terminal,
        "second order": checks._second,
    }[STEP_OF.get(name, "second order")]
    return max(test(result, p) for p in at)


# L2


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
            "text second differences": _digit(text),
            "jax.grad": _digit(grad),
            "jax.hessian": _digit(hessian),
            **{k: _digit(v) for k, v in more.items()},
        },
        "relative error of a block: 1e-08 by the text, 1e-10 by JAX",
    )


def _by_quadrature(result: OptimalControl, module: ModuleType, seed: int) -> float:
    """The module's dynamics against the text of its closure averaged by quadrature."""
    at = checks.tame_point(result.model, seed)
    with by_quadrature():
        rates, _, _ = checks.text_values(result.model, at, {})
    given = _tuples(module, result, at)
    found = module.state_rate(given["x"], given["u"], given["params"])
    return max(relative(np.asarray(a), b) for a, b in zip(found, rates, strict=True))


def _moved(leaves: Sequence[Array], at: Point, rng: np.random.Generator, result) -> dict:  # noqa: ANN001
    out = {}
    for leaf in leaves:
        d = rng.standard_normal(at.arrays[leaf.data].shape)
        out[leaf.data] = (d + d.T) / 2 if leaf in result.algebra.symmetric else d
    return out


def _text_second(result: OptimalControl, at: Point) -> float:
    """d^2 H along (a, b): fourth-order central difference along b of complex steps along a."""
    rng = np.random.default_rng(_SEED)
    worst, h, tiny = 0.0, 1e-3, 1e-30
    pairs = (
        ("h_xx", result.x, result.x, result.dx),
        ("h_ux", result.u, result.x, result.dx),
        ("h_uu", result.u, result.u, result.du),
        ("h_px", result.p, result.x, result.dx),
        ("h_pu", result.p, result.u, result.du),
    )
    for name, first, second, moves in pairs:
        a, b = _moved(first, at, rng, result), _moved(second, at, rng, result)

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
        kinked = any(q.op == "function" and q.data[0] == "relu" for q in _all(result))
        if kinked and _near_kink(result, at, 3 * h, a, b):
            continue
        worst = max(worst, relative(np.asarray(found), np.asarray(expected), 1 + scale))
    return worst


def _all(result: OptimalControl) -> list[Array]:
    return walk(result.equations["hamiltonian"][0])


def _near_kink(result: OptimalControl, at: Point, h: float, a: Mapping, b: Mapping) -> bool:
    """Whether a state may cross zero within the differences (where relu has its kink)."""
    return any(float(np.min(np.abs(at.arrays[leaf.data]))) < h * 5 for leaf in result.x)


def _tuples(module: ModuleType, result: OptimalControl, at: Point) -> dict[str, Any]:
    """Arguments of the module's functions at a point."""

    def pick(leaves: Sequence[Array]) -> list[Any]:
        return [jnp.asarray(at.arrays[leaf.data]) for leaf in leaves]

    params = [jnp.asarray(at.params[q.name]) for q in result.model.params] + pick(result.data)
    return {
        "x": module.State(*pick(result.x)),
        "p": module.Costate(*pick(result.p)),
        "u": module.Control(*pick(result.u)),
        "params": module.Params(*params),
        "dx": module.State(*pick(result.dx)),
        "du": module.Control(*pick(result.du)),
    }


def _jax(result: OptimalControl, module: ModuleType, at: Point) -> tuple[float, float]:
    """Emitted derivatives against JAX's of the emitted H; norms of controls are left out of H."""
    args = _tuples(module, result, at)

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


# L3


def kernel(result: OptimalControl, module: ModuleType, points: Sequence[Point]) -> Rung:
    """Every emitted function against its equation evaluated in NumPy: eager, jit, vmap, float32."""
    worst = {"eager": 0.0, "jit": 0.0, "vmap": 0.0}
    single = 0.0
    for name in result.equations:
        function = getattr(module, name)
        names = FUNCTIONS[name][0]
        rows = []
        for at in points:
            args = _tuples(module, result, at)
            here = [args[n] for n in names]
            expected = checks.evaluate(result, name, at)
            rows.append((here, expected))
            worst["eager"] = max(worst["eager"], _apart(function(*here), expected))
            worst["jit"] = max(worst["jit"], _apart(jax.jit(function)(*here), expected))
            small = jax.tree.map(lambda a: a.astype(jnp.float32), here)
            value = function(*small)
            if any(v.dtype != jnp.float32 for v in jax.tree.leaves(value)):
                single = float("inf")
        shapes = {tuple(a.shape for a in jax.tree.leaves(here)) for here, _ in rows}
        if len(shapes) == 1 and len(rows) > 1:
            stacked = jax.tree.map(lambda *a: jnp.stack(a), *[here for here, _ in rows])
            both = function(*stacked)
            for k, (_, expected) in enumerate(rows):
                worst["vmap"] = max(
                    worst["vmap"], _apart(jax.tree.map(lambda a, k=k: a[k], both), expected)
                )
        else:
            here, expected = rows[0]
            doubled = jax.tree.map(lambda a: jnp.stack([a, a, a]), here)
            both = jax.tree.map(lambda a: a[2], function(*doubled))
            worst["vmap"] = max(worst["vmap"], _apart(both, expected))
    return Rung(
        "L3 kernel",
        "emitted functions against the equations in NumPy: eager, jit, batched; dtype follows",
        max(worst.values()) < 1e-11 and single == 0,
        {k: _digit(v) for k, v in worst.items()},
        "relative error of a result: 1e-11",
    )


def _apart(found: Any, expected: Sequence[np.ndarray]) -> float:
    parts = list(found) if isinstance(found, tuple) else [found]
    pairs = zip(parts, expected, strict=True)
    return max((relative(np.asarray(a), b) for a, b in pairs), default=0.0)


# L4


def invariants(result: OptimalControl, module: ModuleType, points: Sequence[Point]) -> Rung:
    """What every Hamiltonian system satisfies, and what the kind of its states adds."""
    found = {
        "H_xx, H_uu self-adjoint": 0.0,
        "H_ux adjoint to H_xu": 0.0,
        "H along the flow": 0.0,
        "law is the minimum": 0.0,
    }
    for k, at in enumerate(points):
        args = _tuples(module, result, at)
        x, p, u, params = (args[n] for n in ("x", "p", "u", "params"))
        rng = np.random.default_rng([_SEED, k])

        def direction(leaves: Sequence[Array], kind: Any, at=at, rng=rng) -> Any:  # noqa: ANN001
            return kind(*(jnp.asarray(v) for v in _moved(leaves, at, rng, result).values()))

        ax, bx = (direction(result.x, module.State) for _ in "ab")
        au, bu = (direction(result.u, module.Control) for _ in "ab")
        for block, a, b in ((module.h_xx, ax, bx), (module.h_uu, au, bu)):
            left, right = _pair(a, block(x, p, u, params, b)), _pair(b, block(x, p, u, params, a))
            _keep(found, "H_xx, H_uu self-adjoint", relative(left, right))
        left = _pair(au, module.h_ux(x, p, u, params, ax))
        right = _pair(ax, module.h_xu(x, p, u, params, au))
        _keep(found, "H_ux adjoint to H_xu", relative(left, right))
        velocity = module.state_rate(x, u, params)
        force = module.costate_rate(x, p, u, params)
        change = jax.jvp(
            lambda x, p, u=u, params=params: module.hamiltonian(x, p, u, params),
            (x, p),
            (module.State(*velocity), module.Costate(*force)),
        )[1]
        rho = number(result.discount, at.numbers)
        size = sum(
            float(np.sum(np.abs(np.asarray(a) * b))) for a, b in zip(velocity, force, strict=True)
        )
        wanted = rho * _pair(p, velocity)
        _keep(found, "H along the flow", relative(np.asarray(change), wanted, 1 + size))
        _keep(found, "law is the minimum", _not_least(result, module, args, at))
        _kinds(result, module, args, found)
    return Rung(
        "L4 invariants",
        "self-adjoint blocks, H conserved, the law minimises H, states stay on their manifold",
        max(found.values()) < 1e-10,
        {k: _digit(v) for k, v in found.items()},
    )


def _keep(found: dict[str, float], name: str, value: float) -> None:
    found[name] = max(found.get(name, 0.0), float(value))


def _pair(a: Any, b: Any) -> np.ndarray:
    return np.asarray(sum(np.sum(np.asarray(v) * np.asarray(w)) for v, w in zip(a, b, strict=True)))


def _not_least(
    result: OptimalControl, module: ModuleType, args: Mapping[str, Any], at: Point
) -> float:
    """How far H at the law lies above H at admissible controls nearby and far."""
    law = module.control(args["x"], args["p"], args["params"])
    lowest = float(module.hamiltonian(args["x"], args["p"], law, args["params"]))
    rng = np.random.default_rng(_SEED)
    others = []
    for k in range(64):
        step = 10.0 ** (-(k % 4))
        other = {
            name: np.asarray(v) + step * rng.standard_normal(np.shape(v))
            for name, v in law._asdict().items()
        }
        others.append(checks._inside(result, other, at))
    stacked = module.Control(*(np.stack([o[n] for o in others]) for n in module.Control._fields))
    values = module.hamiltonian(args["x"], args["p"], stacked, args["params"])
    return max(0.0, (lowest - float(jnp.min(values))) / (1 + abs(lowest)))


def _kinds(
    result: OptimalControl, module: ModuleType, args: Mapping[str, Any], found: dict[str, float]
) -> None:
    x, p, u, params = (args[n] for n in ("x", "p", "u", "params"))
    velocity = module.state_rate(x, u, params)
    force = module.costate_rate(x, p, u, params)
    for position, slot in enumerate(result.model.states):
        v, q, at = velocity[position], force[position], x[position]
        if slot.kind == "symmetric":
            for a in (v, q):
                _keep(found, "rates are symmetric", relative(np.asarray(a), np.asarray(a.T)))
        if slot.kind == "sphere":
            norm = (at * at).sum(-1)
            _keep(found, "|x| is kept", float(jnp.max(jnp.abs((at * v).sum(-1)))))
            flat = p[position] - (at * p[position]).sum(-1, keepdims=True) / norm[..., None] * at
            tangent = p._replace(**{slot.name: flat})
            moved = module.costate_rate(x, tangent, u, params)[position]
            drift = (at * moved).sum(-1) + (v * flat).sum(-1)
            _keep(found, "x.p = 0 is kept", float(jnp.max(jnp.abs(drift))))
            shifted = p._replace(**{slot.name: p[position] + 0.7 * at})
            left = module.hamiltonian(x, shifted, u, params)
            right = module.hamiltonian(x, p, u, params)
            _keep(found, "H ignores p along x", relative(np.asarray(left), np.asarray(right)))
            longer = x._replace(**{slot.name: 1.3 * at})
            shorter = tangent._replace(**{slot.name: flat / 1.3})
            left = module.hamiltonian(longer, shorter, u, params)
            right = module.hamiltonian(x, tangent, u, params)
            _keep(found, "H ignores |x|", relative(np.asarray(left), np.asarray(right)))


# L5


def variation(result: OptimalControl, module: ModuleType, steps_: Sequence[int]) -> Rung:
    """Derivative of the cost along a change of the control: costate against simulation.

    The text is simulated by RK4 in NumPy with a control that varies in time; the complex step of
    that simulation is the derivative of the discrete cost.  The other side integrates the emitted
    costate equation backward from the emitted end value and integrates H_u against the change.
    Both converge with order four, so their difference falls sixteenfold as the step is halved.
    """
    at = inside(result.model, 0)
    kinked = any(q.op == "function" and q.data[0] == "relu" for q in _all(result))
    steps_ = [4 * k for k in steps_] if kinked else steps_
    errors = [_variation_error(result, module, at, k) for k in steps_]
    orders = [float(np.log2(a / b)) for a, b in zip(errors, errors[1:], strict=False) if b > 0]
    enough = errors[-1] < (1e-3 if kinked else 1e-5)
    # beyond 1e-9 the leading terms may cancel by accident, and rounding is near
    fourth = kinked or all(o > 3.3 or e < 1e-9 for o, e in zip(orders, errors[1:], strict=False))
    return Rung(
        "L5 simulation",
        "derivative of the simulated cost along controls against the costate, order four in the "
        "step" + (" (the kink of relu lowers the order)" if kinked else ""),
        bool(enough and fourth),
        {
            "steps": list(steps_),
            "errors": [_digit(e) for e in errors],
            "orders": [round(o, 1) for o in orders],
        },
        f"relative error of the derivative: {_digit(errors[-1]):.0e}",
    )


def _controls(result: OptimalControl, at: Point, time: float) -> tuple[dict, dict]:
    """A control that varies in time, and a change of it."""
    rng = np.random.default_rng(_SEED)
    base, change = {}, {}
    for leaf in result.u:
        shape = at.arrays[leaf.data].shape
        a, b, c, d = 0.4 * rng.standard_normal((4, *shape))
        base[leaf.data] = a + b * np.sin(3 * time)
        change[leaf.data] = c + d * np.cos(2 * time)
    return base, change


def _variation_error(result: OptimalControl, module: ModuleType, at: Point, count: int) -> float:
    horizon, tiny = 1.0, 1e-30
    h = horizon / count
    model = result.model
    names = [s.name for s in model.states]

    def text(state: list[np.ndarray], time: float) -> tuple[list[np.ndarray], Any]:
        base, change = _controls(result, at, time)
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
    rho = number(result.discount, at.numbers)
    expected = float(np.imag(cost + np.exp(-rho * horizon) * last)) / tiny
    return abs(_by_costate(result, module, at, state, times) - expected) / (1 + abs(expected))


def _by_costate(
    result: OptimalControl,
    module: ModuleType,
    at: Point,
    state: list[np.ndarray],
    times: np.ndarray,
) -> float:
    """Integral of H_u against the change of control, with x and p integrated backward."""
    params = _tuples(module, result, at)["params"]
    h = times[1] - times[0]
    rho = number(result.discount, at.numbers)

    @jax.jit
    def rates(x: Any, p: Any, u: Any) -> Any:
        return module.state_rate(x, u, params), module.costate_rate(x, p, u, params)

    force = jax.jit(lambda x, p, u: module.stationarity(x, p, u, params))
    x = module.State(*(jnp.asarray(np.real(s)) for s in state))
    p = module.Costate(*module.terminal_rate(x, params))

    def control(t: float, which: int) -> Any:
        return module.Control(*_controls(result, at, t)[which].values())

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
        return float(np.exp(-rho * t) * _pair(force(*pair, control(t, 0)), control(t, 1)))

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


def _change(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A direction for a control that is constant in time."""
    return np.random.default_rng([_SEED, len(name)]).standard_normal(shape)


# L6


def mutants(result: OptimalControl, most: int) -> Rung:
    """Every node of every equation broken: negated, doubled, times 1.01, dropped, transposed."""
    names = dict(result.algebra.names)
    at = [inside(result.model, k) for k in range(checks.INSTANCES)]
    elsewhere = []
    for seed in (99, 100, 101):
        fresh = inside(result.model, seed)
        loud = {leaf.data: 20 * fresh.arrays[leaf.data] for leaf in result.p}
        elsewhere += [fresh, replace(fresh, arrays={**fresh.arrays, **loud})]
    rng = np.random.default_rng(_SEED)
    made = list(_mutations(result))
    chosen = made if len(made) <= most else [made[k] for k in rng.permutation(len(made))[:most]]
    killed, same, survivors = 0, 0, []
    old = np.seterr(all="ignore")  # broken equations divide by zero
    for name, position, what, mutant in chosen:
        parts = list(result.equations[name])
        if all(_equal(result, parts[position], mutant, place) for place in elsewhere):
            same += 1
            continue
        parts[position] = mutant
        broken = replace(result, equations={**result.equations, name: tuple(parts)})
        try:
            residual = _residual(broken, name, at)
        except (ValueError, IndexError):
            residual = float("inf")
        if residual > checks.TOLERANCE:
            killed += 1
        else:
            survivors.append(f"{name}[{position}]: {what}")
    np.seterr(**old)
    result.algebra.names.clear()  # broken expressions have named their parts
    result.algebra.names.update(names)
    return Rung(
        "L6 mutants",
        "every broken equation is caught by L1",
        not survivors,
        {
            "made": len(made),
            "tried": len(chosen),
            "killed": killed,
            "equal in value": same,
            "survivors": survivors[:10],
        },
    )


def _equal(result: OptimalControl, first: Array, second: Array, at: Point) -> bool:
    """Whether two expressions have one value at a point where no check looks."""
    before = checks.graph_value(result, first, at)
    try:
        after = checks.graph_value(result, second, at)
    except (ValueError, IndexError):
        return False
    return relative(after, before) <= 1e-9


def _mutations(result: OptimalControl) -> Iterator[tuple[str, int, str, Array]]:
    g = result.algebra
    factors = {"negated": -1, "doubled": 2, "times 1.01": sp.Rational(101, 100), "dropped": 0}
    for name, parts in result.equations.items():
        for position, part in enumerate(parts):
            for node in walk(part):
                if node.op in ("full", "eye"):
                    continue
                changes = {what: g.scale(sp.sympify(f), node) for what, f in factors.items()}
                square = node.ndim == 2 and node.shape[0] == node.shape[1]
                if square and not g.is_symmetric(node):
                    changes["transposed"] = g.transpose(node)
                if node.op == "matmul" and all(
                    a.ndim == 2 and a.shape[0] == a.shape[1] for a in node.args
                ):
                    changes["swapped"] = g.matmul(node.args[1], node.args[0])
                for what, other in changes.items():
                    (mutant,) = g.rebuild([part], {node: other})
                    if mutant is not part:
                        yield name, position, f"{node.op} {what}", mutant

"""What may be said in words of an optimality system, and the check of each.

Input: words and the derived system.  Output: `Fact`s.  The words are read, and compared with the
definition's text on arrays: complex steps and differences of its Hamiltonian and its costs,
quadrature of the closures that its dynamics come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from derive.draws import generator
from derive.methods.common.printed import parsed
from derive.methods.common.record import Check, Fact
from derive.methods.optimal_control import instances
from derive.methods.optimal_control.closure_facts import of_closure
from derive.methods.optimal_control.instances import INSTANCES, TOLERANCE, Point, relative
from derive.methods.optimal_control.moment_dynamics import run_problem
from derive.methods.optimal_control.result import OptimalControl
from derive.notation.common.scalars import number
from derive.notation.control.words import Problem

_STEP = 1e-30
Test = Callable[[OptimalControl, Point], float]


def facts(
    words: Iterable[str], result: OptimalControl, of_steps: Mapping[str, Check]
) -> tuple[Fact, ...]:
    """Each with its check; words that no check knows are refused."""
    points = [instances.inside(result.model, k) for k in range(INSTANCES)]
    return tuple(_fact(w, result, points, of_steps) for w in words)


def _fact(
    words: str, result: OptimalControl, points: list[Point], of_steps: Mapping[str, Check]
) -> Fact:
    if "minimiser of H, from the convex conjugate" in words:
        # the step compares H at the law with H at other admissible controls
        return Fact(words, "convexity", of_steps["control law"])
    for closure in result.closures:
        name = f"{closure.model.name}: "
        if words.startswith(name):
            return of_closure(words, words.removeprefix(name), closure)
    for said, kind, test, what in _TABLE:
        if said in words:
            worst = test(result, points, words)
            return Fact(words, kind, Check(what, worst, TOLERANCE))
    raise AssertionError(f"no check is known of these words: {words}")


def _at_all(test: Test) -> Callable[[OptimalControl, list[Point], str], float]:
    return lambda result, points, words: max(test(result, at) for at in points)


def _hamiltonian(result: OptimalControl, at: Point, changes: Mapping[str, np.ndarray]) -> float:
    return float(np.real(instances.text_hamiltonian(result.model, at, changes)))


def _solved(result: OptimalControl, points: list[Point], words: str) -> float:
    """The text's H_u at the law, by complex steps; and H is convex in u somewhere."""
    return max(*(_slope_at_law(result, at) for at in points), _never_convex(result, points))


def _slope_at_law(result: OptimalControl, at: Point) -> float:
    law = instances.evaluate(result, "control_law", at)
    best = {u.data: a for u, a in zip(result.u, law, strict=True)}
    if any(np.shape(a) != at.arrays[n].shape for n, a in best.items()):
        return float("inf")
    worst, rng = 0.0, generator(51)
    for _ in range(4):
        move = {n: rng.standard_normal(np.shape(a)) for n, a in best.items()}
        slopes = []
        for base in (best, {n: at.arrays[n] for n in best}):
            step = {n: base[n] + 1j * _STEP * move[n] for n in base}
            slopes.append(np.imag(instances.text_hamiltonian(result.model, at, step)) / _STEP)
        size = 1 + float(np.abs(slopes[1])) + sum(float(np.abs(a).max()) for a in best.values())
        worst = max(worst, abs(float(slopes[0])) / size)
    return worst


def _never_convex(result: OptimalControl, points: list[Point]) -> float:
    """Weights of a sign that is not declared make H concave at some instances, not at all."""
    return 0.0 if any(_third(result, at)[1] > 0 for at in points) else float("inf")


def _third(result: OptimalControl, at: Point) -> tuple[float, float]:
    """Third and second difference of the text's H along a direction of the controls, relative.

    Directions are drawn and the step is halved until H has values there: a logarithm has none at
    negative controls.  What is returned is scaled as if the step had been 1.
    """
    rng = generator(52)
    for attempt in range(48):
        step = 0.5 ** (attempt // 8)
        move = {u.data: rng.standard_normal(at.arrays[u.data].shape) for u in result.u}
        with np.errstate(all="ignore"):
            values = [
                _hamiltonian(result, at, {n: at.arrays[n] + k * step * move[n] for n in move})
                for k in (-1.5, -0.5, 0.5, 1.5)
            ]
        if np.all(np.isfinite(values)):
            break
    size = max(map(abs, values)) + 1e-3
    third = abs(values[3] - 3 * values[2] + 3 * values[1] - values[0]) / size
    second = (values[3] - values[2] - values[1] + values[0]) / size
    return third / step**3, second / step**2


def _linear(result: OptimalControl, points: list[Point], words: str) -> float:
    return max(*(_third(result, at)[0] for at in points), _never_convex(result, points))


def _not_quadratic(result: OptimalControl, points: list[Point], words: str) -> float:
    """Small where a third difference is there; it may vanish at single instances."""
    found = [_third(result, at)[0] for at in points]
    largest = max((v for v in found if np.isfinite(v)), default=0.0)
    return 0.0 if largest > 1e-7 else 1.0


def _no_control(result: OptimalControl, at: Point) -> float:
    return float(len(result.u))


def _run(result: OptimalControl, at: Point) -> Problem:
    """The text, run on arrays."""
    arrays = {s.name: at.arrays[s.name] for s in _slots(result)}
    return run_problem(result.model, arrays, dims=at.dims, params=at.params)


def _slots(result: OptimalControl) -> list:  # type: ignore[type-arg]
    return [*result.model.states, *result.model.controls, *result.model.data]


def _fixed(result: OptimalControl, at: Point) -> float:
    return 0.0 if _run(result, at).end == "fixed" else 1.0


def _free_time(result: OptimalControl, at: Point) -> float:
    return 0.0 if _run(result, at).horizon == "free" else 1.0


def _terminal_slopes(result: OptimalControl, at: Point) -> list[tuple[float, float]]:
    """For random directions: the text's slope of the terminal cost, and <terminal_rate, .>."""
    rng, out = generator(53), []
    for leaf, rate in zip(result.x, instances.evaluate(result, "terminal_rate", at), strict=True):
        move = rng.standard_normal(at.arrays[leaf.data].shape)
        if leaf in result.algebra.symmetric:
            move = (move + move.T) / 2
        step = {leaf.data: at.arrays[leaf.data] + 1j * _STEP * move}
        _, _, terminal = instances.text_values(result.model, at, step)
        out.append((float(np.imag(terminal) / _STEP), float(np.sum(rate * move))))
    return out


def _no_terminal(result: OptimalControl, at: Point) -> float:
    free = _run(result, at).end != "fixed"
    return max(abs(s) for s, _ in _terminal_slopes(result, at)) if free else 1.0


def _terminal(result: OptimalControl, points: list[Point], words: str) -> float:
    """The text's gradient, which is not zero; on spheres only its tangent part counts."""
    if any(_run(result, at).end == "fixed" for at in points):
        return 1.0
    spheres = any(s.kind == "sphere" for s in result.model.states)
    pairs = [p for at in points for p in _terminal_slopes(result, at)]
    seen = max(abs(r) for _, r in pairs) > 1e-12
    if spheres:
        return 0.0 if seen else 1.0
    scale = max(abs(s) for s, _ in pairs) or 1.0
    return max(abs(s - r) for s, r in pairs) / scale if seen else 1.0


def _on_sphere(result: OptimalControl, at: Point) -> float:
    """H(2 x, p / 2) = H(x, p), and x . x' = 0: what x -> x/|x|, p -> |x| P p brings."""
    names = [s.name for s in result.model.states if s.kind == "sphere"]
    scaled = {n: 2 * at.arrays[n] for n in names} | {
        f"p_{n}": at.arrays[f"p_{n}"] / 2 for n in names
    }
    here, there = (instances.evaluate(result, "hamiltonian", at, c)[0] for c in ({}, scaled))
    worst = relative(there, here)
    for leaf, rate in zip(result.x, instances.evaluate(result, "state_rate", at), strict=True):
        if leaf.data in names:
            radial = np.sum(at.arrays[leaf.data] * rate, axis=-1)
            worst = max(worst, relative(radial, np.zeros_like(radial), float(np.abs(rate).max())))
    return worst


def _symmetric(result: OptimalControl, at: Point) -> float:
    worst = 0.0
    for name in ("state_rate", "costate_rate"):
        for slot, rate in zip(
            result.model.states, instances.evaluate(result, name, at), strict=True
        ):
            if slot.kind == "symmetric":
                worst = max(worst, relative(rate, rate.T))
    return worst


def _constant(result: OptimalControl, points: list[Point], words: str) -> float:
    """c' = 0, and p_c' is minus the text's slope of H (plus the discount)."""
    name = words.partition(" ")[0]
    position = [s.name for s in result.model.states].index(name)
    worst = 0.0
    for at in points:
        rate = instances.evaluate(result, "state_rate", at)[position]
        worst = max(worst, float(np.abs(rate).max(initial=0.0)))
        worst = max(worst, _costate(result, at, position, number(result.discount, at.numbers)))
    return worst


def _costate(result: OptimalControl, at: Point, position: int, rho: float) -> float:
    """p' + H_x - rho p, along a random direction, H_x by complex steps of the text."""
    leaf, costate = result.x[position], result.p[position]
    rate = instances.evaluate(result, "costate_rate", at)[position]
    move = generator(54, position).standard_normal(at.arrays[leaf.data].shape)
    if leaf in result.algebra.symmetric:
        move = (move + move.T) / 2
    step = {leaf.data: at.arrays[leaf.data] + 1j * _STEP * move}
    slope = float(np.imag(instances.text_hamiltonian(result.model, at, step)) / _STEP)
    p = at.arrays[costate.data]
    found = float(np.sum((rate - rho * p) * move))
    size = 1 + float(np.abs(rate).sum() * np.abs(move).max())
    return abs(found + slope) / size


def _discounted(result: OptimalControl, points: list[Point], words: str) -> float:
    """p' = -H_x + rho p with the rho that the words name."""
    rho = parsed(words.partition("discount ")[2].partition(":")[0], result.model.params)
    return max(
        _costate(result, at, k, number(rho, at.numbers))
        for at in points
        for k in range(len(result.x))
    )


def _particles(result: OptimalControl, at: Point) -> float:
    """x' = H_p against the text, whose tokens are then points of equal weight."""
    rates, _, _ = instances.text_values(result.model, at, {})
    found = instances.evaluate(result, "state_rate", at)
    on_sphere = [s.kind == "sphere" for s in result.model.states]
    return max(
        relative(a, b)
        for a, b, sphere in zip(found, rates, on_sphere, strict=True)
        if not sphere or np.all(np.isfinite(b))
    )


_TABLE: tuple[tuple[str, str, Callable[[OptimalControl, list[Point], str], float], str], ...] = (
    (
        "the law of the keys is the empirical measure",
        "particles",
        _at_all(_particles),
        "x' against the text, run on tokens of equal weight",
    ),
    (
        "H_u = 0 solved for the control",
        "convexity",
        _solved,
        "complex steps of the text's H at the law; H is convex",
    ),
    (
        "H_u = 0 is linear in the control",
        "convexity",
        _linear,
        "third difference of the text's H in the control; the second is positive",
    ),
    (
        "H is not quadratic in the control",
        "convexity",
        _not_quadratic,
        "third difference of the text's H in the control does not vanish",
    ),
    ("no control depends on time", "controls", _at_all(_no_control), "controls that are free"),
    (
        "free final time",
        "end",
        _at_all(_free_time),
        "the horizon as the text, run on arrays, has it",
    ),
    ("fixed end", "end", _at_all(_fixed), "the end as the text, run on arrays, has it"),
    (
        "no terminal cost: p(T) = 0",
        "end",
        _at_all(_no_terminal),
        "complex steps of the text's terminal cost",
    ),
    (
        "p(T) is the gradient of the terminal cost",
        "end",
        _terminal,
        "complex steps of the text's terminal cost",
    ),
    (
        "on the sphere: x -> x/|x|",
        "symmetry",
        _at_all(_on_sphere),
        "H(2 x, p / 2) = H(x, p) and x . x' = 0",
    ),
    (
        "symmetric: Frobenius pairing",
        "symmetry",
        _at_all(_symmetric),
        "state and costate rates against their transposes",
    ),
    (
        "constant in time: a state with",
        "constants",
        _constant,
        "c' = 0, and p_c' against complex steps of the text's H",
    ),
    ("discount ", "discount", _discounted, "p' - rho p against complex steps of the text's H"),
)

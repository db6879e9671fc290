"""Active bounds and unusual costs, from the definition to the solution, against other routes.

Every problem is written here, derived, emitted and solved; costs and verdicts are compared with
closed forms worked out by hand, with matrix exponentials of the linear system, or with a system
typed by hand and solved by shooting.  Nothing is random.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.linalg import expm
from scipy.optimize import brentq

from derive.emit.optimal_control.module import render
from derive.errors import DefinitionError, Refusal
from derive.methods.optimal_control.derivation import derive
from derive.registry import entries, load

TEXT = """from derive.notation import *

d = dims("d: size")
beta, lam, M, rho, goal = params(
    "beta: positive", "lam: positive", "M: positive", "rho: positive", "goal: positive"
)


@optimal_control(state="x[d]", control="u[d]")
def case(x, u):
    return problem(dynamics={rate}, running={cost}{more})
"""
TRACK = "squared_norm(x - goal) / 2 + beta / 2 * squared_norm(u)"
BETA, LAM, M, RHO, GOAL = 0.5, 0.3, 0.6, 0.2, 1.0


@lru_cache(maxsize=1)
def _folder() -> Path:
    return Path(mkdtemp())


@lru_cache(maxsize=32)
def kernel(rate: str, cost: str, more: str = "") -> ModuleType:
    name = f"case_{abs(hash((rate, cost, more)))}"
    file, target = _folder() / "problem.py", _folder() / f"{name}.py"
    file.write_text(
        TEXT.format(rate=rate, cost=cost, more=f", {more}" if more else ""), encoding="utf-8"
    )
    target.write_text(render(derive(load(entries(file)[0])), "p", "p"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def params(module: ModuleType, **changed: float) -> Any:
    values = {"beta": BETA, "lam": LAM, "M": M, "rho": RHO, "goal": GOAL, **changed}
    return module.Params(**{n: values[n] for n in module.Params._fields})


def run(module: ModuleType, x0: Any, T: float, end: Any = None, **changed: float) -> Any:
    """Turnpike and extremal; every residual must be small."""
    values, x0 = params(module, **changed), np.atleast_1d(np.asarray(x0, float))
    found = module.turnpike(values, seed=0, starts=4, x_guess=module.State(np.full(len(x0), 0.5)))
    last = {} if end is None else {"x_end": module.State(np.atleast_1d(end))}
    path = module.solve(module.State(x0), values, T=T, near=found, **last)
    r = path.residuals
    assert r.defect <= 1e-8 and r.error <= 1e-8
    assert r.stationarity < 1e-8 and r.boundary < 1e-8
    assert np.isnan(r.hamiltonian) or r.hamiltonian < 1e-7
    return found, path


# closed forms: x' = u, one error e = |x - goal|, long horizons


def reach(e: float) -> float:
    """Cost of e -> 0 within |u| <= M: at the bound down to M sqrt(beta), then exponentially."""
    last = min(e, M * np.sqrt(BETA))
    return (e**3 - last**3) / (6 * M) + BETA / 2 * M * (e - last) + np.sqrt(BETA) * last**2 / 2


def dead_zone(e: float, T: float) -> tuple[float, float]:
    """Cost and stopping time with lam |u| + beta / 2 u^2: e(t) = e* cosh((T* - t) / sqrt(beta)),
    and (T - T*) e* = lam after it."""
    root = np.sqrt(BETA)
    stop = brentq(lambda t: LAM / (T - t) * np.cosh(t / root) - e, 0, T - 1e-6, xtol=1e-14)
    rest = LAM / (T - stop)

    def running(t: float) -> float:
        level, speed = rest * np.cosh((stop - t) / root), rest / root * np.sinh((stop - t) / root)
        return level**2 / 2 + LAM * speed + BETA / 2 * speed**2

    moving = quad(running, 0, stop, epsabs=1e-13, limit=200)[0]
    return moving + (T - stop) * rest**2 / 2, stop


def test_box_active_on_the_entry_arc() -> None:
    module = kernel("u", TRACK, "bounds=box(u, -M, M)")
    found, path = run(module, -1.0, 20.0)
    assert found.verdict == "entry_only"
    assert found.rate == pytest.approx(1 / np.sqrt(BETA), abs=1e-9)
    assert "no bound is active at the static optimum" in found.reasons
    assert path.cost == pytest.approx(reach(2.0), abs=1e-8)
    switch = (2.0 - M * np.sqrt(BETA)) / M
    assert np.min(np.abs(path.times - switch)) < 1e-6  # a node sits on the kink
    assert np.all(path.u.u[path.times < switch - 1e-6] == M)


@pytest.mark.slow
def test_every_member_of_a_batch_has_its_own_switching_time() -> None:
    module = kernel("u", TRACK, "bounds=box(u, -M, M)")
    x0 = np.array([[-1.0], [0.9], [3.0]])
    path = module.solve(module.State(x0), params(module), T=20.0, starts=4)
    assert path.cost == pytest.approx([reach(2.0), reach(0.1), reach(2.0)], abs=1e-8)
    assert np.all(path.residuals.error <= 1e-8)


@pytest.mark.slow
def test_box_active_on_both_arcs_of_a_fixed_end() -> None:
    module = kernel("u", TRACK, 'bounds=box(u, -M, M), end="fixed"')
    found, path = run(module, -1.0, 24.0, end=2.5)
    assert found.verdict == "exponential"
    assert path.cost == pytest.approx(reach(2.0) + reach(1.5), abs=1e-8)
    assert path.x.x[-1, 0] == pytest.approx(2.5, abs=1e-12)


@pytest.mark.slow
def test_a_control_held_by_its_box_at_the_turnpike() -> None:
    """x' = u - x towards a goal beyond M: u = M rests, the rate is that of the drift alone."""
    module = kernel("u - x", TRACK, "bounds=box(u, -M, M)")
    T, goal, x0 = 12.0, 3.0, 2.0
    found, path = run(module, x0, T, goal=goal)
    assert found.x.x[0] == pytest.approx(M, abs=1e-9) and found.u.u[0] == pytest.approx(M)
    assert found.verdict == "exponential" and found.rate == pytest.approx(1.0, abs=1e-9)
    assert any("1 are held" in reason for reason in found.reasons)
    flow = np.array([[-1.0, -1 / BETA, 0.0], [-1.0, 1.0, goal], [0.0, 0.0, 0.0]])

    def last_costate(t: float) -> float:  # p = -beta M where the control leaves its bound
        x = M + (x0 - M) * np.exp(-t)
        return float((expm(flow * (T - t)) @ [x, -BETA * M, 1.0])[1])

    leave = brentq(last_costate, T - 3, T - 1e-3, xtol=1e-13)
    assert np.min(np.abs(path.times - leave)) < 1e-6
    assert np.all(path.u.u[path.times < leave - 1e-6] == M)
    assert path.u.u[-1, 0] == pytest.approx(0, abs=1e-9)


@pytest.mark.slow  # quick: test_a_norm_alone_with_drift_is_undetermined_and_not_solved
def test_elastic_net_rests_after_its_dead_zone() -> None:
    module = kernel(
        "u", "squared_norm(x - goal) / 2 + lam * l1_norm(u) + beta / 2 * squared_norm(u)"
    )
    found, path = run(module, -1.0, 10.0)
    assert found.verdict == "undetermined"
    assert any("T* grows with T" in reason for reason in found.reasons)
    cost, stop = dead_zone(2.0, 10.0)
    assert path.cost == pytest.approx(cost, abs=1e-8)
    assert np.all(path.u.u[path.times > stop + 1e-6] == 0)
    assert path.x.x[-1, 0] == pytest.approx(GOAL - LAM / (10.0 - stop), abs=1e-7)


@pytest.mark.slow
def test_euclidean_norm_with_a_square_goes_straight() -> None:
    module = kernel(
        "u", "squared_norm(x - goal) / 2 + lam * l2_norm(u) + beta / 2 * squared_norm(u)"
    )
    _, path = run(module, [-1.0, 2.5], 10.0)
    cost, stop = dead_zone(2.5, 10.0)
    assert path.cost == pytest.approx(cost, abs=1e-8)
    assert np.all(path.u.u[path.times > stop + 1e-6] == 0)


@pytest.mark.slow
def test_a_ball_active_on_the_entry_arc() -> None:
    module = kernel("u", TRACK, "bounds=l2_ball(u, radius=M)")
    found, path = run(module, [-1.0, 2.5], 20.0)
    assert found.verdict == "entry_only"
    assert path.cost == pytest.approx(reach(2.5), abs=1e-8)
    assert np.linalg.norm(path.u.u, axis=1).max() == pytest.approx(M, abs=1e-12)


@pytest.mark.parametrize(
    ("cost", "bounds", "said"),
    [
        ("lam * l1_norm(u)", "()", "bound its norm"),
    ],
)
def test_norms_that_nothing_bounds_are_refused(cost: str, bounds: str, said: str) -> None:
    try:
        module = kernel("u", f"squared_norm(x - goal) / 2 + {cost}", f"bounds={bounds}")
    except Exception as refusal:  # refused by the derivation already
        assert "nothing bounds the control" in str(refusal)
        return
    with pytest.raises(ValueError, match=said):
        module.solve(module.State(np.array([-1.0])), params(module), T=5.0)


def test_a_norm_alone_with_drift_is_undetermined() -> None:
    module = kernel(
        "u - x", "squared_norm(x - goal) / 2 + lam * l1_norm(u)", "bounds=l1_ball(u, radius=M)"
    )
    start = module.State(np.array([-1.0, 2.0]))
    found = module.turnpike(params(module), seed=0, x_guess=start)
    assert found.verdict == "undetermined"
    assert not any("full amplitude" in reason for reason in found.reasons)


# the linear system by matrix exponentials


def linear(M_: np.ndarray, r: np.ndarray, x0: float, T: float, end: np.ndarray) -> Callable:
    """t -> (x, p) of y' = M y + r with x(0) = x0 and end . (x, p, 1) = 0 at T (scalar state)."""
    flow = np.zeros((3, 3))
    flow[:2, :2], flow[:2, 2] = M_, r
    last = expm(flow * T)
    row = end @ last
    p0 = -(row[0] * x0 + row[2]) / row[1]
    return lambda t: (expm(flow * t) @ [x0, p0, 1.0])[:2]


LINEAR = {
    # name: rate, cost, more, Hamiltonian matrix, right-hand side, end, running cost of (x, p)
    "mixed cost and terminal cost": (
        "u - x",
        "squared_norm(x - goal) / 2 + inner(x, u) / 4 + beta / 2 * squared_norm(u)",
        "terminal=squared_norm(x + goal)",
        [[-1 - 1 / (4 * BETA), -1 / BETA], [-1 + 1 / (16 * BETA), 1 + 1 / (4 * BETA)]],
        [0.0, GOAL],
        [-2.0, 1.0, -2.0 * GOAL],
        lambda x, p: _mixed(x, -(p + x / 4) / BETA),
    ),
    "discount": (
        "u - x",
        TRACK,
        "discount=rho",
        [[-1.0, -1 / BETA], [-1.0, 1.0 + RHO]],
        [0.0, GOAL],
        [0.0, 1.0, 0.0],
        lambda x, p: (x - GOAL) ** 2 / 2 + p**2 / (2 * BETA),
    ),
    "control reference": (
        "u - x",
        "squared_norm(x - goal) / 2 + beta / 2 * squared_norm(u - M)",
        "",
        [[-1.0, -1 / BETA], [-1.0, 1.0]],
        [M, GOAL],
        [0.0, 1.0, 0.0],
        lambda x, p: (x - GOAL) ** 2 / 2 + p**2 / (2 * BETA),
    ),
}


def _mixed(x: float, u: float) -> float:
    return (x - GOAL) ** 2 / 2 + x * u / 4 + BETA / 2 * u**2


@pytest.mark.parametrize(
    "name", [n if n == "discount" else pytest.param(n, marks=pytest.mark.slow) for n in LINEAR]
)
def test_linear_quadratic_variants(name: str) -> None:
    rate, cost, more, flow, r, end, running = LINEAR[name]
    T, x0, rho = 4.0, -1.0, RHO if name == "discount" else 0.0
    M_, r = np.array(flow), np.array(r)
    found, path = run(kernel(rate, cost, more), x0, T)
    static = np.linalg.solve(M_, -r)
    assert [found.x.x[0], found.p.x[0]] == pytest.approx(list(static), abs=1e-9)
    assert np.sort(found.spectrum.real) == pytest.approx(np.sort(np.linalg.eigvals(M_).real))
    assert found.verdict == "exponential"
    y = linear(M_, r, x0, T, np.array(end))
    total = quad(lambda t: np.exp(-rho * t) * running(*y(t)), 0, T, epsabs=1e-12)[0]
    total += (y(T)[0] + GOAL) ** 2 if "terminal" in more else 0.0
    assert path.cost == pytest.approx(total, abs=1e-8)
    assert path.p.x[0, 0] == pytest.approx(y(0)[1], abs=1e-7)


# first-order systems typed by hand, solved by shooting


def shoot(field: Callable, x0: float, T: float, low: float, high: float, end: Callable) -> Any:
    """The solution from x0 whose last point satisfies end(x, p) = 0, p(0) between low and high."""

    def path(p0: float) -> Any:
        return solve_ivp(
            field, (0, T), [x0, p0], method="DOP853", rtol=1e-12, atol=1e-13, dense_output=True
        )

    p0 = brentq(lambda p0: end(*path(p0).y[:, -1]), low, high, xtol=1e-15, rtol=1e-15)
    return path(p0).sol


@pytest.mark.slow
def test_economic_cost_with_discount() -> None:
    """Harvest from a logistic stock, utility log u: golden rule 1 - 2 x = rho."""
    module = kernel(
        "x * (1 - x) - u", "-log(u).sum() + 0 * squared_norm(x)", "discount=rho, "
        "terminal=-2 * log(x).sum()",
    )  # fmt: skip
    T, x0, stock = 3.0, 0.6, (1 - RHO) / 2
    found, path = run(module, x0, T)
    assert found.x.x[0] == pytest.approx(stock, abs=1e-9)
    assert found.u.u[0] == pytest.approx(stock * (1 - stock), abs=1e-9)
    assert found.verdict == "exponential"

    def field(t: float, y: np.ndarray) -> list[float]:
        x, p = y
        return [x * (1 - x) + 1 / p, RHO * p - p * (1 - 2 * x)]

    p0 = path.p.x[0, 0]
    sol = shoot(field, x0, T, p0 - 1e-3, p0 + 1e-3, lambda x, p: p + 2 / x)
    total = quad(lambda t: np.exp(-RHO * t) * np.log(-sol(t)[1]), 0, T, epsabs=1e-12)[0]
    total -= np.exp(-RHO * T) * 2 * np.log(sol(T)[0])
    assert path.cost == pytest.approx(total, abs=1e-8)


@pytest.mark.slow
def test_elastic_net_with_drift() -> None:
    """The turnpike pays lam sign(u): a smooth point of the law."""
    cost = "squared_norm(x - goal) / 2 + lam * l1_norm(u) + beta / 2 * squared_norm(u)"
    found, path = run(kernel("u - tanh(x)", cost), -1.0, 4.0)
    assert found.verdict == "exponential"

    def law(p: Any) -> Any:
        return -np.sign(p) * np.maximum(np.abs(p) - LAM, 0) / BETA

    def field(t: float, y: np.ndarray) -> list[float]:
        x, p = y
        return [law(p) - np.tanh(x), -(x - GOAL) + p * (1 - np.tanh(x) ** 2)]

    p0 = path.p.x[0, 0]
    sol = shoot(field, -1.0, 4.0, p0 - 1e-3, p0 + 1e-3, lambda x, p: p)
    assert np.max(np.abs(sol(path.times)[0] - path.x.x[:, 0])) < 1e-7

    def running(t: float) -> float:
        x, p = sol(t)
        u = float(law(p))
        return (x - GOAL) ** 2 / 2 + LAM * abs(u) + BETA / 2 * u**2

    assert path.cost == pytest.approx(quad(running, 0, 4.0, limit=400, epsabs=1e-11)[0], abs=1e-8)
    x, p = found.x.x[0], found.p.x[0]
    slope = 1 - np.tanh(x) ** 2
    flow = [[-slope, -1 / BETA], [-1 - 2 * p * np.tanh(x) * slope, slope]]
    assert found.rate == pytest.approx(np.linalg.eigvals(flow).real.max(), abs=1e-8)


@pytest.mark.slow
def test_a_ball_active_at_the_turnpike_has_the_measured_rate() -> None:
    """Where |u| = M the control turns but does not grow: neither free nor held."""
    module = kernel(
        "u - tanh(x)",
        TRACK,
        "bounds=l2_ball(u, radius=M)",
    )
    found, path = run(module, [-1.0, 2.0], 30.0, goal=1.5)
    assert np.linalg.norm(found.u.u) == pytest.approx(M, abs=1e-9)
    gap = np.linalg.norm(path.x.x - found.x.x, axis=1)
    window = (path.times > 4) & (path.times < 12)
    measured = -np.polyfit(path.times[window], np.log(gap[window]), 1)[0]
    assert measured == pytest.approx(found.rate, rel=2e-2)


def test_a_bound_that_is_just_touched_is_undetermined() -> None:
    """x' = u - x: the static optimum u = goal / (1 + beta) is M itself."""
    module = kernel("u - x", TRACK, "bounds=box(u, -M, M)")
    found = module.turnpike(
        params(module, goal=M * (1 + BETA)), seed=0, starts=4, x_guess=module.State(np.full(1, 0.5))
    )
    assert found.verdict == "undetermined"
    assert "just touched" in found.reasons[0]


@pytest.mark.slow
def test_an_end_out_of_reach_of_the_box_is_refused() -> None:
    module = kernel("u", TRACK, 'bounds=box(u, -M, M), end="fixed"')
    with pytest.raises(ValueError, match="without the bounds there is an extremal"):
        module.solve(
            module.State(np.array([0.0])), params(module), T=2.0,
            x_end=module.State(np.array([2.0])),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "control", "cost", "said"),
    [
        ("x[3]", "u[d]", "0", "numbers come with the arrays"),
        ("x[d]", "u[d, d, d]", "0", r'control="u_1\[d, d\], u_2\[d, d\]"'),
        ("x[d]", "u[d]", "squared_norm(u) + squared_norm(relu(u - x))", None),
        ("x[d]", "u[d]", "squared_norm(u) + relu(u - x) @ x", "control u stands inside"),
        ("x[d]", "u[d]", "squared_norm(u) + relu(x) @ x", None),
    ],
)
def test_sizes_stacks_and_kinks_in_the_control_are_told(
    state: str, control: str, cost: str, said: str | None, tmp_path: Path
) -> None:
    text = TEXT.format(rate="u", cost=cost, more="")
    file = tmp_path / "case.py"
    file.write_text(text.replace("x[d]", state).replace("u[d]", control), encoding="utf-8")
    if said is None:
        derive(load(entries(file)[0]))
        return
    with pytest.raises((DefinitionError, Refusal), match=said):
        derive(load(entries(file)[0]))

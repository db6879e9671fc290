"""Controls that jump between their bounds: phases, switching times and costs, to the digit.

Every problem is derived, emitted and solved; the answers are closed forms or quadratures of paths
written down by hand.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad

from derive.emit.optimal_control.module import render
from derive.methods.optimal_control.derivation import derive
from derive.registry import entries, load
from derive.runtime.common.precision import precision
from derive.runtime.control import switching_checks as checks
from derive.runtime.control import switching_shooting as shooting
from derive.runtime.control.coordinates import flatten
from derive.runtime.control.extremal_system import Theta

TEXT = """from derive.notation import *

d = dims("d: size")
M, rho = params("M: positive", "rho: positive")


@optimal_control(state="{state}", control="u[d]")
def case({names}, u):
    return problem({what})
"""
CART = ("q[d], v[d]", "dynamics=(v, u)")


@lru_cache(maxsize=16)
def kernel(folder: Path, state: str, what: str) -> ModuleType:
    name = f"switching_{abs(hash((state, what)))}"
    file, target = folder / f"{name}.py", folder / f"{name}_kernel.py"
    names = ", ".join(part.split("[")[0].strip() for part in state.split(", "))
    file.write_text(TEXT.format(state=state, names=names, what=what), encoding="utf-8")
    target.write_text(render(derive(load(entries(file)[0])), "p", "p"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("switching")


def solved(module: ModuleType, x0: list[float], T: float, end: Any = None, **values: float) -> Any:
    state = module.State(*(np.array([v]) for v in x0))
    params = module.Params(**{n: values[n] for n in module.Params._fields})
    last = {} if end is None else {"x_end": module.State(*(np.array([v]) for v in end))}
    return module.solve(state, params, T=T, **last)


def switches(found: Any) -> list[float]:
    (note,) = [n for n in found.notes if n.startswith("the control switches at t = ")]
    return [float(w) for w in note.rpartition("= ")[2].split(", ")]


FUEL = CART[1] + ', running=l1_norm(u), bounds=box(u, -M, M), end="fixed"'


def test_least_fuel_of_a_cart_burns_coasts_and_brakes(folder: Path) -> None:
    found = solved(kernel(folder, CART[0], FUEL), [0, 0], 3.0, [1, 0], M=1.0)
    s = (3 - 5**0.5) / 2  # s (T - s) = 1
    assert switches(found) == pytest.approx([s, 3 - s], abs=1e-5)
    assert float(found.cost) == pytest.approx(2 * s, abs=1e-9)
    assert float(found.x.q[-1, 0]) == pytest.approx(1.0, abs=1e-9)


def test_a_candidate_with_phases_left_out_is_told_by_the_maximum_principle(folder: Path) -> None:
    """From rest, full thrust all the way to (T^2/2, T): with p_v = -3 + t the control should have
    coasted once |p_v| < 1."""
    module = kernel(folder, CART[0], FUEL)
    params = module.Params(M=1.0)
    flat = flatten(module._SPEC, {"d": 1})
    t = np.linspace(0, 3.0, shooting.SEGMENTS + 1)
    y = np.stack([t**2 / 2, t, np.full_like(t, -1.0), -3.0 + t], 1)
    theta = Theta(params, y[0, :2], y[-1, :2], np.zeros(1))
    ends = np.array([0.0, 3.0])
    phases = shooting.Phases((((1,),),), ends, shooting.layout(ends), y)
    with precision("float64"):
        wrong, report = checks.judged(flat, theta, phases)
    assert wrong is not None and "makes the Hamiltonian smaller" in wrong
    assert float(report.missed) < 1e-9  # its equations hold: the principle alone tells it


@pytest.mark.slow
def test_a_singular_arc_rests_on_the_goal(folder: Path) -> None:
    """x' = u - x from 2 at u = -1 to x = 1/2, then u = 1/2 keeps it there."""
    what = "dynamics=u - x, running=squared_norm(2 * x - 1) / 8, bounds=box(u, -M, M), discount=rho"
    found = solved(kernel(folder, "x[d]", what), [2.0], 4.0, M=1.0, rho=0.1)
    right = quad(lambda t: np.exp(-0.1 * t) * (3 * np.exp(-t) - 1.5) ** 2 / 2, 0, np.log(2))[0]
    assert switches(found) == pytest.approx([np.log(2)], abs=1e-5)
    assert float(found.cost) == pytest.approx(right, abs=1e-9)
    assert found.u.u[-1, 0] == pytest.approx(0.5, abs=1e-8)


@pytest.mark.slow
def test_a_terminal_cost_makes_the_control_wait_and_act_at_the_end(folder: Path) -> None:
    what = (
        "dynamics=u, running=squared_norm(x) / 2 + l1_norm(u) / 20, "
        "terminal=5 * squared_norm(x - 1), bounds=l1_ball(u, radius=M)"
    )
    found = solved(kernel(folder, "x[d]", what), [0.0], 6.0, M=1.0)
    s = -10 + (100 + 2 * 9.95) ** 0.5  # s^2 / 2 + 0.05 = 10 (1 - s)
    assert switches(found) == pytest.approx([6 - s], abs=1e-5)
    assert float(found.cost) == pytest.approx(s**3 / 6 + 0.05 * s + 5 * (1 - s) ** 2, abs=1e-9)


def test_no_turnpike_is_said_of_bounds_alone(folder: Path) -> None:
    what = "dynamics=u, running=0, terminal=squared_norm(x) / 2, bounds=box(u, -M, M)"
    module = kernel(folder, "x[d]", what)
    params, start = module.Params(M=np.asarray(1.0)), module.State(np.array([2.0]))
    found = module.turnpike(params, x_guess=start, seed=0)
    assert found.verdict == "undetermined" and "no price beside its bounds" in found.reasons[0]


@pytest.mark.slow  # guard: the test above
def test_what_is_said_of_bounds_alone_serves_solve(folder: Path) -> None:
    """Full speed from 2 to 1."""
    what = "dynamics=u, running=0, terminal=squared_norm(x) / 2, bounds=box(u, -M, M)"
    module = kernel(folder, "x[d]", what)
    params, start = module.Params(M=np.asarray(1.0)), module.State(np.array([2.0]))
    found = module.turnpike(params, x_guess=start, seed=0)
    best = module.solve(start, params, T=1.0, near=found)
    assert float(best.cost) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.slow
def test_the_shortest_time_of_a_cart_is_found(folder: Path) -> None:
    what = CART[1] + ', running=1, bounds=box(u, -M, M), end="fixed", horizon="free"'
    found = solved(kernel(folder, CART[0], what), [1, 0], 3.0, [0, 0], M=1.0)
    assert switches(found) == pytest.approx([1.0], abs=1e-5)
    assert [float(found.cost), found.times[-1]] == pytest.approx([2.0, 2.0], abs=1e-9)


def test_a_free_final_time_makes_the_hamiltonian_vanish(folder: Path) -> None:
    """T + 6 / T^3 for rest to rest over the distance 1 is least at T^4 = 18."""
    what = CART[1] + ', running=1 + squared_norm(u) / 2, end="fixed", horizon="free"'
    module = kernel(folder, CART[0], what)
    found = solved(module, [1, 0], 3.0, [0, 0])
    T = 18**0.25
    assert [found.times[-1], float(found.cost)] == pytest.approx([T, T + 6 / T**3], abs=1e-8)
    at = [as_arrays(part) for part in (found.x, found.p, found.u)]
    assert np.max(np.abs(module.hamiltonian(*at, module.Params()))) < 1e-6  # in float32
    found = module.turnpike(module.Params(), x_guess=module.State(np.ones(1), np.zeros(1)), seed=0)
    assert found.verdict == "undetermined" and "final time is free" in found.reasons[0]
    with pytest.raises(ValueError, match="number of times"):
        module.solve(module.State(np.ones(1), np.zeros(1)), module.Params(), T=3.0,
                     x_end=module.State(np.zeros(1), np.zeros(1)), saves=[0.0, 1.0])  # fmt: skip


def as_arrays(part: Any) -> Any:
    return type(part)(*(np.asarray(a) for a in part))


@pytest.mark.slow
def test_an_arc_of_higher_order_is_refused(folder: Path) -> None:
    """min int q^2: the control switches ever faster towards the arc q = 0."""
    what = CART[1] + ', running=squared_norm(q) / 2, bounds=box(u, -M, M), end="fixed"'
    with pytest.raises(ValueError, match="higher order"):
        solved(kernel(folder, CART[0], what), [1, 0], 4.0, [0, 0], M=1.0)

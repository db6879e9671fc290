"""Controls that are constant in time: optimised together with the others, or alone."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest

from derive.emit.optimal_control.module import render
from derive.errors import DefinitionError
from derive.methods.optimal_control.derivation import derive
from derive.methods.optimal_control.instances import point
from derive.registry import entries, load
from derive.verify.optimal_control import ladder

HEAD = """from derive.notation import *
from derive.theory.bilinear_softmax_closure import bilinear_softmax_closure as attention

d, k = dims("d: width", "k: actuators")
alpha, beta = params("alpha: positive", "beta: positive")


def cost(x, u, c, goal):
    effort = beta / 2 * squared_norm(u) + squared_norm(c) / 2
    return alpha / 2 * squared_norm(x - goal) + effort


"""
BOTH = """
@optimal_control(
    state="x[d]", control="v[k], c[d] constant", data="G[d, d], B[d, k], goal[d]"
)
def both(x, v, c, G, B, goal):
    return problem(dynamics=G @ x + B @ v + c + tanh(x) * c, running=cost(x, v, c, goal))
"""
GIVEN = (
    BOTH.replace(", c[d] constant", "").replace('data="', 'data="c[d], ').replace("both", "given")
)
ALONE = """
@optimal_control(state="x[d]", control="C[d, d] constant, c[d] constant", data="goal[d]")
def alone(x, C, c, goal):
    last = squared_norm(x) / 4
    return problem(dynamics=C @ tanh(x) - x + c, running=cost(x, C, c, goal), terminal=last)
"""
G = np.array([[0.3, 1.0], [-1.0, 0.2]])
B, goal, x0 = np.array([[0.0], [1.0]]), np.array([1.0, -0.5]), np.array([-1.0, 0.5])


def _built(text: str, folder: Path) -> tuple[object, ModuleType]:
    source, file = folder / "user_model.py", folder / "user_kernel.py"
    source.write_text(HEAD + text, encoding="utf-8")
    entry = next(e for e in entries(source) if e.method == "optimal_control")
    result = derive(load(entry))
    file.write_text(render(result, "user_model.py", entry.name), encoding="utf-8")
    return result, ladder.load_module(file)


@pytest.mark.slow
def test_the_best_constant_is_where_the_cost_of_given_constants_is_least(tmp_path: Path) -> None:
    """The other route: the same problem with c as data, solved at constants around the best."""
    _, both = _built(BOTH, tmp_path)
    _, given = _built(GIVEN, tmp_path)
    found = both.solve(both.State(x0, np.zeros(2)), both.Params(2.0, 0.3, G, B, goal), T=5.0)
    c = found.x.c[0]
    assert np.ptp(found.x.c, axis=0).max() < 1e-12
    assert max(found.residuals.boundary, found.residuals.stationarity) < 1e-9
    assert found.residuals.hamiltonian < 1e-7

    def least(c: np.ndarray) -> float:
        params = given.Params(2.0, 0.3, c, G, B, goal)
        return float(given.solve(given.State(x0), params, T=5.0, tolerance=1e-9).cost)

    np.testing.assert_allclose(found.cost, least(c), rtol=1e-8)
    h = 1e-3  # the third derivative is of order ten
    for e in np.eye(2):
        up, down = least(c + h * e), least(c - h * e)
        assert abs(up - down) / (2 * h) < 1e-5  # the gradient at c = 0 is of order one
        assert min(up, down) > found.cost


@pytest.mark.slow
def test_the_turnpike_of_a_constant(tmp_path: Path) -> None:
    """At the static optimum; over longer horizons the best constant comes nearer, like 1 / T."""
    _, both = _built(BOTH, tmp_path)
    params = both.Params(2.0, 0.3, G, B, goal)
    pike = both.turnpike(params, seed=0)
    assert pike.verdict == "exponential"
    assert any("O(1/T)" in r for r in pike.reasons)
    (x, c), v = pike.x, pike.u.v
    np.testing.assert_allclose(G @ x + B @ v + c + np.tanh(x) * c, 0, atol=1e-9)
    np.testing.assert_allclose(c + pike.p.x * (1 + np.tanh(x)), 0, atol=1e-9)  # H_c = 0
    gaps = []
    for T in (20.0, 40.0):
        found = both.solve(both.State(x0, c), params, T=T, near=pike)
        gaps.append(np.abs(found.x.c[0] - c).max())
    assert 1.7 < gaps[0] / gaps[1] < 2.3
    middle = np.argmin(np.abs(found.times - 20.0))
    assert np.abs(found.x.x[middle] - x).max() < 10 * gaps[1]


@pytest.mark.slow
def test_all_controls_constant(tmp_path: Path) -> None:
    _, alone = _built(ALONE, tmp_path)
    params = alone.Params(2.0, 0.3, goal)
    start = alone.State(x0, np.zeros((2, 2)), np.zeros(2))
    found = alone.solve(start, params, T=4.0)

    def cost(C: np.ndarray, c: np.ndarray, steps: int = 400) -> float:
        """The cost of constants by RK4."""

        def rate(y: np.ndarray) -> np.ndarray:
            x = y[:-1]
            running = ((x - goal) ** 2).sum() + 0.15 * (C**2).sum() + (c**2).sum() / 2
            return np.append(C @ np.tanh(x) - x + c, running)

        y, h = np.append(x0, 0.0), 4.0 / steps
        for _ in range(steps):
            a = rate(y)
            b = rate(y + h / 2 * a)
            e = rate(y + h / 2 * b)
            y = y + h / 6 * (a + 2 * b + 2 * e + rate(y + h * e))
        return y[-1] + (y[:-1] ** 2).sum() / 4

    C, c = found.x.C[0], found.x.c[0]
    np.testing.assert_allclose(cost(C, c), found.cost, rtol=1e-8)
    rng = np.random.default_rng(0)
    for _ in range(6):
        E, e = 1e-4 * rng.standard_normal((2, 2)), 1e-4 * rng.standard_normal(2)
        up, down = cost(C + E, c + e), cost(C - E, c - e)
        assert 100 * abs(up - down) < up + down - 2 * cost(C, c)
    pike = alone.turnpike(params, seed=0)
    assert pike.verdict == "exponential" and len(pike.rates) == 2


@pytest.mark.parametrize("text", [BOTH, pytest.param(ALONE, marks=pytest.mark.slow)])
def test_problems_with_constants_pass_the_ladder(text: str, tmp_path: Path) -> None:
    with jax.enable_x64(True):
        result, module = _built(text, tmp_path)
        assert any("constant in time" in f for f in result.facts)  # type: ignore[attr-defined]
        at = [point(result.model, 10)]  # type: ignore[attr-defined]
        for rung in (
            ladder.independent(result, module, at),  # type: ignore[arg-type]
            ladder.invariants(result, module, at),  # type: ignore[arg-type]
            ladder.variation(result, module, (16, 32)),  # type: ignore[arg-type]
        ):
            assert rung.passed, (rung.name, rung.figures)


def test_a_constant_value_matrix_of_a_closure(tmp_path: Path) -> None:
    """The integral of H_V, not H_V, vanishes: p_V' = -H_V is a state's costate equation."""
    result, _ = _built(
        """
@optimal_control(state="S[d, d] symmetric", control="V[d, d] constant", data="A[d, d]")
def steer(S, V, A):
    running = squared_norm(S) + beta * squared_norm(V)
    return problem(dynamics=covariance_rate(attention, S, A=A, V=V), running=running)
""",
        tmp_path,
    )
    assert all(s.check is None or s.check.passed for s in result.steps)  # type: ignore[attr-defined]
    assert [x.data for x in result.x] == ["S", "V"] and not result.u  # type: ignore[attr-defined]


BAD = {
    "a fixed end": (
        BOTH.replace("cost(x, v, c, goal))", 'cost(x, v, c, goal), end="fixed")'),
        "the first value of a constant control is free",
    ),
    "a bound": (
        BOTH.replace("cost(x, v, c, goal))", "cost(x, v, c, goal), bounds=box(c, -1, 1))"),
        "a bound on a control that is constant in time",
    ),
    "a norm": (
        BOTH.replace("cost(x, v, c, goal))", "cost(x, v, c, goal) + l1_norm(c))"),
        "l1_norm of a control that is constant in time",
    ),
    "beside a sparse control": (
        BOTH.replace("cost(x, v, c, goal))", "cost(x, v * 0, c, goal) + l1_norm(v), "
                     "bounds=l1_ball(v, radius=1))"),
        "two-phase solver",
    ),
    "a constant state": (
        BOTH.replace('"x[d]"', '"x[d] constant"'), "controls alone may be constant"
    ),
    "that moves nothing": (
        BOTH.replace("+ c + tanh(x) * c", ""), "c does not occur in the dynamics"
    ),
    "that costs nothing": (
        BOTH.replace("cost(x, v, c, goal)", "cost(x, v, 0 * v, goal)"), "depend on the control c"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refusals(name: str, tmp_path: Path) -> None:
    text, words = BAD[name]
    with pytest.raises(DefinitionError) as caught:
        _built(text, tmp_path)
    assert re.search(words, caught.value.message), caught.value.message

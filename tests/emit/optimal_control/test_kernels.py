"""Kernels of problems written here: other layers, costs and bounds, through the whole pipeline."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest

from derive.emit.optimal_control.module import render
from derive.methods.optimal_control.derivation import derive
from derive.methods.optimal_control.instances import point
from derive.methods.optimal_control.result import OptimalControl
from derive.registry import entries, load
from derive.verify.optimal_control import ladder
from derive.verify.optimal_control.points import arguments


def slow(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow)


HEAD = """from derive.notation import *

N, d, h = dims("N: samples", "d: width", "h: hidden width")
alpha, beta = params("alpha: positive", "beta: in (1/2, 2)")
lam, M, rho = params("lam: in (1/5, 4/5)", "M: in (1/2, 2)", "rho: in (1/10, 1/2)")


def fit(x, goal):
    return alpha / (2 * N) * squared_norm(x - goal)


"""

PROBLEMS = {
    "outside": '''
@optimal_control(state="x[N, d]", control="W[d, d], b[d]", data="goal[N, d]")
def outside(x, W, b, goal):
    effort = beta / 2 * (squared_norm(W) + squared_norm(b))
    return problem(dynamics=sigmoid(x @ W.T + b), running=fit(x, goal) + effort)
''',
    "bottleneck": '''
@optimal_control(state="x[N, d]", control="W_1[d, h], b_1[d]", data="W_2[h, d], b_2[h], goal[N, d]")
def bottleneck(x, W_1, b_1, W_2, b_2, goal):
    effort = beta / 2 * (squared_norm(W_1) + squared_norm(b_1))
    rate = relu(x @ W_2.T + b_2) @ W_1.T + b_1
    return problem(dynamics=rate, running=fit(x, goal) + effort, terminal=fit(x, goal))
''',
    "economic, discounted": '''
@optimal_control(state="x[d]", control="u[d]")
def economic(x, u):
    running = log(2 + squared_norm(x)) - alpha * sin(x).sum() + beta / 2 * squared_norm(u)
    return problem(dynamics=tanh(x) * x + u, running=running, discount=rho)
''',
    "coupled controls": '''
@optimal_control(state="x[d]", control="u[d], v[d]")
def coupled(x, u, v):
    effort = squared_norm(u + v) + squared_norm(v) + squared_norm(u)
    return problem(dynamics=u - tanh(x) * v, running=squared_norm(x) + beta / 2 * effort)
''',
    "elastic net in a box": '''
@optimal_control(state="x[N, d]", control="W[d, d], b[d]", data="goal[N, d]")
def elastic(x, W, b, goal):
    effort = lam * l1_norm(W, b) + beta / 2 * (squared_norm(W) + squared_norm(b))
    return problem(
        dynamics=tanh(x) @ W.T + b,
        running=fit(x, goal) + effort,
        bounds=(box(W, -M, M), box(b, -M, 2 * M)),
    )
''',
    "norm in a ball, fixed end": '''
@optimal_control(state="x[N, d]", control="W[d, d]", data="goal[N, d]")
def short(x, W, goal):
    return problem(
        dynamics=x @ W.T,
        running=fit(x, goal) + lam * l2_norm(W),
        bounds=l2_ball(W, radius=M),
        end="fixed",
    )
''',
    "two states, heads of attention": '''
@optimal_control(
    state="x[N, d], y[N, d]", control="V[d, d], U[d, d]", data="A[d, d], B[d, d], goal[N, d]"
)
def heads(x, y, V, U, A, B, goal):
    one = softmax(x @ A.T @ y.T) @ x @ V.T
    two = softmax(y @ B.T @ x.T) @ y @ U.T
    effort = beta / 2 * (squared_norm(V) + squared_norm(U))
    return problem(dynamics=(one + two, two - y), running=fit(x + y, goal) + effort)
''',
    "sphere and terminal cost": '''
@optimal_control(state="x[N, d] on sphere", control="V[d, d]", data="A[d, d], goal[N, d]")
def round(x, V, A, goal):
    rate = project(x, softmax(x @ A.T @ x.T) @ x @ V.T)
    running = fit(x, goal) + beta / 2 * squared_norm(V)
    return problem(dynamics=rate, running=running, terminal=inner(x, goal))
''',
    "mean and covariance": '''
@optimal_control(
    state="m[d], S[d, d] symmetric", control="V[d, d]",
    data="A[d, d], m_goal[d], S_goal[d, d] symmetric",
)
def moments(m, S, V, A, m_goal, S_goal):
    drift = V @ S @ A @ S
    tracking = squared_norm(m - m_goal) / 2 + alpha / 2 * squared_norm(S - S_goal)
    return problem(
        dynamics=(V @ (m + S @ A @ m), drift + drift.T),
        running=tracking + beta / 2 * squared_norm(V),
    )
''',
}  # fmt: skip


@pytest.fixture(autouse=True)
def _double():  # type: ignore[no-untyped-def]
    with jax.enable_x64(True):
        yield


def _built(name: str, folder: Path) -> tuple[OptimalControl, ModuleType]:
    file = folder / "problem.py"
    file.write_text(HEAD + PROBLEMS[name], encoding="utf-8")
    (entry,) = entries(file)
    result = derive(load(entry))
    text = render(result, "problem.py", "problem.py")
    assert text == render(result, "problem.py", "problem.py")
    target = folder / f"built_{result.model.name}.py"
    target.write_text(text, encoding="utf-8")
    return result, ladder.load_module(target)


QUICK = ("economic, discounted", "norm in a ball, fixed end")
LADDER = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in PROBLEMS]


@pytest.mark.parametrize("name", LADDER)
def test_problems_pass_the_ladder(name: str, tmp_path: Path) -> None:
    result, module = _built(name, tmp_path)
    points = [point(result.model, 30)]
    rungs = [
        ladder.definition(result),
        ladder.steps(result),
        ladder.independent(result, module, points),
        ladder.invariants(result, module, points),
        ladder.variation(result, module, (16, 32)),
    ]
    for rung in rungs:
        assert rung.passed, (rung.name, rung.figures)


@pytest.mark.parametrize(
    "name", [slow("bottleneck"), slow("elastic net in a box"), "norm in a ball, fixed end"]
)
def test_kernels_equal_the_equations(name: str, tmp_path: Path) -> None:
    result, module = _built(name, tmp_path)
    rung = ladder.kernel(result, module, [point(result.model, k) for k in (30, 31)])
    assert rung.passed, rung.figures


@pytest.mark.parametrize(
    "name", [slow("outside"), "coupled controls", "bottleneck", "mean and covariance"]
)
def test_the_law_makes_H_stationary(name: str, tmp_path: Path) -> None:
    """Closed laws, linear solves and Newton's method alike."""
    result, module = _built(name, tmp_path)
    for seed in range(3):
        at = point(result.model, seed)
        quiet = {leaf.data: at.arrays[leaf.data] / 10 for leaf in result.p}
        at = type(at)({**at.arrays, **quiet}, at.dims, at.params, at.numbers)
        args = arguments(module, result, at)
        x, p, params = args["x"], args["p"], args["params"]
        law = module.control(x, p, params)
        for part in module.stationarity(x, p, law, params):
            np.testing.assert_allclose(np.asarray(part), 0, atol=1e-10)
        stacked = jax.tree.map(lambda a: np.stack([a, a]), x)
        both = module.control(stacked, p, params)
        for a, b in zip(both, law, strict=True):
            np.testing.assert_allclose(np.asarray(a)[1], np.asarray(b), atol=1e-12)


def test_mutants_of_a_problem_with_two_states_are_caught(tmp_path: Path) -> None:
    result, _ = _built("mean and covariance", tmp_path)
    rung = ladder.mutants(result, 150)
    assert rung.passed, rung.figures
    assert rung.figures["killed"] > 120

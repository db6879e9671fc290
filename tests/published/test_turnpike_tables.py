"""Generated kernels of the shipped problems, end to end, against tables of rates, costs and times.

Predicted rates come from hand-worked formulas (turnpike_theorems.py); costs were found by direct
transcription (trapezoid, IPOPT) and by collocation elsewhere.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import turnpike_theorems as theorem
from scipy.integrate import quad
from scipy.linalg import solve_continuous_are
from scipy.optimize import brentq

from derive.emit.optimal_control.module import render
from derive.methods.optimal_control.derivation import derive
from derive.registry import entries, load

A0 = np.array([[1.0, 0.3], [-0.2, 0.8]])
GOAL = np.array([[1.0, 0.4], [0.4, 0.7]])
ZERO = np.zeros((2, 2))


def _module(name: str):  # type: ignore[no-untyped-def]
    return importlib.import_module(f"derive.generated.{name}")


@pytest.mark.slow
def test_covariance_by_its_values() -> None:
    mod = _module("gaussian_tracking")
    params = mod.Params(1.0, 0.5, A0, GOAL, ZERO)
    found = mod.turnpike(params, seed=0, starts=4)
    np.testing.assert_allclose(found.rates, theorem.covariance_rates(GOAL, A0, 1.0, 0.5), rtol=1e-9)
    assert abs(found.rate - 0.43966290) < 1e-8
    assert found.verdict == "entry_only"
    path = mod.solve(mod.State(np.eye(2) / 2), params, T=40.0)
    assert abs(path.cost - 0.21978043) < 2e-8
    assert path.residuals.defect < 1e-7


@pytest.mark.slow
def test_neural_ode() -> None:
    mod = _module("neural_ode_tracking")
    goal = np.array([[1.0, 0.2], [-0.6, 0.9]])
    params = mod.Params(2.0, 0.3, goal, ZERO)
    path = mod.solve(mod.State(np.array([[-0.5, 1.0], [0.4, -0.8]])), params, T=30.0)
    assert abs(path.cost - 2.2731068) < 1e-7
    assert np.abs(path.x.x[-1] - goal).max() < 1e-9


@pytest.mark.slow
def test_attention_on_the_circle() -> None:
    mod = _module("sphere_attention_tracking")
    angle, shift = np.array([0.3, 2.2, 4.1]), np.array([0.5, -0.4, 0.3])
    goal, start = (np.stack([np.cos(a), np.sin(a)], 1) for a in (angle, angle + shift))
    params = mod.Params(1.0, 0.1, np.eye(2), goal, ZERO)
    path = mod.solve(mod.State(start), params, T=60.0)
    assert abs(path.cost - 0.0820844) < 1e-7
    np.testing.assert_allclose((path.x.x**2).sum(-1), 1.0, atol=1e-8)


@pytest.mark.slow
def test_sparse_control_stops() -> None:
    """T* to 1e-3 of the table, |u|_1 = M before it, (T - T*) |F^T grad E|_inf = lam."""
    mod = _module("sparse_neural_ode")
    goal = np.array([[0.2, 1.4]])
    params = mod.Params(0.05, 2.0, goal)
    path = mod.solve(mod.State(np.array([[0.8, 0.3]])), params, T=8.0)
    stop = float(np.asarray(path.stop))
    assert abs(stop - 0.7607) < 1e-3
    last = path.x.x[-1]
    gradient = last - goal  # one sample
    F_gradient = np.concatenate([(gradient.T @ np.maximum(last, 0)).ravel(), gradient.ravel()])
    assert abs((8.0 - stop) * np.abs(F_gradient).max() - 0.05) < 1e-4


J = np.array([[0.0, 1.0], [-1.0, 0.0]])


def test_mean_tracking_rests_where_the_table_says() -> None:
    mod = _module("mean_tracking")
    a1 = mod.Params(
        G=2 * J, B=np.eye(2)[:, :1], goal=np.array([1.0, 0.5]), Q_cost=np.eye(2),
        R_cost=np.array([[0.25]]), Q_end=ZERO, m_end=np.zeros(2),
    )  # fmt: skip
    found = mod.turnpike(a1, seed=0, starts=2)
    assert found.verdict == "exponential"
    np.testing.assert_allclose(found.x.m, [0.0, 0.25], atol=1e-9)
    np.testing.assert_allclose(found.p.m, [0.125, -0.5], atol=1e-9)
    assert abs(found.rate - 1.35219345) < 1e-8
    G = np.eye(2) + np.array([[0.5, 0.2], [0.2, 0.3]]) @ np.array([[1.0, 0.5], [0.0, 0.8]])
    a2 = a1._replace(G=G, B=np.eye(2), goal=np.array([1.0, -1.0]), R_cost=np.diag([0.5, 2.0]))
    found = mod.turnpike(a2, seed=0, starts=2)
    np.testing.assert_allclose(found.x.m, [0.575023, -0.317637], atol=1e-6)
    assert abs(found.rate - 1.43786583) < 1e-8


FROZEN = """from derive.notation import *
from derive.theory.bilinear_softmax_closure import bilinear_softmax_closure as attention

d, k = dims("d: width", "k: number of actuators")


@optimal_control(
    state="m[d]", control="u[k]",
    data="V[d, d], A[d, d], S[d, d] symmetric, B[d, k], goal[d], R_cost[k, k] symmetric",
)
def frozen(m, u, V, A, S, B, goal, R_cost):
    rate, _ = moment_rates(attention, m, S, A=A, V=V)
    running = squared_norm(m - goal) / 2 + inner(u, R_cost @ u) / 2
    return problem(dynamics=rate + B @ u, running=running)
"""


def test_mean_of_a_softmax_attention_with_a_frozen_covariance(tmp_path: Path) -> None:
    """The linear systems of mean_tracking, G = V (I + S A), from the closure's own mean ODE."""
    file, target = tmp_path / "frozen.py", tmp_path / "frozen_kernel.py"
    file.write_text(FROZEN, encoding="utf-8")
    target.write_text(render(derive(load(entries(file)[0])), "p", "p"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("frozen_kernel", target)
    assert spec is not None and spec.loader is not None
    mod = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mod)
    one = np.eye(2)
    a1 = mod.Params(
        V=J, A=one, S=one, B=one[:, :1], goal=np.array([1.0, 0.5]), R_cost=np.array([[0.25]])
    )
    a2 = mod.Params(
        V=one, A=np.array([[1.0, 0.5], [0.0, 0.8]]), S=np.array([[0.5, 0.2], [0.2, 0.3]]), B=one,
        goal=np.array([1.0, -1.0]), R_cost=np.diag([0.5, 2.0]),
    )  # fmt: skip
    for params, x, p, rate in (
        (a1, (0.0, 0.25), (0.125, -0.5), 1.35219345),
        (a2, (0.575023, -0.317637), (0.366152, -0.621258), 1.43786583),
    ):
        found = mod.turnpike(params, seed=0, starts=2)
        np.testing.assert_allclose(found.x.m, x, atol=1e-6)
        np.testing.assert_allclose(found.p.m, p, atol=1e-6)
        assert abs(found.rate - rate) < 1e-8


@pytest.mark.slow
def test_value_of_a_long_horizon_has_its_closed_limit() -> None:
    """J - T V_s = pb.y + y.E+ y / 2 + pb.E-^-1 pb / 2, with SciPy's Riccati solutions."""
    mod = _module("mean_tracking")
    G = np.eye(2) + np.array([[0.5, 0.2], [0.2, 0.3]]) @ np.array([[1.0, 0.5], [0.0, 0.8]])
    B, Q, R = np.eye(2), np.eye(2), np.diag([0.5, 2.0])
    goal, start = np.array([1.0, -1.0]), np.array([-1.0, 2.0])
    params = mod.Params(G, B, goal, Q, R, ZERO, np.zeros(2))
    found = mod.turnpike(params, seed=0, starts=2)
    away, p = start - found.x.m, found.p.m
    up, down = solve_continuous_are(G, B, Q, R), -solve_continuous_are(-G, B, Q, R)
    limit = p @ away + away @ up @ away / 2 + p @ np.linalg.solve(down, p) / 2
    path = mod.solve(mod.State(start), params, T=40.0, near=found, tolerance=1e-11)
    assert abs(path.cost - 40.0 * found.cost - limit) < 1e-9


@pytest.mark.slow  # quick: the rest of the tables
def test_rate_of_the_field_converges_in_the_number_of_nodes() -> None:
    """To sqrt(alpha / beta (|tanh(goal)|^2 + 1)), the square integrated by SciPy."""
    mod = _module("space_time_network")
    whole = quad(lambda z: np.tanh(1 + np.sin(2 * z)) ** 2, 0, 1, epsabs=1e-13)[0]
    gaps = []
    for n in (1, 2, 4):
        z, omega = np.polynomial.legendre.leggauss(n)
        z, omega = (z + 1) / 2, omega / 2
        params = mod.Params(alpha=1.0, beta=0.5, omega=omega, goal=1 + np.sin(2 * z))
        found = mod.turnpike(params, seed=0, starts=2)
        assert found.verdict == "entry_only"
        gaps.append(abs(found.rates.max() - theorem.field_rate(whole, 1.0, 0.5)))
    assert gaps[0] > 10 * gaps[1] > 100 * gaps[2] and gaps[2] < 1e-5


@pytest.mark.slow
def test_training_by_the_last_state_alone_spreads_the_control_evenly() -> None:
    """One sample in one dimension: the path is a geodesic of dx^2 / (1 + tanh(x)^2)."""
    mod = _module("large_time_resnet")
    lam, goal, start = 0.1, 1.5, -1.0
    params = mod.Params(lam=lam, goal=np.array([[goal]]))
    assert mod.turnpike(params, seed=0, starts=2).verdict == "none"

    def length(x: float) -> float:
        return float(quad(lambda s: 1 / np.sqrt(1 + np.tanh(s) ** 2), start, x, epsabs=1e-13)[0])

    scaled = []
    for T in (1.0, 4.0, 16.0, 64.0):
        # lam length(x)^2 / T + (x - goal)^2 / 2 is least at the last state
        x = brentq(
            lambda x, T=T: 2 * lam * length(x) / T / np.sqrt(1 + np.tanh(x) ** 2) + x - goal,
            start, goal, xtol=1e-14,
        )  # fmt: skip
        path = mod.solve(mod.State(np.array([[start]])), params, T=T)
        size = np.sqrt(path.u.W[:, 0, 0] ** 2 + path.u.b[:, 0] ** 2)
        assert np.ptp(size) < 1e-7
        assert abs(size[0] - length(x) / T) < 1e-7
        assert abs(path.cost - (lam * length(x) ** 2 / T + (x - goal) ** 2 / 2)) < 1e-8
        scaled.append(T * T * size[0] ** 2)  # T times the energy
    assert np.all(np.diff(scaled) > 0)
    assert abs(scaled[-1] / length(goal) ** 2 - 1) < 1e-2

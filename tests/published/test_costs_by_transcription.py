"""Costs of shipped problems against direct collocation with CasADi and IPOPT, refined in the mesh.

The dynamics and the costs are typed by hand here and discretised first; no optimality system is
written down.  Controls are free at every collocation point (Legendre, three a step), so that the
cost converges fast: two meshes must agree before they are believed.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from derive.emit.optimal_control.module import render
from derive.methods.optimal_control.derivation import derive
from derive.registry import entries, load

ca = pytest.importorskip("casadi")
pytestmark = pytest.mark.slow

GOAL = np.array([[1.0, 0.2], [-0.6, 0.9]])
A0 = np.array([[1.0, 0.3], [-0.2, 0.8]])
SD = np.array([[1.0, 0.4], [0.4, 0.7]])


def transcribed(
    rate: Callable, running: Callable, x0: np.ndarray, guess: Any, m: int, T: float, N: int
) -> float:
    """Least cost of x' = rate(x, u) on N steps that are finer at the ends."""
    n, degree = len(x0), 3
    tau = np.append(0, ca.collocation_points(degree, "legendre"))
    basis = []
    for j in range(degree + 1):
        others = np.delete(tau, j)
        basis.append(np.poly1d(others, r=True) / np.prod(tau[j] - others))
    s = np.linspace(0, 1, N + 1)
    nodes = T * (s - 0.9 * np.sin(2 * np.pi * s) / (2 * np.pi))
    x, inner = ca.SX.sym("x", n, N + 1), ca.SX.sym("inner", n, N * degree)
    u = ca.SX.sym("u", m, N * degree)
    rows, cost = [x[:, 0] - x0], 0
    for i, h in enumerate(np.diff(nodes)):
        Z = [x[:, i], *(inner[:, degree * i + j] for j in range(degree))]
        for j in range(degree):
            z, v = Z[j + 1], u[:, degree * i + j]
            slope = sum(np.polyder(b)(tau[j + 1]) * z_ for b, z_ in zip(basis, Z, strict=True))
            rows.append(slope - h * rate(z, v))
            cost += h * np.polyint(basis[j + 1])(1.0) * running(z, v)
        rows.append(sum(b(1.0) * z for b, z in zip(basis, Z, strict=True)) - x[:, i + 1])
    w = ca.vertcat(ca.vec(x), ca.vec(inner), ca.vec(u))
    options = {"print_time": False, "ipopt.print_level": 0, "ipopt.sb": "yes", "ipopt.tol": 1e-10}
    solver = ca.nlpsol("s", "ipopt", {"x": w, "f": cost, "g": ca.vertcat(*rows)}, options)
    first = np.concatenate([np.tile(guess, N + 1 + N * degree), np.zeros(m * N * degree)])
    found = solver(x0=first, lbg=0, ubg=0)
    return float(found["f"])


def neural() -> tuple[Any, ...]:
    def rate(z: Any, v: Any) -> Any:
        W, s = ca.reshape(v[:4], 2, 2), ca.tanh(ca.reshape(z, 2, 2))  # columns are samples
        return ca.vec(W @ s + ca.horzcat(v[4:], v[4:]))

    def running(z: Any, v: Any) -> Any:
        return 2.0 / 4 * ca.sumsqr(z - GOAL.ravel()) + 0.3 / 2 * ca.sumsqr(v)

    x0 = np.array([[-0.5, 1.0], [0.4, -0.8]])
    given = (2.0, 0.3, GOAL, np.zeros((2, 2)))
    return "neural_ode_tracking", given, x0, rate, running, x0.ravel(), GOAL.ravel(), 6, 15.0


def gaussian() -> tuple[Any, ...]:
    def covariance(z: Any) -> Any:
        return ca.vertcat(ca.horzcat(z[0], z[1]), ca.horzcat(z[1], z[2]))

    def rate(z: Any, v: Any) -> Any:
        S, V = covariance(z), ca.reshape(v, 2, 2)
        Y = V @ S @ ca.DM(A0) @ S
        return ca.vertcat(2 * Y[0, 0], Y[0, 1] + Y[1, 0], 2 * Y[1, 1])

    def running(z: Any, v: Any) -> Any:
        return ca.sumsqr(covariance(z) - ca.DM(SD)) / 2 + 0.5 / 2 * ca.sumsqr(v)

    given = (1.0, 0.5, A0, SD, np.zeros((2, 2)))
    first = np.array([0.5, 0.0, 0.5])
    return (
        "gaussian_tracking",
        given,
        np.eye(2) / 2,
        rate,
        running,
        first,
        SD[[0, 0, 1], [0, 1, 1]],
        4,
        20.0,
    )


def referenced(name: str, x0: np.ndarray, T: float) -> tuple[Any, ...]:
    """The covariance steered by V around a reference, or by A."""
    by_value = name == "gaussian_tracking"
    ref = np.array([[0.6, 0.2], [-0.1, 0.4]]) if by_value else np.zeros((2, 2))
    other = A0 if by_value else np.array([[1.0, 0.5], [-0.3, 0.8]])

    def rate(z: Any, v: Any) -> Any:
        S = ca.vertcat(ca.horzcat(z[0], z[1]), ca.horzcat(z[1], z[2]))
        own = ca.reshape(v, 2, 2).T  # entries by rows
        Y = own @ S @ ca.DM(other) @ S if by_value else ca.DM(other) @ S @ own @ S
        return ca.vertcat(2 * Y[0, 0], Y[0, 1] + Y[1, 0], 2 * Y[1, 1])

    def running(z: Any, v: Any) -> Any:
        gap = (z[0] - SD[0, 0]) ** 2 + 2 * (z[1] - SD[0, 1]) ** 2 + (z[2] - SD[1, 1]) ** 2
        return gap / 2 + 0.5 / 2 * ca.sumsqr(v - ref.ravel())

    given = (1.0, 0.5, other, SD, ref)
    first = np.array([0.5, 0.0, 0.5])
    return name, given, x0, rate, running, first, SD[[0, 0, 1], [0, 1, 1]], 4, T


def by_values() -> tuple[Any, ...]:
    return referenced("gaussian_tracking", np.eye(2) / 2, 30.0)


def by_queries() -> tuple[Any, ...]:
    return referenced("gaussian_query_tracking", np.eye(2) / 2, 20.0)


def circle() -> tuple[Any, ...]:
    """Three tokens on the circle, in their angles."""
    angle, shift = np.array([0.3, 2.2, 4.1]), np.array([0.5, -0.4, 0.3])

    def rate(z: Any, v: Any) -> Any:
        x = ca.horzcat(ca.cos(z), ca.sin(z))
        weight = ca.exp(x @ x.T)
        mean = weight @ x / ca.sum2(weight)
        pulled = mean @ ca.reshape(v, 2, 2).T
        return -ca.sin(z) * pulled[:, 0] + ca.cos(z) * pulled[:, 1]

    def running(z: Any, v: Any) -> Any:
        return ca.sum1(1 - ca.cos(z - angle)) / 3 + 0.1 / 2 * ca.sumsqr(v)

    goal, start = (np.stack([np.cos(a), np.sin(a)], 1) for a in (angle, angle + shift))
    given = (1.0, 0.1, np.eye(2), goal, np.zeros((2, 2)))
    first = angle + shift
    return "sphere_attention_tracking", given, start, rate, running, first, angle, 4, 30.0


BIAS = """from derive.notation import *

d = dims("d: width")


@optimal_control(state="x[d]", control="b[d]", data="W[d, d], goal[d]")
def bias_tracking(x, b, W, goal):
    running = squared_norm(x - goal) / 2 + squared_norm(b) / 4
    return problem(dynamics=W @ tanh(x) + b, running=running)
"""


def test_cost_of_a_network_steered_by_its_bias_alone(tmp_path: Path) -> None:
    """A problem with a static optimum away from the goal, written here, derived and emitted."""
    W, goal = np.array([[0.8, -1.2], [0.7, 0.3]]), np.array([1.2, -0.7])
    x0, T = np.array([-1.0, 1.0]), 30.0
    coarse, fine = (
        transcribed(
            lambda z, v: ca.DM(W) @ ca.tanh(z) + v,
            lambda z, v: ca.sumsqr(z - goal) / 2 + ca.sumsqr(v) / 4,
            x0, goal, 2, T, N,
        )
        for N in (60, 120)
    )  # fmt: skip
    assert abs(coarse - fine) < 1e-7
    file, target = tmp_path / "bias_tracking.py", tmp_path / "bias_kernel.py"
    file.write_text(BIAS, encoding="utf-8")
    target.write_text(render(derive(load(entries(file)[0])), "p", "p"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("bias_kernel", target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    params = module.Params(W=W, goal=goal)
    found = module.turnpike(params, seed=0, starts=4)
    np.testing.assert_allclose(found.x.x, [0.97357619, -0.25646318], atol=1e-7)
    np.testing.assert_allclose(found.p.x, [0.45069932, 0.22494739], atol=1e-7)
    np.testing.assert_allclose(abs(found.spectrum.imag), 0.66835, atol=1e-5)
    path = module.solve(module.State(x0), params, T=T, near=found)
    assert abs(path.cost - fine) < 1e-6
    assert path.residuals.error < 1e-8


@pytest.mark.parametrize("case", [neural, gaussian, by_values, by_queries, circle])
def test_costs_agree_with_direct_collocation(case: Callable) -> None:
    name, given, start, rate, running, x0, guess, m, T = case()
    coarse, fine = (transcribed(rate, running, x0, guess, m, T, N) for N in (60, 120))
    assert abs(coarse - fine) < 1e-6
    module = importlib.import_module(f"derive.generated.{name}")
    path = module.solve(module.State(start), module.Params(*given), T=T)
    assert abs(path.cost - fine) < 1e-6
    assert path.residuals.error < 1e-8

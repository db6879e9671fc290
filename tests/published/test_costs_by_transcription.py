"""Costs of shipped problems against direct collocation with CasADi and IPOPT, refined in the mesh.

The dynamics and the costs are typed by hand here and discretised first; no optimality system is
written down.  Controls are free at every collocation point (Legendre, three a step), so that the
cost converges fast: two meshes must agree before they are believed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

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


@pytest.mark.parametrize("case", [neural, gaussian])
def test_costs_agree_with_direct_collocation(case: Callable) -> None:
    name, given, start, rate, running, x0, guess, m, T = case()
    coarse, fine = (transcribed(rate, running, x0, guess, m, T, N) for N in (60, 120))
    assert abs(coarse - fine) < 1e-6
    module = importlib.import_module(f"derive.generated.{name}")
    path = module.solve(module.State(start), module.Params(*given), T=T)
    assert abs(path.cost - fine) < 1e-6
    assert path.residuals.error < 1e-8

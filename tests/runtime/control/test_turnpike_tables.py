"""The runtime of optimal control against the tables: static optima, rates, verdicts, costs.

The problems are written by hand (`control_models`), so that these tests judge the runtime alone.
"""

from __future__ import annotations

import control_models as models
import decay_of_modes
import numpy as np
import pytest
import turnpike_tables as tables

from derive.runtime.common.precision import precision
from derive.runtime.control import entry as optimal_control
from derive.runtime.control.coordinates import flatten
from derive.runtime.control.turnpike import stabilising

pytestmark = pytest.mark.slow  # every horizon and mesh compiles anew

J = np.array([[0.0, 1.0], [-1.0, 0.0]])
SD = np.array([[1.0, 0.4], [0.4, 0.7]])
A0 = np.array([[1.0, 0.3], [-0.2, 0.8]])
ZERO = np.zeros((2, 2))


def a1() -> models.Linear:
    B, goal = np.array([[1.0], [0.0]]), np.array([1.0, 0.5])
    return models.Linear(2 * J, B, goal, np.eye(2), np.array([[0.25]]), ZERO, np.zeros(2))


def a2() -> models.Linear:
    G = np.eye(2) + np.array([[0.5, 0.2], [0.2, 0.3]]) @ np.array([[1.0, 0.5], [0.0, 0.8]])
    R = np.diag([0.5, 2.0])
    return models.Linear(G, np.eye(2), np.array([1.0, -1.0]), np.eye(2), R, ZERO, np.zeros(2))


def b1() -> models.Net:
    return models.Net(2.0, 0.3, np.array([[1.0, 0.2], [-0.6, 0.9]]), ZERO)


B1_START = np.array([[-0.5, 1.0], [0.4, -0.8]])


SHARP = {"tolerance": 1e-12}  # slopes are read where distances are down to 1e-8


def circle(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def small(residuals, tolerance: float = 1e-7) -> bool:
    parts = (residuals.hamiltonian, residuals.stationarity, residuals.boundary)
    return residuals.defect <= 1e-8 and all(r < tolerance for r in parts)


def measured(model, params, found, solution, sizes) -> float:
    with precision("float64"):
        amplitude = decay_of_modes.mode_amplitude(found, solution, flatten(model, sizes))
    return decay_of_modes.slope(solution.times, amplitude)


def test_linear_quadratic_statics_and_rates():
    found = optimal_control.turnpike(models.linear(), a1())
    assert found.verdict == "exponential"
    assert np.allclose(found.x.x, tables.A1_STATIC[0], atol=1e-9)
    assert np.allclose(found.p.x, tables.A1_STATIC[1], atol=1e-9)
    assert np.allclose(found.u.u, tables.A1_STATIC[2], atol=1e-9)
    assert found.rate == pytest.approx(tables.A1_RATE, abs=1e-7)
    found = optimal_control.turnpike(models.linear(), a2())
    assert np.allclose(found.x.x, tables.A2_STATIC[0], atol=1e-6)
    assert np.allclose(found.p.x, tables.A2_STATIC[1], atol=1e-6)
    assert np.allclose(found.rates, tables.A2_RATES, atol=1e-5)
    g, q, r, goal = 0.7, 2.0, 0.5, 1.3
    params = models.Linear(*(np.atleast_2d(v) for v in (g, 1.0)), np.array([goal]),
                           *(np.atleast_2d(v) for v in (q, r, 0.0)), np.zeros(1))  # fmt: skip
    found = optimal_control.turnpike(models.linear(), params)
    x, p, rate = tables.scalar_tracking(g, q, r, goal)
    got = (found.x.x[0], found.p.x[0], found.rate)
    assert np.allclose(got, (x, p, rate), atol=1e-9)


def test_value_function_on_long_horizons():
    """J - T V_s tends to its closed form: to 1e-9, with T = 200 in between."""
    model, params = models.linear(), a2()
    found = optimal_control.turnpike(model, params)
    x0 = np.array([-1.0, 2.0])
    antistable = -stabilising(-_flipped(found.matrix), 0.0)
    limit = tables.long_horizon_limit(found.p.x, x0 - found.x.x, found.riccati, antistable)
    for T in (20.0, 200.0):
        solution = optimal_control.solve(model, x0, params, T=T, near=found, tolerance=1e-11)
        assert solution.cost - T * found.cost == pytest.approx(limit, abs=1e-9)
        assert solution.residuals.boundary < 1e-10


def test_linear_quadratic_paths():
    """Rates measured on paths; the eigenvalues of a2 are real."""
    model, start = models.linear(), np.array([-1.0, 2.0])
    for params, T, rate in ((a1(), 30.0, tables.A1_RATE), (a2(), 20.0, tables.A2_RATES[0])):
        found = optimal_control.turnpike(model, params)
        solution = optimal_control.solve(
            model, start, params, T=T, near=found, saves=600, tolerance=1e-12
        )
        assert measured(model, params, found, solution, {"d": 2, "k": params.B.shape[1]}) == (
            pytest.approx(rate, abs=1e-4)
        )
    assert abs(found.spectrum.imag).max() < 1e-9


def test_oscillating_modes():
    found = optimal_control.turnpike(models.linear(), a1())
    assert np.allclose(abs(found.spectrum.imag), 1.95664, atol=1e-5)


def _flipped(M: np.ndarray) -> np.ndarray:
    """Time reversed: the stable subspace of -M is the unstable one of M, with the sign of E."""
    k = len(M) // 2
    D = np.diag(np.r_[np.ones(k), -np.ones(k)])
    return D @ M @ D


def test_neural_ode():
    model, params = models.neural(), b1()
    found = optimal_control.turnpike(model, params)
    assert found.verdict == "entry_only"
    assert np.allclose(found.rates, tables.B1_RATES, atol=1e-6)
    S = np.tanh(params.goal)
    F = np.kron(np.eye(2), np.concatenate([S, np.ones((2, 1))], 1))
    assert np.allclose(found.rates, tables.driftless_rates(F, 1.0, 0.3), atol=1e-9)
    solution = optimal_control.solve(
        model, B1_START, params, T=30.0, near=found, saves=600, **SHARP
    )
    assert small(solution.residuals)
    assert solution.cost == pytest.approx(tables.B1_COST, abs=1e-7)
    assert np.allclose(solution.x.x[-1], params.goal, atol=1e-9)
    rate = measured(model, params, found, solution, {"N": 2, "d": 2})
    assert rate == pytest.approx(found.rate, abs=1e-4)


def test_neural_ode_without_control_law():
    """The law found by Newton from H_u gives the same solution as the one in closed form."""
    found = optimal_control.turnpike(models.neural(False), b1())
    solution = optimal_control.solve(
        models.neural(False), B1_START, b1(), T=30.0, near=found, tolerance=1e-7
    )
    assert solution.cost == pytest.approx(tables.B1_COST, abs=1e-7)
    assert solution.residuals.stationarity < 1e-10


def test_bias_alone():
    params = models.Bias(1.0, 0.5, np.array([1.2, -0.7]), np.array([[0.8, -1.2], [0.7, 0.3]]))
    found = optimal_control.turnpike(models.bias_only(), params)
    assert np.allclose(found.x.x, tables.B2_STATIC[0], atol=1e-7)
    assert np.allclose(found.p.x, tables.B2_STATIC[1], atol=1e-7)
    assert found.rate == pytest.approx(tables.B2_RATE, abs=1e-7)
    assert found.verdict == "exponential"
    model, x0 = models.bias_only(), np.array([-1.0, 1.0])
    solution = optimal_control.solve(model, x0, params, T=30.0, near=found, saves=600, **SHARP)
    rate = measured(model, params, found, solution, {"d": 2})
    assert rate == pytest.approx(found.rate, abs=1e-4)


@pytest.mark.parametrize("space", ["sphere", "naive"])
def test_attention_on_circle_and_sphere(space):
    """Two ambient extensions of one intrinsic problem: the same rates, costs and optima."""
    model, angles = models.attention(space), np.array([0.3, 2.2, 4.1])
    params = models.Attention(1.0, 0.1, circle(angles), ZERO, np.eye(2))
    found = optimal_control.turnpike(model, params, starts=8)
    assert found.verdict == "entry_only"
    assert np.allclose(found.rates, tables.C1_RATES, atol=1e-6)
    x0 = circle(angles + np.array([0.5, -0.4, 0.3]))
    solution = optimal_control.solve(model, x0, params, T=60.0, near=found, saves=900, **SHARP)
    assert small(solution.residuals)
    assert solution.cost == pytest.approx(tables.C1_COST, abs=1e-7)
    rate = measured(model, params, found, solution, {"n": 3, "d": 2})
    assert rate == pytest.approx(found.rate, abs=1e-4)
    goal = np.random.default_rng(3).standard_normal((3, 3))
    goal /= np.linalg.norm(goal, axis=1, keepdims=True)
    params = models.Attention(1.0, 0.1, goal, np.diag([1, 0.6, 0.3]), np.eye(3))
    found = optimal_control.turnpike(model, params, starts=128)  # some are rare
    assert np.allclose(found.rates, tables.C3_RATES, atol=1e-6)
    assert found.cost == pytest.approx(tables.C3_COST, abs=1e-7)
    costs = [c[0] for c in found.candidates]
    assert costs[1] == pytest.approx(tables.C3_SECOND_COST, abs=1e-6)
    assert costs[2] > tables.C3_THIRD_COST - 1e-6  # none between
    if space == "sphere":
        x0 = np.array(found.x.x) + 0.3 * np.random.default_rng(1).standard_normal((3, 3))
        x0 /= np.linalg.norm(x0, axis=1, keepdims=True)
        # the slow mode stands alone after T nu of about 30 only: T = 200 at nu = .16
        solution = optimal_control.solve(
            model, x0, params, T=200.0, near=found, saves=1500, **SHARP
        )
        rate = measured(model, params, found, solution, {"n": 3, "d": 3})
        assert rate == pytest.approx(found.rate, abs=1e-6)


def test_gaussian_covariance():
    params = models.Gaussian(1.0, 0.5, SD, ZERO, A0)
    model, start = models.gaussian(), np.eye(2) / 2
    found = optimal_control.turnpike(model, params)
    assert np.allclose(found.rates, tables.D1_RATES, atol=1e-6)
    s = np.linalg.svd(SD @ A0 @ SD, compute_uv=False)
    assert found.rate == pytest.approx(2 * np.sqrt(2.0) * s[-1], abs=1e-9)
    solution = optimal_control.solve(model, start, params, T=40.0, near=found, saves=600, **SHARP)
    assert small(solution.residuals)
    assert solution.cost == pytest.approx(tables.D1_COST, abs=2e-8)
    rate = measured(model, params, found, solution, {"d": 2})
    assert rate == pytest.approx(found.rate, abs=1e-4)


def test_gaussian_covariance_with_reference():
    params = models.Gaussian(1.0, 0.5, SD, np.array([[0.6, 0.2], [-0.1, 0.4]]), A0)
    model = models.gaussian()
    found = optimal_control.turnpike(model, params)
    assert found.verdict == "exponential"
    assert found.rate == pytest.approx(tables.D2_RATE, abs=1e-7)
    assert found.cost == pytest.approx(tables.D2_STATIC_COST, abs=1e-6)
    assert np.allclose(found.x.S, tables.D2_STATE, atol=1e-6)
    assert np.allclose(found.u.V, tables.D2_CONTROL, atol=1e-5)
    start = np.eye(2) / 2
    solution = optimal_control.solve(model, start, params, T=90.0, near=found)
    assert small(solution.residuals)
    assert solution.cost == pytest.approx(tables.D2_COST, abs=1e-6)
    solution = optimal_control.solve(model, start, params, T=60.0, near=found, saves=1200, **SHARP)
    rate = measured(model, params, found, solution, {"d": 2})
    assert rate == pytest.approx(found.rate, abs=1e-4)


def test_gaussian_covariance_by_attention_matrix():
    params = models.Gaussian(1.0, 0.5, SD, ZERO, np.array([[1.0, 0.5], [-0.3, 0.8]]))
    model = models.gaussian("A")
    found = optimal_control.turnpike(model, params)
    assert found.rate == pytest.approx(tables.D3_RATE, abs=1e-7)
    start = np.eye(2) / 2
    solution = optimal_control.solve(model, start, params, T=60.0, near=found, saves=900, **SHARP)
    assert solution.cost == pytest.approx(tables.D3_COST, abs=1e-7)
    rate = measured(model, params, found, solution, {"d": 2})
    assert rate == pytest.approx(found.rate, abs=1e-4)


def test_more_states_than_controls_is_not_hyperbolic():
    goal = np.random.default_rng(0).standard_normal((4, 2))
    found = optimal_control.turnpike(models.neural(), models.Net(2.0, 0.3, goal, ZERO))
    assert found.verdict == "not_hyperbolic"
    assert "4 of them zero" in found.reasons[0]
    params = models.MeanGaussian(1.0, 0.5, np.array([1.0, 0.5]), SD, A0)
    guess = models.MS(params.m_goal, SD)
    found = optimal_control.turnpike(models.mean_gaussian(), params, x_guess=guess)
    assert found.verdict == "not_hyperbolic"
    assert any("not stabilisable" in reason for reason in found.reasons)

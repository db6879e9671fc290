"""Generated kernels of the shipped problems, end to end, against tables of rates, costs and times.

Predicted rates come from hand-worked formulas (turnpike_theorems.py); costs were found by direct
transcription (trapezoid, IPOPT) and by collocation elsewhere.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import turnpike_theorems as theorem

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

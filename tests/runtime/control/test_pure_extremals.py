"""`extremal` is pure: jit, vmap and grad go through it, and what does not settle is nan."""

from __future__ import annotations

import dataclasses

import control_models as models
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from derive.runtime.control import entry as control

KIND, WELL = models.double_well()
START, T = np.array([2.0]), 3.0
EASY = models.Linear(*(np.array(a) for a in (
    [[-1.0]], [[1.0]], [1.0], [[1.0]], [[1.0]], [[0.0]], [0.0])))  # fmt: skip


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def differences(f, at, h=1e-5):
    return (f(at + h) - f(at - h)) / (2 * h)


def test_a_fixed_mesh_gives_what_solve_gives():
    solved = control.solve(WELL, START, KIND(1.0, 0.2), T=T, tolerance=1e-10, saves=[0.0, T])
    found = jax.jit(lambda x0: control.extremal(WELL, x0, KIND(1.0, 0.2), T=T))(START)
    assert found.converged and found.residual < 1e-12 and found.defect < 1e-6
    assert found.x.x.dtype == jnp.float64 and found.x.x.shape == (65, 1)
    for mine, its in ((found.x.x, solved.x.x), (found.p.x, solved.p.x), (found.u.u, solved.u.u)):
        assert np.abs(mine[np.array([0, -1])] - its).max() < 1e-9
    assert abs(found.cost - solved.cost) < 1e-9


@pytest.mark.parametrize("fixed", [False, True])
def test_derivatives_by_start_parameters_and_horizon_are_differences(fixed):
    model = dataclasses.replace(WELL, fixed_end=fixed)
    end = {"x_end": np.array([0.5])} if fixed else {}

    def value(x0, tilt, horizon):
        found = control.extremal(model, x0, KIND(1.0, tilt), T=horizon, intervals=32, **end)
        return found.cost + jnp.sum(found.u.u[3] ** 2)  # the control inside, not the cost alone

    value = jax.jit(value)
    slopes = jax.jit(jax.grad(value, (0, 1, 2)))(START, 0.2, T)
    ahead = jax.jacfwd(value, (0, 1, 2))(START, 0.2, T)
    wanted = [
        differences(lambda a: value(START + a, 0.2, T), 0.0),
        differences(lambda a: value(START, 0.2 + a, T), 0.0),
        differences(lambda a: value(START, 0.2, T + a), 0.0),
    ]
    for back, forward, right in zip(slopes, ahead, wanted, strict=True):
        assert abs(right) > 1e-3
        assert abs(np.ravel(back)[0] - right) < 1e-6 * (1 + abs(right))
        assert abs(np.ravel(forward)[0] - np.ravel(back)[0]) < 1e-10


@pytest.mark.slow  # quick: the slopes above, and costates that are those of `solve`
def test_the_slope_of_the_cost_is_the_first_costate():
    found = control.extremal(models.linear(), [3.0], EASY, T=6.0)
    slope = jax.grad(lambda x0: control.extremal(models.linear(), x0, EASY, T=6.0).cost)
    assert np.abs(slope(jnp.array([3.0])) - found.p.x[0]).max() < 1e-8


def test_starts_and_parameters_are_mapped_over():
    tilts, starts = jnp.array([0.1, 0.2, 0.3]), jnp.array([[2.0], [1.5], [0.8]])

    def cost(x0, tilt):
        return control.extremal(WELL, x0, KIND(1.0, tilt), T=T, intervals=32).cost

    together = jax.jit(jax.vmap(cost))(starts, tilts)
    alone = [cost(x0, tilt) for x0, tilt in zip(starts, tilts, strict=True)]
    assert np.abs(together - np.array(alone)).max() < 1e-12
    assert np.ptp(together) > 0.1


@pytest.mark.slow  # quick: the mesh of one width above
def test_the_mesh_of_a_solution_is_taken():
    """From it Newton's method has nothing left to do, and its derivatives are those there."""
    params = KIND(1.0, 0.2)
    near = control.solve(WELL, START, params, T=12.0, tolerance=1e-10)
    found = control.extremal(WELL, START, params, T=12.0, near=near)
    assert np.array_equal(found.times, near.times)
    assert np.abs(found.x.x - near.x.x).max() < 1e-9 and found.defect <= 1e-10


def test_what_does_not_settle_is_nan_and_says_so():
    """A small relative step is not enough: Newton's last one was, and left equations of 1e34."""
    bad = control.extremal(WELL, np.array([1e6]), KIND(1.0, 0.2), T=40.0, intervals=4)
    assert not bad.converged
    assert all(np.isnan(a).all() for a in (bad.x.x, bad.p.x, bad.u.u, bad.cost))
    one = jax.vmap(lambda x: control.extremal(WELL, x, KIND(1.0, 0.2), T=T, intervals=8))
    both = one(jnp.array([[1e9], [2.0]]))
    assert list(map(bool, both.converged)) == [False, True]
    assert np.isnan(both.cost[0]) and np.isfinite(both.cost[1])


def test_what_has_no_such_derivative_is_refused_with_the_reason():
    def refused(words, **changes):
        model = dataclasses.replace(WELL, **changes.pop("model", {}))
        given = {"x0": START, "params": KIND(1.0, 0.2), "T": T} | changes
        with pytest.raises(ValueError, match=words):
            control.extremal(model, given.pop("x0"), given.pop("params"), **given)

    refused("switching times", model={"bounds": {"u": ("box", -1.0, 1.0)}})
    refused("norms in the cost", model={"sparse": "l1"})
    refused("fixed end: pass x_end", model={"fixed_end": True})
    refused("free end", x_end=START)
    refused("whole number", intervals=2.0)
    refused("x must have shape", x0=np.ones((2, 3)))
    refused("pass Params", params=(1.0,))
    with jax.enable_x64(False):
        refused("jax_enable_x64")

"""Where full amplitude up to T*, then rest, is not the shape of the optimum, it is not reported.

Costs of the problems that are solved come from the definition of the cost along a straight path.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import control_models as models
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

from derive.runtime.control import entry as optimal_control

LAM, M = 0.05, 1.0


class Price(NamedTuple):
    lam: Any
    M: Any


@cache
def problem(energy, rate=lambda x, u: u, price=None, bounds=None, **more):
    """x' = rate(x, u), cost energy(x) + lam |u|_1 on the ball |u|_1 <= M."""

    def running(x, u, p):
        own = jnp.sum(jnp.abs(u.u)) if price is None else price(u.u)
        return energy(x.x) + p.lam * own

    def law(x, q, p):
        slope = q.x
        top = jnp.max(jnp.abs(slope))
        return models.U(-p.M * (top > p.lam) * jnp.sign(slope) * (jnp.abs(slope) == top))

    return models.model(
        Price, {"lam": (), "M": ()}, models.X, models.U, {"x": ("d",)}, {"u": ("d",)},
        lambda x, u, p: models.X(rate(x.x, u.u)), running, law=law, sparse="l1",
        bounds={"u": ("l1", "M")} if bounds is None else bounds, **more,
    )  # fmt: skip


def solve(model, x0, T=6.0, **more):
    return optimal_control.solve(model, np.atleast_1d(x0), Price(LAM, M), T=T, **more)


def square(x):
    return jnp.sum(x**2) / 2


def well(x):
    return jnp.sum((x**2 - 1) ** 2) / 4


def tilted(x):
    return well(x) + jnp.sum(x) / 5


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (problem(square, fixed_end=True), "the end is fixed"),
        (problem(square, terminal=lambda x, p: 5 * jnp.sum((x.x - 1) ** 2)), "a terminal cost"),
        (problem(square, discount=lambda p: 0.2), "under a discount"),
        (problem(square, rate=lambda x, u: u - x), "rest without control"),
        (problem(square, rate=lambda x, u: u + x * (x - 1)), "rest without control"),
        (problem(square, rate=lambda x, u: u + u**3), "linear in the control"),
        (problem(square, price=lambda u: jnp.abs(u[0]) * 2), "prices them in another way"),
        (problem(lambda x: square(x) * 1.0, price=lambda u: jnp.sum(jnp.abs(u)) + u[0] / 2),
         "prices them in another way"),
    ],
)  # fmt: skip
def test_what_the_two_phase_solver_does_not_model_is_refused(model, said):
    x0 = np.array([0.0, 0.7])  # a state at which the drift x (x - 1) may vanish
    end = {"x_end": np.ones(2)} if model.fixed_end else {}
    with pytest.raises(ValueError, match=said):
        solve(model, x0, **end)
    found = optimal_control.turnpike(model, Price(LAM, M), x_guess=x0, starts=4)
    assert found.verdict == "undetermined"
    assert any(said in r for r in found.reasons)


def test_two_balls_are_not_one():
    """Both entries may act at full amplitude at once: the law of this problem is entry by entry."""

    def law(x, q, p):
        return models.U(-p.M * (jnp.abs(q.x) > p.lam) * jnp.sign(q.x))

    import dataclasses

    model = dataclasses.replace(problem(square), control_law=law)
    with pytest.raises(ValueError, match="one bound .* of all controls together"):
        solve(model, [1.0, 2.0])


def stopped(energy, x0, direction, T):
    """Least cost of moving at speed M one way, then resting: by quadrature."""

    def cost(s):
        moving = quad(lambda t: float(energy(np.array([x0 + direction * M * t]))), 0, s)[0]
        return moving + LAM * M * s + (T - s) * float(energy(np.array([x0 + direction * M * s])))

    grid = np.linspace(1e-3, T - 1e-3, 200)
    best = grid[np.argmin([cost(s) for s in grid])]
    near = minimize_scalar(cost, bounds=(best - 0.1, best + 0.1), method="bounded",
                           options={"xatol": 1e-10})  # fmt: skip
    return near.fun


@pytest.mark.parametrize(
    ("energy", "x0", "direction"),
    [(well, 0.01, 1), pytest.param(well, 3.0, -1, marks=pytest.mark.slow)],
)
def test_wells_that_are_left_by_the_right_side(energy, x0, direction):
    found = solve(problem(energy), x0)
    assert found.cost == pytest.approx(stopped(energy, x0, direction, 6.0), abs=1e-6)
    assert not found.notes


@pytest.mark.slow  # quick: the cheaper control that is said, from the same hill, and the wells
@pytest.mark.parametrize(
    ("energy", "x0"),
    [(well, 0.0), (tilted, 0.9), (tilted, 1.0)],
)
def test_a_hill_and_a_shallow_well_are_left_for_the_deep_one(energy, x0):
    """At rest on a hill p = 0 forbids nothing, and every local condition holds in a well."""
    found = solve(problem(energy), x0)
    best = min(stopped(energy, x0, way, 6.0) for way in (-1, 1))
    assert found.cost == pytest.approx(best, abs=1e-6)


def test_a_cheaper_control_is_said_where_the_search_does_not_get_there(monkeypatch):
    from derive.runtime.control import sparse_control

    def nothing(*_):
        raise ValueError("no")

    monkeypatch.setattr(sparse_control, "_moving", nothing)
    found = solve(problem(well), 0.0)
    assert found.cost == pytest.approx(1.5) and "a cheaper control was found" in found.notes[0]
    said = float(found.notes[0].split("costs ")[1].split(",")[0])
    assert said == pytest.approx(stopped(well, 0.0, 1, 6.0), abs=1e-3)


def with_a_kink():
    return problem(lambda x: jnp.sum(jnp.abs(x - 1)))


def test_an_arrival_at_a_kink_is_refused():
    with pytest.raises(ValueError, match="kink"):
        solve(with_a_kink(), 0.0, T=10.0)


@pytest.mark.slow  # quick: the arrival above, and the stops of smooth wells
def test_a_stop_before_a_kink_is_not_refused_and_the_verdict_names_it():
    model = with_a_kink()
    early = solve(model, 0.0, T=0.8)
    # T - T* = lam: E falls at slope one
    assert early.stop == pytest.approx(0.8 - LAM, abs=1e-9)
    found = optimal_control.turnpike(model, Price(LAM, M), x_guess=np.ones(1), starts=4)
    assert found.verdict == "finite_time" and any("kink" in r for r in found.reasons)


@pytest.mark.parametrize(
    "energy",
    [
        lambda x: jnp.sum(jnp.log1p(jnp.exp(-x))),
        lambda x: jnp.sum(1 / (1 + x**2)),
        lambda x: jnp.sum(x),
    ],
)
def test_an_error_that_is_not_attained_has_no_bounded_stopping_time(energy):
    found = optimal_control.turnpike(
        problem(energy), Price(LAM, M), x_guess=np.array([0.5]), starts=8
    )
    assert found.verdict == "undetermined"
    assert any("E is not attained" in r for r in found.reasons)


def test_two_deepest_wells_are_non_unique():
    found = optimal_control.turnpike(
        problem(well), Price(LAM, M), x_guess=np.array([0.5]), starts=8
    )
    assert found.verdict == "non_unique"
    found = optimal_control.turnpike(
        problem(tilted), Price(LAM, M), x_guess=np.array([0.5]), starts=8
    )
    assert found.verdict == "finite_time" and found.x.x[0] < -1


def test_no_reason_states_a_bound_that_nobody_derived():
    found = optimal_control.turnpike(
        problem(square), Price(LAM, M), x_guess=np.array([0.5]), starts=4
    )
    assert found.verdict == "finite_time"
    assert not any("max E" in r or "<=" in r for r in found.reasons)

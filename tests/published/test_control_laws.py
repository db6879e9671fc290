"""Control laws of costs and bounds, against brute-force minimisation of the Hamiltonian.

The problems are written here.  Every law is compared with a fine search over the controls, and
with the closed form that convex duality gives.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from derive.methods.optimal_control.derivation import derive
from derive.methods.optimal_control.instances import Point, evaluate, point
from derive.methods.optimal_control.result import OptimalControl
from derive.notation import (
    Refusal,
    dims,
    inner,
    optimal_control,
    params,
    problem,
    squared_norm,
    tanh,
)
from derive.registry import entries, load

d = dims("d: size")
beta, rho = params("beta: in (1/2, 2)", "rho: in (1/10, 1/2)")


def _law(result: OptimalControl, q: np.ndarray, at: Point) -> np.ndarray:
    """The law when the dynamics are x' = u, so that q = p."""
    changed = {"p_x": q}
    return evaluate(result, "control_law", at, changed)[0]


TEXT = """
from derive.notation import *

d = dims("d: size")
beta, lam, M = params("beta: in (1/2, 2)", "lam: in (1/5, 4/5)", "M: in (1/2, 2)")
low = params("low: in (-2, -1/4)")


@optimal_control(state="x[d]", control="u[d]")
def reach(x, u):
    running = squared_norm(x) / 2 + {cost}
    return problem(dynamics=u, running=running, bounds={bounds})
"""


def _reach(cost: str, bounds: str | None) -> OptimalControl:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "reach.py"
        file.write_text(TEXT.format(cost=cost, bounds=bounds or "()"), encoding="utf-8")
        return derive(load(entries(file)[0]))


def _soft(q: np.ndarray, weight: float) -> np.ndarray:
    return np.sign(q) * np.maximum(np.abs(q) - weight, 0)


LAWS: dict[str, tuple[str, str | None, str | None, Callable]] = {
    "quadratic": (
        "beta / 2 * squared_norm(u)",
        None,
        None,
        lambda q, c: -q / c["beta"],
    ),
    "quadratic in a box": (
        "beta / 2 * squared_norm(u)",
        "box(u, low, M)",
        None,
        lambda q, c: np.clip(-q / c["beta"], c["low"], c["M"]),
    ),
    "quadratic in a ball": (
        "beta / 2 * squared_norm(u)",
        "l2_ball(u, radius=M)",
        None,
        lambda q, c: -q / np.linalg.norm(q) * min(np.linalg.norm(q) / c["beta"], c["M"]),
    ),
    "elastic net": (
        "lam * l1_norm(u) + beta / 2 * squared_norm(u)",
        None,
        "elastic_net",
        lambda q, c: -_soft(q, c["lam"]) / c["beta"],
    ),
    "elastic net in a box": (
        "lam * l1_norm(u) + beta / 2 * squared_norm(u)",
        "box(u, low, M)",
        "elastic_net",
        lambda q, c: np.clip(-_soft(q, c["lam"]) / c["beta"], c["low"], c["M"]),
    ),
    "l1 in a box": (
        "lam * l1_norm(u)",
        "box(u, low, M)",
        "l1",
        lambda q, c: np.where(q < -c["lam"], c["M"], np.where(q > c["lam"], c["low"], 0.0)),
    ),
    "box alone": (
        "0 * squared_norm(u)",
        "box(u, -M, M)",
        None,
        lambda q, c: -c["M"] * np.sign(q),
    ),
    "l1 in the l1 ball": (
        "lam * l1_norm(u)",
        "l1_ball(u, radius=M)",
        "l1",
        lambda q, c: (
            -c["M"] * np.sign(q) * (np.abs(q) == np.abs(q).max()) * (np.abs(q).max() > c["lam"])
        ),
    ),
    "norm in the ball": (
        "lam * l2_norm(u)",
        "l2_ball(u, radius=M)",
        "l2norm",
        lambda q, c: -c["M"] * q / np.linalg.norm(q) * (np.linalg.norm(q) > c["lam"]),
    ),
    "norm and square": (
        "lam * l2_norm(u) + beta / 2 * squared_norm(u)",
        None,
        "elastic_net",
        lambda q, c: -q / np.linalg.norm(q) * max(np.linalg.norm(q) - c["lam"], 0) / c["beta"],
    ),
}


@pytest.mark.parametrize("name", LAWS)
def test_laws_against_closed_forms(name: str) -> None:
    cost, bounds, sparse, closed = LAWS[name]
    result = _reach(cost, bounds)
    assert result.law.sparse == sparse
    assert all(s.check is None or s.check.passed for s in result.steps)
    for seed in range(4):
        at = point(result.model, seed)
        rng = np.random.default_rng(seed)
        for size in (0.1, 1.0, 5.0):
            q = size * rng.standard_normal(int(at.dims["d"]))
            found = _law(result, q, at)
            np.testing.assert_allclose(found, closed(q, at.params), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["quadratic in a box", "elastic net in a box", "l1 in a box"])
def test_laws_against_a_search(name: str) -> None:
    """Entry by entry on a grid of 4001 controls: the law is no worse than the best of them."""
    cost, bounds, _, _ = LAWS[name]
    result = _reach(cost, bounds)
    at = point(result.model, 1)
    c = at.params
    grid = np.linspace(c["low"], c["M"], 4001)

    def price(u: np.ndarray, q: float) -> np.ndarray:
        out = q * u
        if "elastic" in name or "quadratic" in name:
            out = out + c["beta"] / 2 * u**2
        return out if "quadratic" in name else out + c["lam"] * np.abs(u)

    for q in np.linspace(-3, 3, 41):
        u = _law(result, np.full(int(at.dims["d"]), q), at)[0]
        assert c["low"] - 1e-12 <= u <= c["M"] + 1e-12
        assert price(u, q) <= price(grid, q).min() + 1e-12


def test_a_matrix_weight_is_solved() -> None:
    @optimal_control(state="x[d]", control="u[d]", data="R_cost[d, d] symmetric")
    def weighted(x, u, R_cost):  # type: ignore[no-untyped-def]
        return problem(dynamics=tanh(x) + u, running=squared_norm(x) + inner(u, R_cost @ u) / 2)

    result = derive(weighted)
    at = point(result.model, 0)
    q = at.arrays["p_x"]
    found = evaluate(result, "control_law", at)[0]
    np.testing.assert_allclose(at.arrays["R_cost"] @ found, -q, rtol=1e-12)


def test_coupled_controls_are_left_to_a_linear_solve() -> None:
    @optimal_control(state="x[d]", control="u[d], v[d]")
    def coupled(x, u, v):  # type: ignore[no-untyped-def]
        effort = squared_norm(u + v) + squared_norm(v) + squared_norm(u)
        return problem(dynamics=u - v, running=squared_norm(x) + beta / 2 * effort)

    result = derive(coupled)
    assert result.law.expressions is None and result.law.numeric


def test_discount_enters_the_costate_equation_alone() -> None:
    @optimal_control(state="x[d]", control="u[d]")
    def discounted(x, u):  # type: ignore[no-untyped-def]
        running = squared_norm(x - 1) / 2 + beta / 2 * squared_norm(u)
        return problem(dynamics=tanh(x) + u, running=running, discount=rho)

    @optimal_control(state="x[d]", control="u[d]")
    def plain(x, u):  # type: ignore[no-untyped-def]
        running = squared_norm(x - 1) / 2 + beta / 2 * squared_norm(u)
        return problem(dynamics=tanh(x) + u, running=running)

    with_, without = derive(discounted), derive(plain)
    at = point(with_.model, 2)
    difference = evaluate(with_, "costate_rate", at)[0] - evaluate(without, "costate_rate", at)[0]
    np.testing.assert_allclose(difference, at.params["rho"] * at.arrays["p_x"], atol=1e-14)
    for name in ("state_rate", "stationarity", "control_law"):
        np.testing.assert_array_equal(evaluate(with_, name, at)[0], evaluate(without, name, at)[0])


def test_refusals_of_laws_without_closed_form() -> None:
    with pytest.raises(Refusal, match="quadratic cost under"):
        _reach("beta / 2 * squared_norm(u)", "l1_ball(u, radius=M)")
    with pytest.raises(Refusal, match="no common law|same controls|closed law"):
        _reach("lam * l1_norm(u)", "l2_ball(u, radius=M)")
    with pytest.raises(Refusal, match="nothing bounds the control"):
        _reach("lam * l1_norm(u)", None)

"""Optimal control at its edges: verdicts, ends, batches, derivatives, sparse controls, refusals."""

from __future__ import annotations

import dataclasses

import control_models as models
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import turnpike_tables as tables

from derive.runtime.common.precision import precision
from derive.runtime.control import between_nodes
from derive.runtime.control import boundary_value as bvp
from derive.runtime.control import entry as optimal_control


def linear(G, B, Q, R, goal=None, F=None, end=None) -> models.Linear:
    G, B, Q, R = (np.asarray(a, float) for a in (G, B, Q, R))
    d = len(G)
    zero = np.zeros(d)
    return models.Linear(
        G, B, zero if goal is None else goal, Q, R,
        np.zeros((d, d)) if F is None else F, zero if end is None else end,
    )  # fmt: skip


EASY = linear([[-1.0]], [[1.0]], [[1.0]], [[1.0]], goal=np.array([1.0]))


# the scheme


def test_collocation_is_of_order_six():
    def field(y, theta):
        return jnp.array([0.7 * y[0] - 2 * y[1] + jnp.sin(y[0]) / 10,
                          -2 * (y[0] - 1.3) - (0.7 + jnp.cos(y[0]) / 10) * y[1]])  # fmt: skip

    problem = bvp.Problem(field, lambda theta: theta, lambda y, theta: y[1:], 1, False)
    with precision("float64"):
        theta = jnp.array([2.0])

        @jax.jit
        def run(nodes):
            y = jnp.zeros((len(nodes), 2))
            found = bvp.solve(problem, y, nodes, theta, tolerance=1e-7)
            return found.y, between_nodes.defect(problem, found.y, nodes, theta)

        def at(N):
            y, defect = run(jnp.linspace(0, 5.0, N + 1))
            return np.asarray(y[:: N // 16]), float(jnp.max(defect))

        truth, _ = at(128)
        (coarse, rough), (fine, smooth) = at(16), at(32)
    ratio = np.max(np.abs(coarse - truth)) / np.max(np.abs(fine - truth))
    assert 45 < ratio < 90  # 2^6 = 64
    assert 18 < rough / smooth < 45  # the defect goes like h^5


# verdicts


def test_gap_alone_is_no_turnpike():
    """An unstable mode that the cost does not see: M has a gap, yet nothing is stabilised."""
    blind = linear([[1.0, 0], [0, -1]], np.eye(2), np.diag([0, 1.0]), np.eye(2))
    found = optimal_control.turnpike(models.linear(), blind, starts=4)
    assert found.verdict == "none"
    assert any("not detectable" in r for r in found.reasons)
    assert any("gap is not enough" in r for r in found.reasons)
    seen = blind._replace(F=np.eye(2), end=np.array([1.0, 1.0]))
    found = optimal_control.turnpike(models.linear(), seen, starts=4)
    assert found.verdict == "exponential"
    assert any("terminal cost sees" in r for r in found.reasons)


def test_uncontrolled_unstable_mode():
    params = linear(np.diag([1.0, -1.0]), [[0.0], [1.0]], np.eye(2), [[1.0]])
    found = optimal_control.turnpike(models.linear(), params, starts=4)
    assert found.verdict == "none"
    assert any("not stabilisable" in r for r in found.reasons)


def test_terminal_cost_alone():
    params = linear(np.zeros((1, 1)), [[1.0]], [[0.0]], [[1.0]], F=np.eye(1), end=np.ones(1))
    found = optimal_control.turnpike(models.linear(), params, starts=4)
    assert found.verdict == "none"
    assert any("does not depend on the state" in r for r in found.reasons)


@pytest.mark.slow  # quick: the verdict above, and the ends of test_pure_extremals
def test_terminal_cost_alone_has_a_constant_control():
    params = linear(np.zeros((1, 1)), [[1.0]], [[0.0]], [[1.0]], F=np.eye(1), end=np.ones(1))
    solution = optimal_control.solve(models.linear(), np.zeros(1), params, T=50.0)
    assert np.ptp(solution.u.u) < 1e-9  # a geodesic


def test_several_static_optima():
    kind, model = models.double_well()
    found = optimal_control.turnpike(model, kind(1.0, 0.0), x_guess=np.array([0.5]))
    assert found.verdict == "non_unique"
    minima = [c for c in found.candidates if c[2]]
    assert sorted(float(c[3].x[0]) for c in minima) == pytest.approx([-1.0, 1.0])
    found = optimal_control.turnpike(model, kind(1.0, 0.01), x_guess=np.array([0.5]))
    assert found.verdict == "entry_only" and found.x.x[0] < -0.9
    assert any("other static points" in r for r in found.reasons)


@pytest.mark.slow  # quick: `test_linear_quadratic_variants` with a discount
def test_discount_shifts_the_spectrum():
    model = models.linear(discount=lambda p: 0.3)
    found = optimal_control.turnpike(model, EASY, starts=4)
    pairs = np.sort(found.spectrum.real)
    assert pairs[0] + pairs[1] == pytest.approx(0.3)


@pytest.mark.slow  # quick: the spectrum above, and the derived problem with a discount in `emit`
def test_a_discounted_extremal_keeps_its_hamiltonian():
    model = models.linear(discount=lambda p: 0.3)
    found = optimal_control.turnpike(model, EASY, starts=4)
    solution = optimal_control.solve(model, np.array([3.0]), EASY, T=20.0, near=found)
    assert solution.residuals.hamiltonian < 1e-7 and solution.residuals.defect < 1e-8


# ends, batches, derivatives


@pytest.mark.slow  # quick: the fixed ends of test_pure_extremals, and the next refusal of one
def test_fixed_end():
    model = models.linear(fixed_end=True)
    solution = optimal_control.solve(model, np.array([3.0]), EASY, T=200.0, x_end=np.array([-2.0]))
    assert solution.x.x[-1] == pytest.approx(-2.0, abs=1e-12)
    middle = solution.x.x[np.argmin(np.abs(solution.times - 100))]
    assert middle == pytest.approx(0.5, abs=1e-9)  # q goal / (q + r g^2)


@pytest.mark.slow
def test_batch_equals_one_by_one():
    params = linear([[0.5, 1.0], [-1.0, 0.2]], np.eye(2), np.eye(2), np.eye(2), goal=np.ones(2))
    x0 = np.random.default_rng(0).standard_normal((3, 2))
    near = optimal_control.turnpike(models.linear(), params, starts=4)
    options = dict(T=9.0, near=near, saves=7)
    together = optimal_control.solve(models.linear(), x0, params, **options)
    assert together.x.x.shape == (3, 7, 2) and together.cost.shape == (3,)
    for k in range(3):
        alone = optimal_control.solve(models.linear(), x0[k], params, **options)
        assert alone.x.x.shape == (7, 2)
        assert np.allclose(alone.x.x, together.x.x[k], atol=1e-8)


# sparse controls


@pytest.mark.parametrize(
    "T",
    [
        T if k == 0 else pytest.param(T, marks=pytest.mark.slow)
        for k, T in enumerate(tables.E1_TABLE)
    ],
)
def test_stopping_time_of_the_scalar_problem(T):
    params = models.Sparse(np.array([1.0]), 0.05, 2.0)
    solution = optimal_control.solve(models.sparse_scalar(), np.zeros(1), params, T=T)
    assert solution.stop == pytest.approx(tables.E1_TABLE[T], abs=1e-6)
    assert solution.stop == pytest.approx(tables.stopping_time(T, 0.05, 2.0, 1.0), abs=1e-9)
    assert solution.residuals.stopping < 1e-9 and solution.residuals.energy < 1e-9
    assert solution.residuals.after < 1e-9
    assert np.all(solution.u.u[solution.times > solution.stop] == 0)


def test_sparse_verdict_and_idle_control():
    params = models.Sparse(np.array([1.0]), 0.05, 2.0)
    found = optimal_control.turnpike(models.sparse_scalar(), params)
    assert found.verdict == "finite_time" and found.x.x == pytest.approx([1.0])
    idle = optimal_control.solve(models.sparse_scalar(), np.array([0.99]), params, T=2.0)
    assert idle.stop == 0 and np.all(idle.u.u == 0) and "stays zero" in idle.notes[0]


@pytest.mark.slow
def test_stopping_time_of_the_relu_network():
    params = models.Sparse(np.array([0.2, 1.4]), 0.05, 2.0)
    x0 = np.array([0.8, 0.3])
    solution = optimal_control.solve(models.sparse_relu(), x0, params, T=8.0)
    assert solution.stop == pytest.approx(tables.E3_STOP, abs=1e-3)
    assert solution.residuals.stopping < 1e-3 and solution.residuals.energy < 2e-3
    assert any("tie" in note for note in solution.notes)


@pytest.mark.slow
def test_stopping_times_of_the_relu_network_grow_with_the_horizon():
    params, x0 = models.Sparse(np.array([0.2, 1.4]), 0.05, 2.0), np.array([0.8, 0.3])
    left = []
    for T, stop in tables.E3_TABLE.items():
        solution = optimal_control.solve(models.sparse_relu(), x0, params, T=T)
        assert solution.stop == pytest.approx(stop, abs=1e-3)
        left.append(T * T * np.sum((solution.x.x[-1] - params.goal) ** 2) / 2)
    assert left[-1] == pytest.approx(0.0013, abs=1e-4)


# bad input


def refuse(match, call):
    with pytest.raises(ValueError, match=match):
        call()


def test_horizon_and_shapes():
    solve, model = optimal_control.solve, models.linear()
    for T in (0.0, -1.0, np.inf, np.nan):
        refuse("T = .* must be a positive", lambda T=T: solve(model, np.ones(1), EASY, T=T))
    refuse("x must have shape", lambda: solve(model, np.ones(2), EASY, T=1.0))
    wrong = EASY._replace(goal=np.ones(2))
    refuse("goal must have shape", lambda: optimal_control.turnpike(model, wrong))
    refuse("not finite", lambda: solve(model, np.array([np.nan]), EASY, T=1.0))
    refuse("missing", lambda: optimal_control.turnpike(model, {"G": 1}))
    refuse("fixed end: pass x_end",
           lambda: solve(models.linear(fixed_end=True), np.ones(1), EASY, T=1.0))  # fmt: skip
    refuse("free end", lambda: solve(model, np.ones(1), EASY, T=1.0, x_end=np.ones(1)))


def test_control_cost_that_is_not_positive():
    params = EASY._replace(R=-np.eye(1))
    refuse("H_uu is not positive definite",
           lambda: optimal_control.turnpike(models.linear(), params, starts=4))  # fmt: skip
    refuse("H_uu is not positive definite",
           lambda: optimal_control.solve(models.linear(), np.ones(1), params, T=1.0))  # fmt: skip


def test_bounds_that_cross():
    model = dataclasses.replace(models.linear(), bounds={"u": ("box", 1.0, -1.0)})
    refuse("bounds of u cross", lambda: optimal_control.turnpike(model, EASY))


def test_cost_that_is_nan():
    kind, _ = models.double_well()
    model = models.model(
        kind, {"beta": (), "tilt": ()}, models.X, models.U, {"x": ("d",)}, {"u": ("d",)},
        lambda x, u, p: models.X(u.u),
        lambda x, u, p: jnp.sum(jnp.log(x.x)) + jnp.sum(u.u**2),
    )  # fmt: skip
    refuse("running_cost is nan at x0, at state x = .-1",
           lambda: optimal_control.solve(model, np.array([-1.0]), kind(1.0, 0.0), T=1.0,
                                         near=None, starts=1))  # fmt: skip


def test_end_out_of_reach():
    params = linear(-np.eye(2), [[1.0], [0.0]], np.eye(2), [[1.0]])
    model = models.linear(fixed_end=True)
    refuse("infeasible|reach",
           lambda: optimal_control.solve(model, np.ones(2), params, T=3.0,
                                         x_end=np.array([0.0, 5.0])))  # fmt: skip


@pytest.mark.slow
def test_no_convergence_says_what_was_reached_and_what_to_try():
    """x_1' = 1 + x_1^2 is at infinity before T, whatever the control does to x_2."""
    kind, _ = models.double_well()
    model = models.model(
        kind, {"beta": (), "tilt": ()}, models.X, models.U, {"x": (2,)}, {"u": (1,)},
        lambda x, u, p: models.X(jnp.stack([1 + x.x[0] ** 2, u.u[0]])),
        lambda x, u, p: x.x[1] ** 2 + p.beta / 2 * jnp.sum(u.u**2),
        law=lambda x, q, p: models.U(-q.x[1:] / p.beta),
    )  # fmt: skip
    with pytest.raises(ValueError, match="Newton's method failed on T = 2: residual .* try "):
        optimal_control.solve(model, np.zeros(2), kind(1.0, 0.0), T=2.0)


def test_a_mesh_that_may_not_grow():
    refuse("refined to 24 intervals.*most_intervals",
           lambda: optimal_control.solve(models.linear(), np.array([3.0]), EASY, T=40.0,
                                         most_intervals=24))  # fmt: skip


def test_zero_mode_that_nothing_moves_is_not_hyperbolic():
    """Two integrators, one driven: M = [[0, -B B'], [-1, 0]] has the eigenvalues 1, -1, 0, 0."""
    params = linear(np.zeros((2, 2)), [[1.0], [0.0]], np.eye(2), [[1.0]])
    found = optimal_control.turnpike(models.linear(), params, starts=4)
    assert found.verdict == "not_hyperbolic" and "2 of them zero" in found.reasons[0]


@pytest.mark.slow
def test_the_estimated_error_is_the_error():
    """Against a solution of a much finer mesh: within a factor of two where it matters.

    In every run: the error is of order six, and the defect, which steers the mesh, of order five.
    """
    kind, model = models.double_well()
    params, x0 = kind(1.0, 0.2), np.array([2.0])
    near = optimal_control.turnpike(model, params, x_guess=np.array([-1.0]), starts=4)
    rough = optimal_control.solve(model, x0, params, T=6.0, near=near, tolerance=1e-5)
    fine = optimal_control.solve(
        model, x0, params, T=6.0, near=near, tolerance=1e-12, saves=rough.times
    )
    off = max(
        np.max(np.abs(a - b) / (1 + np.abs(b)))
        for a, b in ((rough.x.x, fine.x.x), (rough.p.x, fine.p.x))
    )
    assert 0.5 * off < rough.residuals.error < 2 * off and off > 1e-9
    assert rough.residuals.error <= 1e-5

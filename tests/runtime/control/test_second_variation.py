"""Conjugate points in closed form: an extremal before them is returned, one past them refused.

x' = u with cost (|u|^2 - w^2 |x|^2) / 2: the second variation along any extremal is that of the
oscillator x'' = -w^2 x, so x = sin(w t) from a fixed start (conjugate point at pi / w) and, with a
free end of terminal cost f x^2 / 2, cos and sin from the end: tan(w T) = ... below.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import control_models as models
import jax.numpy as jnp
import numpy as np
import pytest

from derive.runtime.control import entry as optimal_control


class Swing(NamedTuple):
    w: Any
    f: Any


W = 1.3


@cache
def swing(terminal=True, **more):
    return models.model(
        Swing, {"w": (), "f": ()}, models.X, models.U, {"x": ("d",)}, {"u": ("d",)},
        lambda x, u, p: models.X(u.u),
        lambda x, u, p: (jnp.sum(u.u**2) - p.w**2 * jnp.sum(x.x**2)) / 2,
        terminal=(lambda x, p: p.f * jnp.sum(x.x**2) / 2) if terminal else None,
        law=lambda x, q, p: models.U(-q.x), **more,
    )  # fmt: skip


def focal(f):
    """First T with f sin(w T) = -w cos(w T) going back from X = 1, X' = -f, at x(0) = 0."""
    # X(s) = cos(w s) + (f / w) sin(w s) at a time s before the end
    return (np.pi - np.arctan2(W, f)) / W if f > 0 else np.arctan2(W, -f) / W


def found(T, f=0.0, x0=(0.4,), **more):
    options = {k: more.pop(k) for k in ("x_end",) if k in more}
    return optimal_control.solve(swing(**more), np.array(x0), Swing(W, f), T=T, starts=2, **options)


@pytest.mark.parametrize(
    "f", [0.0, *(pytest.param(f, marks=pytest.mark.slow) for f in (2.0, -0.7))]
)
def test_a_free_end_has_its_focal_point(f):
    at = focal(f)
    before = found(0.995 * at, f)
    assert not any("second-order" in n for n in before.notes)
    for T in (1.005 * at, 1.4 * at):
        with pytest.raises(ValueError, match="no minimum.*conjugate point"):
            found(T, f)


def test_a_fixed_end_has_its_conjugate_point():
    at = np.pi / W
    ends = {"x_end": np.array([0.3]), "fixed_end": True}
    assert found(0.995 * at, **ends).residuals.defect < 1e-8
    for T in (1.005 * at, 1.7 * at):
        with pytest.raises(ValueError, match="no minimum.*conjugate point"):
            found(T, **ends)


def test_a_batch_names_the_first_state_that_fails():
    with pytest.raises(ValueError, match=r"from x0\[0\] is no minimum"):
        found(1.2 * focal(0.0), x0=((0.4,), (0.2,)))


@pytest.mark.slow
def test_a_long_horizon_of_a_convex_problem_is_no_alarm():
    rng = np.random.default_rng(0)
    G = rng.standard_normal((3, 3))
    params = models.Linear(
        G, rng.standard_normal((3, 1)), np.zeros(3), np.eye(3), np.eye(1), np.eye(3), np.zeros(3)
    )
    out = optimal_control.solve(models.linear(), np.ones(3), params, T=120.0, starts=2)
    assert not out.notes
    end = {"x_end": np.array([1.0, 0.0, -1.0])}
    fixed = models.linear(fixed_end=True)
    assert not optimal_control.solve(fixed, np.ones(3), params, T=40.0, starts=2, **end).notes


def test_a_cheaper_constant_control_is_said():
    """The costs of u = 0 and u = c from x0: -w^2 x0^2 T / 2, and a cubic in T."""
    from derive.runtime.common.precision import precision
    from derive.runtime.control import extremal_checks
    from derive.runtime.control.coordinates import flatten

    x0, T, c = 0.4, 0.9, 0.3
    still = -(W**2) * x0**2 * T / 2
    moving = c**2 * T / 2 - W**2 / 2 * (x0**2 * T + x0 * c * T**2 + c**2 * T**3 / 3)
    tried = {"no control": np.zeros(1), "a push": np.array([c])}
    with precision("float64"):
        flat = flatten(swing(), {"d": 1})
        args = (flat, np.array([[x0]]), None)
        for least, said in ((min(still, moving) + 1e-3, 1), (min(still, moving) - 1e-9, 0)):
            notes = extremal_checks.compared(*args, np.array([least]), tried, T, Swing(W, 0.0))
            assert len(notes) == said
            assert not said or ("a push" in notes[0] and f"{moving:.6g}"[:7] in notes[0])
        ends = extremal_checks.compared(
            flat, np.array([[x0]]), np.array([x0]), np.array([1.0]), tried, T, Swing(W, 0.0)
        )
        assert "no control" in ends[0]  # the push does not end at x0
    assert moving < still

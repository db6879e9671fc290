"""Conditions for explosion hold no factor whose sign the ranges of the parameters tell."""

from __future__ import annotations

import pytest
import sympy as sp

from derive.methods.covariance_sde.one_dimension import Scalar, _open_sign
from derive.notation import params

gamma, tau, k = params("gamma: in (0, 1)", "tau: positive", "k: real")

CASES = [
    (-1 / (gamma**2 - 2), sp.Integer(1)),
    (1 / (2 * gamma**2) - 1, 1 - 2 * gamma**2),
    ((2 - 2 * gamma**2) / (gamma**2 * (2 - gamma**2)) - 1, gamma**4 - 4 * gamma**2 + 2),
    ((gamma - 1) / tau, sp.Integer(-1)),
    (gamma**2 * (k - 1) / tau**3, k - 1),
    (-(1 - 2 * gamma**2) / tau, 2 * gamma**2 - 1),
]


@pytest.mark.parametrize(("scalar", "condition"), CASES, ids=[str(s) for s, _ in CASES])
def test_conditions_keep_the_open_sign_alone(scalar: sp.Expr, condition: sp.Expr) -> None:
    found = _open_sign(scalar)
    assert sp.expand(found - condition) == 0
    for g in (0.1, 0.4, 0.75, 0.95):
        at = {gamma: g, tau: 1.3, k: 0.7}
        assert sp.sign(scalar.subs(at)) == sp.sign(sp.sympify(found).subs(at))


@pytest.mark.parametrize("varying", [("gamma",), ("tau_0",), ("gamma", "tau_0")])
def test_nothing_is_said_of_explosion_where_coefficients_move(varying: tuple[str, ...]) -> None:
    """Feller's test is one of coefficients that are constant in time."""
    w = sp.Symbol("w", positive=True)
    ranges = {"gamma": "in (0, 1)", "tau_0": "positive"}
    words = [
        f"{k}: {r}" + (", depends on depth" if k in varying else "") for k, r in ranges.items()
    ]
    gamma, tau = params(*words)
    gap = Scalar("w", w, "two tokens, w", gamma**2 * w**3 / tau**2, gamma**4 * w**4 / tau**2)
    assert "explodes" not in gap.text and "does not explode" not in gap.text
    assert all(name in gap.explosion() for name in varying) and "depth" in gap.explosion()
    ode = Scalar("w", w, "two tokens, w", gamma**2 * w**2 / tau, sp.Integer(0))
    assert "explodes" not in ode.text

"""Conditions for explosion hold no factor whose sign the ranges of the parameters tell."""

from __future__ import annotations

import pytest
import sympy as sp

from derive.methods.one_dimension import _open_sign
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

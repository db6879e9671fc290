"""Scalars are shown in their most readable form, and the form is equal to the scalar."""

from __future__ import annotations

import pytest
import sympy as sp

from derive.calculus.index.readable import readable

g, p, q, d, n, v = sp.symbols("g p q d n v", positive=True)

FORMS = [
    (2 * g**2 - g**4, "g**2*(2 - g**2)"),
    (g**2 * (p**2 / 4 - p * q / 2 + q**2 / 4), "g**2*(p - q)**2/4"),
    (sp.expand(-(g**2) * (p - q) ** 2 / 4), "-g**2*(p - q)**2/4"),
    (sp.Rational(1, 2) - d / 2, "(1 - d)/2"),
    (g**4 / 2 - g**2, "g**2*(g**2 - 2)/2"),
    (g * sp.sqrt(2 - g) * sp.sqrt(g + 2), "g*sqrt(4 - g**2)"),
    (-2 * g**2 * v**2 * (g - 2) * (g + 2), "2*g**2*v**2*(4 - g**2)"),
    (sp.expand((p - q) ** 2 * (p + q) / sp.sqrt(n)), "(p - q)**2*(p + q)/sqrt(n)"),
    (1 - 2 * g**2, "1 - 2*g**2"),
    (sp.sqrt(2) * g, "sqrt(2)*g"),
    (sp.exp(-g) + g * sp.sqrt(1 - g**2), "g*sqrt(1 - g**2) + exp(-g)"),
]


@pytest.mark.parametrize(("scalar", "text"), FORMS, ids=[t for _, t in FORMS])
def test_scalars_read_well_and_keep_their_value(scalar: sp.Expr, text: str) -> None:
    form = readable(scalar)
    assert sp.sstr(form) == text
    at = {g: 0.7, p: 1.3, q: 0.4, d: 5.0, n: 9.0, v: 2.1}
    assert float(form.subs(at)) == pytest.approx(float(scalar.subs(at)), rel=1e-13)

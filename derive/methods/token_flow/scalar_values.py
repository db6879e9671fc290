"""A number for a scalar expression, with enough digits that nothing cancels away."""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp


def number(expression: sp.Expr, values: Mapping[sp.Symbol, float]) -> float:
    """The value; raises TypeError where a symbol is left."""
    put = {
        s: sp.Rational(str(v)) if isinstance(v, float) else sp.sympify(v) for s, v in values.items()
    }
    return float(expression.xreplace(put).evalf(30))

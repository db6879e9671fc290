"""Finds the most readable of a scalar's equal forms; the calculus itself keeps scalars expanded."""

from __future__ import annotations

from functools import cache

import sympy as sp

_LARGE = 400  # operations beyond which factoring costs more than a reader gains
_SUM = 6  # characters that a sum may be shorter than a product and yet read worse


@cache
def readable(scalar: sp.Expr) -> sp.Expr:
    """An equal expression: expanded, with common factors in front, or factored.

    Products are preferred, then short texts.  Square roots of one product are gathered:
    sqrt(2 - x) sqrt(2 + x) becomes sqrt(4 - x**2).
    """
    scalar = _one_root(scalar)
    if scalar.is_Atom or scalar.count_ops() > _LARGE:
        return scalar
    forms = [scalar, sp.factor_terms(scalar), _inside(scalar)]
    if scalar.is_Add and not scalar.has(sp.Function):
        forms.append(sp.factor(scalar))
    forms += [_multiplied_out(f) for f in forms]
    forms += [_sign_inside(f) for f in forms]
    return min(forms, key=_effort)


def _effort(form: sp.Expr) -> int:
    """Characters, more for a sum at the top and for fractions inside sums."""
    broken = sum(
        any(not c.is_Integer for c in a.as_coefficients_dict().values()) for a in form.atoms(sp.Add)
    )
    return len(sp.sstr(form)) + (_SUM if form.is_Add else 3 * broken)


def _one_root(scalar: sp.Expr) -> sp.Expr:
    roots = [f for f in sp.Mul.make_args(scalar) if f.is_Pow and f.exp == sp.Rational(1, 2)]
    several = [f for f in roots if not f.base.is_number]
    if len(several) < 2:
        return scalar
    rest = [f for f in sp.Mul.make_args(scalar) if f not in several]
    return sp.Mul(*rest, sp.sqrt(readable(sp.expand(sp.Mul(*(f.base for f in several))))))


def _inside(scalar: sp.Expr) -> sp.Expr:
    """The sums among the factors of a product, each in its most readable form."""
    if not scalar.is_Mul:
        return scalar
    return sp.Mul(*(readable(f) if f.is_Add else f for f in scalar.args))


def _multiplied_out(scalar: sp.Expr) -> sp.Expr:
    """The sums among the factors of a product as one: (x - 2) (x + 2) is x**2 - 4."""
    sums = [f for f in scalar.args if f.is_Add] if scalar.is_Mul else []
    if len(sums) < 2:
        return scalar
    return sp.Mul(*(f for f in scalar.args if f not in sums), sp.expand(sp.Mul(*sums)))


def _sign_inside(scalar: sp.Expr) -> sp.Expr:
    """-x (y - z) as x (z - y)."""
    number, rest = scalar.as_coeff_Mul()
    if number.is_negative and rest.is_Mul:
        for factor in rest.args:
            if factor.is_Add:
                others = (f for f in rest.args if f != factor)
                return sp.Mul(-number, *others, sp.expand(-factor))
    return scalar

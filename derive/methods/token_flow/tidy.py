"""Scalar rates in a form that is short, and that numbers can be put into.

Input: a SymPy expression with exponentials and roots.  Output: an equal one, factored, in powers
of as few exponentials as there are, each of an argument that is negative where the parameters are
in range: it underflows where its inverse would overflow.
"""

from __future__ import annotations

import sympy as sp

COSINES = {"rho": sp.Rational(1, 2), "g": sp.Rational(1, 2), "r": sp.Rational(3, 4)}


def tidy(expression: sp.Expr) -> sp.Expr:
    """Factored, with exponentials and functions as atoms."""
    names: dict[sp.Expr, sp.Symbol] = {}
    plain = _named(sp.sympify(expression), names)
    plain, exponentials = _in_few_exponentials(plain)
    plain = sp.factor(sp.together(plain))
    back = {v: k for k, v in names.items()}
    return plain.xreplace(exponentials).xreplace(back)


def _named(expression: sp.Expr, names: dict[sp.Expr, sp.Symbol]) -> sp.Expr:
    """Functions and roots of tidied arguments, each a symbol; exponentials and sums stay."""
    if expression.is_Atom:
        return expression
    if isinstance(expression, sp.exp):
        return sp.exp(sp.factor(expression.args[0]))
    if expression.is_Pow and not expression.exp.is_Integer:
        base, power = tidy(expression.base), expression.exp
        whole = power.as_coeff_Mul()[0] if power.is_Rational else None
        if whole is not None:  # powers of one root
            root = sp.Rational(1, power.q)
            return _symbol(base**root, names) ** power.p
        return _symbol(base**power, names)
    if expression.is_Add or expression.is_Mul or expression.is_Pow:
        return expression.func(*(_named(a, names) for a in expression.args))
    return _symbol(expression.func(*(tidy(a) for a in expression.args)), names)


def _symbol(value: sp.Expr, names: dict[sp.Expr, sp.Symbol]) -> sp.Expr:
    if value.is_Rational:
        return value
    return names.setdefault(value, sp.Dummy(f"f{len(names)}", positive=value.is_positive or None))


def _in_few_exponentials(expression: sp.Expr) -> tuple[sp.Expr, dict[sp.Symbol, sp.Expr]]:
    """Exponentials whose arguments are rational multiples of one, as powers of that one."""
    groups: list[tuple[sp.Expr, dict[sp.Expr, sp.Rational]]] = []
    for atom in sorted(expression.atoms(sp.exp), key=sp.default_sort_key):
        argument = atom.args[0]
        for base, members in groups:
            ratio = sp.cancel(argument / base)
            if ratio.is_Rational:
                members[atom] = ratio
                break
        else:
            groups.append((argument, {atom: sp.Integer(1)}))
    change: dict[sp.Expr, sp.Expr] = {}
    back: dict[sp.Symbol, sp.Expr] = {}
    for base, members in groups:
        unit = sp.Rational(1, sp.ilcm(1, 1, *(r.q for r in members.values())))
        unit = -unit if _above_zero(base) else unit
        symbol = sp.Dummy("E", positive=True)
        back[symbol] = sp.exp(unit * base)
        change |= {atom: symbol ** (ratio / unit) for atom, ratio in members.items()}
    return expression.xreplace(change), back


def _above_zero(argument: sp.Expr) -> bool:
    """Its sign at one point of the parameters' ranges, angles between 0 and 90 degrees; cosines
    within a cap are larger than those to others."""
    values = {s: COSINES.get(s.name, sp.Integer(2)) for s in argument.free_symbols}
    return bool(argument.xreplace(values) > 0)

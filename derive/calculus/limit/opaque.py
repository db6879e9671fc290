"""A scalar that depends on the width in a complicated way is one symbol until the limit.

sqrt(1 - gamma^2 + kappa/n) or the normaliser of an activation would make every coefficient a long
quotient.  `hide` replaces such a factor by a symbol that knows its value; `reveal` puts the power
series of the value in eps = width^(-1/2) in its place, once expectations have been taken.
"""

from __future__ import annotations

import hashlib
import math
from functools import cache

import sympy as sp

from derive.notation.common.scalars import GaussianMean, Opaque

_EPS = sp.Symbol("eps", positive=True)


def hide(coefficient: sp.Expr, width: sp.Symbol, growing: frozenset[sp.Symbol]) -> sp.Expr:
    """Every factor that is no monomial in the growing dimensions becomes a symbol."""
    if not coefficient.has(width, *growing):
        return coefficient
    return sp.Add(
        *(_hide_term(t, width, growing) for t in sp.Add.make_args(sp.expand(coefficient)))
    )


def _hide_term(term: sp.Expr, width: sp.Symbol, growing: frozenset[sp.Symbol]) -> sp.Expr:
    out = []
    for factor in sp.Mul.make_args(term):
        base, exponent = factor.as_base_exp()
        if not _splits(factor, (width, *growing)):
            out.append(_opaque(factor))
        elif base.has(width, *growing) and not base.is_Symbol:
            whole = sp.expand_power_base(sp.factor(base) ** exponent, force=True)
            for part in sp.Mul.make_args(whole):
                inner = part.as_base_exp()[0]
                plain = inner.is_Symbol or not inner.has(width, *growing)
                whole_power = _splits(part, (width, *growing))
                out.append(part if plain and whole_power else _opaque(part))
        else:
            out.append(factor)
    return sp.Mul(*out)


def _splits(factor: sp.Expr, growing: tuple[sp.Symbol, ...]) -> bool:
    """Whether a factor's power is a number: exp(1/n) is e to a power of 1/n, and of (1 + 1/n)^tau
    neither part, (n + 1)^tau or n^(-tau), has a degree."""
    base, exponent = factor.as_base_exp()
    return not exponent.has(*growing) and bool(exponent.is_Rational or not base.has(*growing))


def _opaque(value: sp.Expr) -> sp.Symbol:
    mark = hashlib.sha256(sp.srepr(value).encode()).hexdigest()[:6]
    return Opaque(f"s_{mark}", value)


def reveal(coefficient: sp.Expr, width: sp.Symbol, order: int) -> sp.Expr:
    """Power series of hidden symbols in their place, to eps^order beyond their leading one."""
    hidden = {s: _series(s.value, width, order) for s in coefficient.atoms(Opaque)}
    return sp.expand(coefficient.xreplace(hidden)) if hidden else coefficient


def leading(value: sp.Expr, width: sp.Symbol) -> sp.Expr:
    """Leading monomial of a hidden value, with its power of the width."""
    return _series(value, width, 0)


def no_power(coefficient: sp.Expr, width: sp.Symbol) -> sp.Expr | None:
    """The first hidden value that grows like no fixed power of the width, as log(n) does."""
    for symbol in sorted(coefficient.atoms(Opaque), key=str):
        if symbol.value.has(GaussianMean):
            continue
        try:
            start = symbol.value.xreplace({width: _EPS**-2}).as_leading_term(_EPS)
            first, power = sp.simplify(start).as_coeff_exponent(_EPS)
        except (NotImplementedError, ValueError, TypeError, sp.PoleError):
            return symbol.value
        if first.has(_EPS) or not power.is_Rational:
            return symbol.value
    return None


@cache
def _series(value: sp.Expr, width: sp.Symbol, order: int) -> sp.Expr:
    # finer powers of the width become whole ones of a finer eps
    powers = [p.exp for p in value.atoms(sp.Pow) if p.base == width and p.exp.is_Rational]
    fine = math.lcm(*(int((2 * e).q) for e in powers))
    scaled = value.xreplace({width: _EPS ** (-2 * fine)})
    means = {mean: _mean_series(mean, order * fine) for mean in scaled.atoms(GaussianMean)}
    scaled = sp.powsimp(sp.expand(scaled.xreplace(means)))
    start = sp.simplify(scaled.as_leading_term(_EPS))
    first = sp.Integer(start.as_coeff_exponent(_EPS)[1])
    ratio = sp.series(sp.simplify(scaled / _EPS**first), _EPS, 0, order * fine + 1).removeO()
    back = width ** sp.Rational(-1, 2 * fine)
    return sp.expand(sp.expand(ratio * _EPS**first).subs(_EPS, back))


def _mean_series(mean: sp.Expr, order: int) -> sp.Expr:
    """E f(g) as a power series: of f in eps, then moments of g term by term."""
    g, body = mean.args[0], mean.args[1]
    if body.has(sp.Max, sp.Abs):
        return _kinked_mean(g, body)
    expanded = sp.expand(sp.series(body, _EPS, 0, order + 1).removeO())
    total = sp.Integer(0)
    for term in sp.Add.make_args(expanded):
        coefficient, power = term.as_independent(g)
        degree = sp.degree(power, g) if power != 1 else 0
        if degree % 2 == 0:
            total += coefficient * sp.factorial2(degree - 1)
    return total


def _kinked_mean(g: sp.Symbol, body: sp.Expr) -> sp.Expr:
    """E f(g) of a piecewise polynomial, one half-line at a time."""
    x = sp.Symbol("x", positive=True)
    total = sp.Integer(0)
    for sign in (1, -1):
        half = sp.expand(body.rewrite(sp.Abs).subs(g, sign * x))
        density = sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi)
        for term in sp.Add.make_args(half):
            coefficient, power = term.as_independent(x)
            total += coefficient * sp.integrate(power * density, (x, 0, sp.oo))
    return total

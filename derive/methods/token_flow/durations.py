"""How long a manoeuvre takes, in closed form.

Input: rates in one variable.  Output: SymPy expressions in the ends, each differentiated back.
"""

from __future__ import annotations

import sympy as sp

EXPONENTIAL = sp.Symbol("E", positive=True)
START, END = sp.symbols("u0 u1", real=True)


Poles = tuple[tuple[sp.Expr, sp.Expr], ...]


def poles(rate: sp.Expr, variable: sp.Symbol) -> Poles:
    """(share, root): 1 / rate, of simple roots, is the sum of share / (variable - root)."""
    roots = sp.roots(sp.Poly(rate, variable))
    if sum(roots.values()) != len(roots) or len(roots) != sp.degree(rate, variable):
        raise ValueError(f"{rate} has no simple roots in closed form")
    slope = sp.diff(rate, variable)
    return tuple(
        (1 / sp.factor(slope.subs(variable, root)), root)
        for root in sorted(roots, key=sp.default_sort_key)
    )


def by_poles(found: Poles, start: sp.Symbol, end: sp.Symbol) -> sp.Expr:
    """The integral of d(variable) / rate: logarithms of ratios."""
    return sp.Add(*(share * sp.log((end - root) / (start - root)) for share, root in found))


def in_exponentials(rate: sp.Expr, variable: sp.Symbol) -> tuple[sp.Poly, sp.Poly]:
    """(N, Q): du / rate(u) is N dE / (E Q) with E = exp(u), both of degree two."""
    ratio = sp.cancel(rate.rewrite(sp.exp).subs(variable, sp.log(EXPONENTIAL)))
    below, top = sp.fraction(ratio)
    N, Q = sp.Poly(top, EXPONENTIAL), sp.Poly(below, EXPONENTIAL)
    if max(N.degree(), Q.degree()) > 2:
        raise ValueError(f"{rate} is no ratio of quadratic functions of exp({variable})")
    return N, Q


def by_exponentials(N: sp.Poly, Q: sp.Poly) -> sp.Expr:
    """The integral of N dE / (E Q) from u0 to u1 by partial fractions A / E + (B Q' + F) / Q."""
    A, B, F = sp.symbols("A B F")
    E, slope = EXPONENTIAL, Q.diff(EXPONENTIAL).as_expr()
    left = sp.Poly(A * Q.as_expr() + E * (B * slope + F) - N.as_expr(), E)
    (found,) = sp.solve(left.all_coeffs(), [A, B, F], dict=True)
    c, b, a = (Q.coeff_monomial(E**k) for k in range(3))
    half = sp.sqrt(sp.expand(b**2 / 4 - a * c))
    first, last = sp.exp(START), sp.exp(END)
    across = a * first * last + b / 2 * (first + last) + c
    ratio = Q.as_expr().subs(E, last) / Q.as_expr().subs(E, first)
    area = sp.atanh(half * (last - first) / across) / half
    A, B, F = (sp.factor(found[s]) for s in (A, B, F))
    return A * (END - START) + B * sp.log(ratio) + F * area

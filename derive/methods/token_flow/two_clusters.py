"""Two clusters of tokens: the rate of their cosine, their merging time and its exponent.

Input: the Gram rate.  Output: `TwoClusters`: g' at the cosine g of clusters with masses mu and
1 - mu on the sphere; the merging time from g0 is the integral of dg / g'; and where g' holds
exponentials of a parameter p, the limit of log(time) / p as p -> oo, by Laplace: the largest
exponent of 1 / g' between g0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.methods.token_flow.names import Names
from derive.methods.token_flow.patterns import Clusters, Unlike
from derive.methods.token_flow.tidy import tidy

COSINE = sp.Symbol("g", real=True)
START = sp.Symbol("g_0", real=True)
MASS = sp.Symbol("mu", positive=True)


@dataclass(frozen=True)
class TwoClusters:
    """`rate`: g' in g and mu; `exponent`: (parameter, log(time)/parameter in the limit, from g_0),
    or none."""

    rate: sp.Expr
    exponent: tuple[sp.Symbol, sp.Expr] | None


def two_clusters(rate: Expression, names: Names, book: Book) -> TwoClusters:
    """Raises Unlike where g has no rate of its own."""
    products = sp.Matrix([[1, COSINE], [COSINE, 1]])
    at = Clusters(names, book, products=products, masses=(MASS, 1 - MASS))
    for k in (0, 1):
        left = tidy(at.of(rate, (k, k)))
        if left != 0 and sp.simplify(left) != 0:
            raise Unlike(f"the norm of a cluster changes at the rate {left}")
    found = tidy(at.of(rate, (0, 1)))
    return TwoClusters(found, _exponent(found))


def _exponent(rate: sp.Expr) -> tuple[sp.Symbol, sp.Expr] | None:
    """log(time) / p as p -> oo at equal masses, if there is one parameter p in exponentials and
    g' is seen to be positive at every angle in between."""
    equal = tidy(rate.subs(MASS, sp.Rational(1, 2)))
    exponentials = sorted(equal.atoms(sp.exp), key=sp.default_sort_key)
    inside = {s for e in exponentials for s in e.free_symbols} - {COSINE}
    if len(inside) != 1 or len(exponentials) != 1:
        return None
    (large,) = inside
    slope = sp.cancel(exponentials[0].args[0] / large)
    if slope.has(large):
        return None
    small = sp.Dummy("E", positive=True)
    rational = equal.xreplace({exponentials[0]: small})
    if not rational.is_rational_function(small):
        return None
    parts = [sp.Poly(p, small) for p in sp.fraction(sp.together(rational))]
    side = _sign(slope)  # which end the exponential goes to
    if side == 0 and any(len(p.monoms()) > 1 for p in parts):
        return None
    lead = _end(parts[0], side < 0) - _end(parts[1], side < 0)
    height = sp.expand(-lead * slope)
    # the largest value over [g_0, 1]: at g_0 where it falls with g
    drop = sp.diff(height, COSINE)
    if _common_sign(parts[0]) * _common_sign(parts[1]) != 1:
        return None
    if drop.is_number and drop <= 0:
        return large, sp.factor(height.subs(COSINE, START))
    return None


def _end(polynomial: sp.Poly, low: bool) -> int:
    powers = [m[0] for m in polynomial.monoms()]
    return min(powers) if low else max(powers)


def _common_sign(polynomial: sp.Poly) -> int:
    """The sign of all coefficients; zero where they differ or one is not seen."""
    signs = {_sign(c) for c in polynomial.coeffs()}
    return signs.pop() if len(signs) == 1 else 0


def _sign(expression: sp.Expr) -> int:
    """The sign at every angle in between, -1 < g < 1; zero where it changes or is not seen."""
    constant, factors = sp.factor_list(expression)
    sign = int(sp.sign(constant))
    for factor, power in factors:
        sign *= _sign_of_factor(sp.sympify(factor)) ** int(power)
    return sign


def _sign_of_factor(factor: sp.Expr) -> int:
    if not factor.has(COSINE):
        return 1 if factor.is_positive else -1 if factor.is_negative else 0
    if factor.free_symbols != {COSINE} or not factor.is_polynomial(COSINE):
        return 0
    between = sp.Poly(factor, COSINE)
    ends = sum(between.eval(end) == 0 for end in (-1, 1))
    return 0 if between.count_roots(-1, 1) > ends else int(sp.sign(between.eval(0)))

"""Scalar functions of one variable have a stable form, and so have their derivatives.

Input: a SymPy function.  Output: the same function, written through tanh where exponentials would
overflow, and derivatives of that form.
"""

from __future__ import annotations

from functools import lru_cache

import sympy as sp

S = sp.Symbol("s", real=True)


@lru_cache(maxsize=64)
def stable_body(body: sp.Lambda) -> sp.Lambda:
    """The same function through tanh where exponentials would overflow."""
    plain = body(S)
    if plain.has(sp.exp) and not all(_falls(e.args[0]) for e in plain.atoms(sp.exp)):
        written = plain.rewrite(sp.tanh)
        turned = sp.simplify(written)
        if turned.has(sp.cosh, sp.sinh, sp.coth):  # shorter, but they overflow
            turned = sp.cancel(written)
        if not turned.has(sp.exp):
            return sp.Lambda(S, turned)
    return sp.Lambda(S, plain)


def _falls(exponent: sp.Expr) -> bool:
    """Does a polynomial go to minus infinity on both sides?"""
    poly = exponent.as_poly(S)
    return bool(poly is not None and poly.degree() % 2 == 0 and poly.LC().is_negative)


def regular_order(body: sp.Lambda, order: int) -> int:
    """The highest derivative, up to `order`, for which no jump has been differentiated."""
    while order and derivative_of(body, order)(S).has(sp.DiracDelta):
        order -= 1
    return order


KINKS = (sp.Abs, sp.Max, sp.Min, sp.sign, sp.Heaviside, sp.Piecewise)


@lru_cache(maxsize=64)
def kinks_of(body: sp.Lambda) -> tuple[sp.Expr, ...]:
    """Where a function is not smooth: zeros of what stands inside abs, max, sign and steps."""
    plain = body(S)
    zeros: set[sp.Expr] = set()
    for part in plain.atoms(*KINKS):
        if isinstance(part, (sp.Max, sp.Min)):
            inside = [a - b for n, a in enumerate(part.args) for b in part.args[:n]]
        elif isinstance(part, sp.Piecewise):
            inside = [
                c.lhs - c.rhs for _, c in part.args if isinstance(c, sp.core.relational.Relational)
            ]
        else:
            inside = [part.args[0]]
        for expression in inside:
            zeros.update(z for z in sp.solve(expression, S) if z.is_real)
    return tuple(sorted(zeros, key=sp.default_sort_key))


@lru_cache(maxsize=64)
def derivative_of(body: sp.Lambda, order: int) -> sp.Lambda:
    """The derivative of an order, in the stable form."""
    if order == 0:
        return stable_body(body)
    slope = derivative_of(body, order - 1)(S).diff(S)
    if slope.has(sp.tanh):
        slope = sp.cancel(slope)  # (1 - t^2) / (1 - t) loses every digit in the tail
    # a root or a quotient of s is left as it is: multiplied out, it grows without end
    roots = [e for e in slope.atoms(sp.Pow) if e.base.has(S) and not e.exp.is_nonnegative]
    return sp.Lambda(S, sp.expand_mul(slope) if roots else sp.expand(slope))


@lru_cache(maxsize=64)
def singular_points(body: sp.Lambda) -> tuple[sp.Expr, ...] | None:
    """Real points where a function of one variable is not smooth; None: not all of them known."""
    plain = stable_body(body)(S)
    inside = [
        p.base
        for p in plain.atoms(sp.Pow)
        if p.base.has(S) and not (p.exp.is_Integer and p.exp.is_nonnegative)
    ]
    inside += [e.args[0] for e in plain.atoms(sp.log)]
    found = set(kinks_of(body))
    for base in inside:
        try:
            zeros = sp.solve(base, S)
        except NotImplementedError:
            if _vanishes(base):
                return None
            continue
        for zero in zeros:
            if zero.is_real:
                found.add(zero)
            elif zero.is_real is None and _vanishes(base):
                return None
    return tuple(sorted(found, key=sp.default_sort_key))


def _vanishes(base: sp.Expr) -> bool:
    """Does it change its sign on a grid, at parameters of size one?"""
    import numpy as np

    f = sp.lambdify(S, base.xreplace({p: sp.Integer(1) for p in base.free_symbols - {S}}), "numpy")
    with np.errstate(all="ignore"):
        values = np.real(np.asarray(f(np.linspace(-60, 60, 4001)), complex))
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() < 0 < values.max())

"""Scalar functions of one variable: a stable form and its derivatives.

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
    if plain.has(sp.exp):
        turned = sp.simplify(plain.rewrite(sp.tanh))
        if not turned.has(sp.exp):
            return sp.Lambda(S, turned)
    return sp.Lambda(S, plain)


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
    return sp.Lambda(S, sp.expand(slope))

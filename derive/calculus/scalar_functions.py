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


@lru_cache(maxsize=64)
def derivative_of(body: sp.Lambda, order: int) -> sp.Lambda:
    """The derivative of an order, in the stable form."""
    if order == 0:
        return stable_body(body)
    return sp.Lambda(S, sp.expand(derivative_of(body, order - 1)(S).diff(S)))

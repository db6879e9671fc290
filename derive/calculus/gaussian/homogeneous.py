"""Functions that scale: f(l s) = l^p f(s) for l > 0, as relu, |s| and their powers.

Input: a function of one variable and the order k of a derivative.  Output: E f^(k)(s) over a normal
s of mean zero and variance v, as (factor, power of v); None where it is no whole power of v.

On s > 0 the function is a s^p, on s < 0 it is b |s|^p, so f^(k) is p! / (p - k)! a s^(p - k) there
and (-1)^k as much of b here, and the half moments of the normal law do the rest.
"""

from __future__ import annotations

from functools import lru_cache

import sympy as sp

T = sp.Symbol("t", positive=True)


@lru_cache(maxsize=256)
def homogeneous_mean(body: sp.Lambda, order: int) -> tuple[sp.Expr, int] | None:
    sides = [_monomial(body(side * T)) for side in (1, -1)]
    if None in sides:
        return None
    (a, p), (b, q) = sides  # type: ignore[misc]
    degree = q if a == 0 else p
    if (a != 0 and b != 0 and p != q) or not degree.is_Integer or not 0 <= order <= degree:
        return None
    left = int(degree) - order
    # at left = 0 the derivative may jump, and has a value but at zero; below, it is no function
    if left % 2:
        return None
    size = a + (-1) ** order * b
    moment = sp.factorial2(left - 1) / sp.Integer(2)  # of s^left over half of the law
    return size * sp.ff(degree, order) * moment, left // 2


def _monomial(value: sp.Expr) -> tuple[sp.Expr, sp.Expr] | None:
    """(a, p) of a t^p."""
    value = sp.expand(value)
    if value == 0:
        return sp.Integer(0), sp.Integer(0)
    factor, power = value.as_coeff_exponent(T)
    return None if factor.has(T) else (factor, power)


__all__ = ["homogeneous_mean"]

"""How angles close: the reduced rates near consensus, and the tail as t -> oo.

Input: `EqualAngles`.  Output: `Closing`: the rate at which a small u = 1 - rho decays, at radius r
where the norm is free, and how u goes to zero, by dominant balance of the leading terms: of u in
rho', and where there is a radius, of r -> oo in r' and in the rate.  Raises `NoBalance` where the
leading terms are no powers.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.methods.token_flow.equal_angles import RADIUS, RHO, EqualAngles
from derive.methods.token_flow.tidy import tidy

ORDERS = 4  # of u in rho' that are looked at
U = sp.Symbol("u", positive=True)


class NoBalance(Exception):
    """Why no tail is said."""


@dataclass(frozen=True)
class Closing:
    """u' = -rate u^order + ...; `kind`: "exponential" (u ~ e^(-exponent t)), "power" (u ~
    t^(-exponent)), "open" (u does not go to zero), or "repelling" (u grows); `radius`: r' ~ speed
    r^power, or none; `if_positive`: the sign of the rate is one of the parameters'."""

    rate: sp.Expr
    order: int
    kind: str
    exponent: sp.Expr
    radius: tuple[sp.Expr, sp.Expr] | None = None
    if_positive: bool = False


def closing(rates: EqualAngles) -> Closing:
    """The leading terms at rho = 1.  Raises NoBalance."""
    at_one = rates.cosine.subs(RHO, 1)
    if sp.simplify(at_one) != 0:
        raise NoBalance("tokens at one point do not stay together")
    for order in range(1, ORDERS + 1):
        slope = rates.cosine.diff(RHO, order).subs(RHO, 1)
        coefficient = tidy(slope * (-1) ** order / sp.factorial(order))
        if coefficient.has(sp.nan, sp.zoo, sp.oo):
            raise NoBalance("rho' is no power series about rho = 1")
        if coefficient != 0:
            break
    else:
        raise NoBalance(f"rho' vanishes at rho = 1 to order {ORDERS}")
    if coefficient.is_negative:
        return Closing(coefficient, order, "repelling", sp.Integer(0))
    if rates.radius is None:
        open_sign = not coefficient.is_positive
        if order == 1:
            return Closing(coefficient, 1, "exponential", coefficient, None, open_sign)
        exponent = sp.Rational(1, order - 1)
        return Closing(coefficient, order, "power", exponent, None, open_sign)
    if order != 1:
        raise NoBalance("rho' has no linear term at rho = 1, with a radius that changes")
    growth = tidy(rates.radius.subs(RHO, 1))
    second = tidy(rates.cosine.diff(RHO, 2).subs(RHO, 1) / 2)
    slope = tidy(rates.radius.diff(RHO).subs(RHO, 1))
    next_terms = (second / coefficient, slope / growth if growth != 0 else sp.Integer(0))
    return _with_radius(coefficient, growth, next_terms)


def _with_radius(rate: sp.Expr, growth: sp.Expr, next_terms: tuple[sp.Expr, ...]) -> Closing:
    """u' = -rate(r) u, r' = growth(r) at rho = 1: d log u / dr = -rate / growth.

    `next_terms`: what stands before u in the relative corrections of both; they must vanish as
    r -> oo along the tail, or the linear terms do not decide.
    """
    if growth == 0:
        raise NoBalance("the radius stands still at consensus: the rate depends on where it ends")
    if not growth.is_positive:
        raise NoBalance(f"at consensus r' = {growth}, which is not seen to be positive")
    speed, power = _leading(growth)
    ratio, decay = _leading(tidy(rate / growth))
    if power > 1:
        raise NoBalance("the radius is infinite at a finite time")
    if decay < -1:
        return Closing(rate, 1, "open", sp.Integer(0), (speed, power))
    if decay > -1:
        raise NoBalance("angles close faster than any power of the radius")
    for term in next_terms:
        if term != 0 and not (ratio - _leading(tidy(term))[1]).is_positive:
            raise NoBalance(
                f"u falls like r^-({ratio}), and the next term grows by {tidy(term)} before u: "
                "the linear terms do not decide"
            )
    if power == 1:
        return Closing(rate, 1, "exponential", tidy(ratio * speed), (speed, power))
    exponent = tidy(ratio / (1 - power))
    return Closing(rate, 1, "power", exponent, (speed, power))


def _leading(expression: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """(c, p) of c r^p as r -> oo."""
    slope = sp.limit(RADIUS * expression.diff(RADIUS) / expression, RADIUS, sp.oo)
    if not slope.is_Rational:
        raise NoBalance(f"{expression} is no power of r for large r")
    coefficient = sp.limit(expression / RADIUS**slope, RADIUS, sp.oo)
    if not (coefficient.is_finite and coefficient != 0):
        raise NoBalance(f"{expression} is no power of r for large r")
    return tidy(coefficient), slope

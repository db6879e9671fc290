"""Scalar functions in a velocity: which derivative is integrable, and where the route ends.

Input: a function f by formula.  Output: the smallest k for which f^(k) is integrable with light
tails, and the Taylor coefficients of order below k.  Kinks and slow tails are named (NoTilt).
"""

from __future__ import annotations

from dataclasses import dataclass

import mpmath
import numpy as np
import sympy as sp

from derive.calculus.arrays.scalar_functions import derivative_of, kinks_of, stable_body
from derive.calculus.gaussian.tilt import NoTilt
from derive.methods.gaussian_closure.fields import Rule

HIGHEST = 6
HIGHEST_FREQUENCY = 160.0
FAR = (40, 60)


@dataclass(frozen=True)
class FourierRule:
    """f, k, the Taylor coefficients f^(j)(0) / j! for j < k, and f^(k)."""

    name: str
    rule: Rule
    order: int
    taylor: tuple[sp.Expr, ...]
    derivative: sp.Lambda
    reach: float
    support: float
    nodes: int


def fourier_rule(rule: Rule) -> FourierRule:
    """The split of f into a Taylor part and a Fourier integral."""
    s = sp.Symbol("s", real=True)
    body = stable_body(rule.body)(s)
    if rule.body.free_symbols:
        raise NoTilt(f"{rule.name} has a parameter inside: its transform is no table")
    if kinks_of(rule.body):
        raise NoTilt(f"{rule.name} has a kink: its transform decays slowly")
    taylor: list[sp.Expr] = []
    current = body
    for order in range(HIGHEST + 1):
        if _light_tails(current, s):
            reach, support = _extent(rule.name, current, s)
            derivative = sp.Lambda(s, current)
            nodes = _nodes(current, s, order, reach, support)
            return FourierRule(
                rule.name, rule, order, tuple(taylor), derivative, reach, support, nodes
            )
        taylor.append(sp.nsimplify(current.subs(s, 0)) / sp.factorial(order))
        current = derivative_of(rule.body, order + 1)(s)
    raise NoTilt(f"no derivative of {rule.name} up to order {HIGHEST} has light tails")


def _extent(name: str, body: sp.Expr, s: sp.Symbol) -> tuple[float, float]:
    """Where the transform of f^(k), and f^(k) itself, fall below rounding: frequency and s."""
    f = sp.lambdify(s, body, ["scipy", "numpy"])
    far = np.linspace(-max(FAR), max(FAR), 6001)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.nan_to_num(np.asarray(f(far), float) + np.zeros_like(far))
    above = np.abs(values) > 1e-18 * np.abs(values).max()
    support = float(np.ceil(np.abs(far[above]).max())) + 1
    u = np.arange(0.0, HIGHEST_FREQUENCY, 1.0)
    transform = np.abs(np.exp(-1j * np.outer(u, far)) @ values) * (far[1] - far[0])
    floor = 3e-14 * np.abs(values).sum() * (far[1] - far[0])
    # the first of ten frequencies below the floor: far out, rounding of u s is the larger
    quiet = np.convolve(transform < floor, np.ones(10), mode="valid") == 10
    if not quiet.any():
        raise NoTilt(f"the transform of {name} decays slowly")
    # below the floor the tail still falls; the last digits come from continuing it
    reach = float(u[np.argmax(quiet)]) + 2
    return round(1.3 * reach, 1), support


COUNTS = (24, 32, 40, 48, 64, 96, 128)


def _nodes(body: sp.Expr, s: sp.Symbol, order: int, reach: float, support: float) -> int:
    """The smallest number of frequencies that integrates a trial average to 1e-12.

    Trial: characteristic functions e^{iru} / sqrt(1 + r^2 u^2), singular at the distance 1/r, for
    arguments of size r = 1, 2, 4; the rule is the one of kernels, midpoints in t, u = sinh(t) /
    (1 + r).
    """
    half = int(np.ceil(support * 2.5 * reach / (2 * np.pi)))
    grid = np.linspace(-support, support, 2 * half + 1)
    f = sp.lambdify(s, body, ["scipy", "numpy"])
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.nan_to_num(np.asarray(f(grid), float) + np.zeros_like(grid)) * support / half

    def trial(r: float, count: int) -> float:
        scale = 1 / (1 + r)
        h = np.arcsinh(reach / scale) / count
        t = h * (np.arange(count) + 0.5)
        u = scale * np.sinh(t)
        rest = np.exp(1j * r * u) / np.sqrt(1 + (r * u) ** 2)
        # its own Taylor part: 1, iru, -r^2 u^2, ...
        series = np.polynomial.polynomial.polymul(
            [(1j * r) ** n / float(sp.factorial(n)) for n in range(HIGHEST)],
            [float(sp.binomial(-0.5, n // 2)) * r**n if n % 2 == 0 else 0 for n in range(HIGHEST)],
        )
        rest = rest - np.polynomial.polynomial.polyval(u, series[:order] if order else [0])
        transform = np.exp(-1j * np.outer(u, grid)) @ values * scale * np.cosh(t) * h
        return float(np.real(transform * rest / (1j * u) ** order).sum())

    for count in COUNTS[:-1]:
        gaps = []
        for r in (1.0, 2.0, 4.0):
            best = trial(r, 4 * COUNTS[-1])
            gaps.append(abs(trial(r, count) - best) / max(abs(best), 1e-3))
        if max(gaps) < 1e-12:
            return count
    return COUNTS[-1]


def _light_tails(body: sp.Expr, s: sp.Symbol) -> bool:
    f = sp.lambdify(s, body, "mpmath")
    with mpmath.workdps(60):
        return all(abs(f(sign * mpmath.mpf(x))) < 1e-15 for x in FAR for sign in (-1, 1))

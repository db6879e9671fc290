"""Numeric checks of a token flow's steps: the definition's text, run on points, on the other side.

Input: what was derived.  Output: `Check`s.  The text knows of no inner products, reductions,
energies or harmonics; its derivatives are central differences.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.draws import generator
from derive.methods.common.record import Check
from derive.methods.token_flow.energy import Gradient
from derive.methods.token_flow.equal_angles import RADIUS, RHO, EqualAngles
from derive.methods.token_flow.equivariance import turned
from derive.methods.token_flow.gram import projected
from derive.methods.token_flow.instances import (
    FlowInstance,
    at,
    at_tokens,
    instance,
    simplex,
    tangent,
    text_gram_rate,
    text_noise,
    text_velocity,
)
from derive.methods.token_flow.names import COUNT, Names
from derive.methods.token_flow.scalar_values import number
from derive.methods.token_flow.two_clusters import COSINE, MASS, TwoClusters
from derive.notation.flows.model import FlowDefinition

EXACT = 1e-11
DIFFERENCE = 1e-4  # step of central differences: their error is about its square
BY_DIFFERENCES = 1e-6


def residual(found: np.ndarray, wanted: np.ndarray) -> float:
    """Relative distance; infinite where a value is not a number or has another shape."""
    if np.shape(found) != np.shape(wanted):
        return float("inf")
    scale = max(1e-3, float(np.max(np.abs(wanted), initial=0.0)))
    size = float(np.max(np.abs(np.asarray(found) - wanted), initial=0.0)) / scale
    return size if np.isfinite(size) else float("inf")


def read(velocity: Expression, names: Names, book: Book) -> Check:
    """The expression of the velocity and, on the sphere, its projection against the text."""
    worst = 0.0
    for seed in (1, 2):
        one = instance(names.model, seed)
        worst = max(worst, residual(at(one, velocity, book), text_velocity(one)))
        if names.model.sphere:
            found = at(one, projected(velocity, names), book)
            worst = max(worst, residual(found, tangent(one)))
    return Check("the text on tokens with masses", worst, EXACT)


def equivariant(model: FlowDefinition, turning: tuple[str, ...]) -> Check:
    """Turn tokens and the arrays: the text's velocity turns."""
    one = instance(model, 3)
    d = one.x.shape[1]
    rotation = np.linalg.qr(generator(85, d).standard_normal((d, d)))[0]
    arrays = dict(one.arrays)
    for m in model.matrices:
        if m.data in turning:
            arrays[m.data] = turned(arrays[m.data], m.shape, model.state_dim, rotation)
    other = replace(one, x=one.x @ rotation.T, arrays=arrays)
    error = residual(text_velocity(other), text_velocity(one) @ rotation.T)
    turned_noise = rotation @ text_noise(one) @ rotation.T
    error = max(error, residual(text_noise(other), turned_noise))
    return Check("tokens and arrays turned: the text's velocity turns", error, EXACT)


def gram(rate: Expression, names: Names, book: Book) -> Check:
    """R' in inner products against the text's tokens, in two dimensions of space."""
    worst = 0.0
    for seed, d in ((4, 2), (5, 4)):
        one = instance(names.model, seed, d=d)
        worst = max(worst, residual(at(one, rate, book), text_gram_rate(one)))
    return Check("inner products of the text's tokens", worst, EXACT)


def not_by_products(names: Names) -> Check:
    """Tokens and the same tokens turned have one Gram matrix: the text tells them apart."""
    one = instance(names.model, 6)
    d = one.x.shape[1]
    rotation = np.linalg.qr(generator(86, d).standard_normal((d, d)))[0]
    other = replace(one, x=one.x @ rotation.T)
    gap = residual(text_gram_rate(other), text_gram_rate(one))
    what = "turned tokens have one Gram matrix and, by the text, two rates of it (1e-6 / distance)"
    return Check(what, 1e-6 / max(gap, 1e-300), 1.0)


def equal_angles(rates: EqualAngles, names: Names) -> Check:
    """All pairs of the text's tokens at equal angles against the reduced rates."""
    worst = 0.0
    for seed, tokens, cosine in ((7, 4, 0.3), (8, 6, -0.1), (9, 3, 0.8)):
        radius = 1.0 if names.model.sphere else 1.3
        one = simplex(instance(names.model, seed, d=tokens), tokens, cosine, radius)
        found = text_gram_rate(one)
        values = {RHO: cosine, RADIUS: radius, COUNT: tokens, **one.numbers}
        rate = number(rates.cosine, values)
        grows = 0.0 if rates.radius is None else number(rates.radius, values)
        own = 2 * radius * grows
        pair = radius**2 * rate + cosine * own
        wanted = np.full((tokens, tokens), pair) + (own - pair) * np.eye(tokens)
        worst = max(worst, residual(found, wanted))
    return Check("the text's tokens at equal angles: every pair", worst, EXACT)


def two_clusters(found: TwoClusters, names: Names) -> Check:
    worst = 0.0
    for seed, mass, cosine in ((10, 0.3, 0.2), (11, 0.6, -0.5)):
        one = instance(names.model, seed, tokens=2, d=2)
        x = np.array([[1.0, 0.0], [cosine, np.sqrt(1 - cosine**2)]])
        one = at_tokens(one, x, np.array([mass, 1 - mass]))
        rate = number(found.rate, {COSINE: cosine, MASS: mass, **one.numbers})
        worst = max(worst, residual(text_gram_rate(one)[0, 1], np.asarray(rate)))
    return Check("two of the text's tokens with masses", worst, EXACT)


def merging_exponent(found: TwoClusters, names: Names) -> Check:
    """log of the integral of dg / g' at two large values of the parameter, by quadrature."""
    assert found.exponent is not None
    large, exponent = found.exponent
    one = instance(names.model, 12)
    rate = found.rate.subs(MASS, sp.Rational(1, 2))
    start, sizes = 0.25, (150.0, 300.0)
    times = [_log_time(rate, start, {**one.numbers, large: p}) for p in sizes]
    slope = (times[1] - times[0]) / (sizes[1] - sizes[0])
    wanted = float(exponent.subs(sp.Symbol("g_0", real=True), start))
    error = abs(slope - wanted) / max(1.0, abs(wanted))
    return Check(f"merging times at {large} = 150 and 300, by quadrature", error, 0.03)


def _log_time(rate: sp.Expr, start: float, values: dict[sp.Symbol, float]) -> float:
    """log of the integral of dg / g' from start to 1 - 1e-3, the large part taken out."""
    symbols = sorted(rate.free_symbols - {COSINE}, key=str)
    f = sp.lambdify([COSINE, *symbols], rate, "numpy")
    z, w = np.polynomial.legendre.leggauss(25)
    s, w = ((np.arange(16)[:, None] + (z + 1) / 2) / 16).ravel(), np.tile(w / 16, 16)
    # nodes that crowd where the integrand is large: at either end
    g = start + (1 - 1e-3 - start) * s**3 * (10 - 15 * s + 6 * s**2)
    weight = w / 2 * (1 - 1e-3 - start) * 30 * s**2 * (1 - s) ** 2
    logs = -np.log(f(g, *(values[s] for s in symbols))) + np.log(weight)
    top = float(np.max(logs))
    return top + float(np.log(np.sum(np.exp(logs - top))))


def energy(found: Gradient, names: Names, book: Book) -> Check:
    """Differences of the energy against the text: its gradient by tokens, its rate on the way."""
    assert found.energy is not None and found.weight is not None
    worst = 0.0
    for seed in (13, 14):
        one = instance(names.model, seed, tokens=4)
        v, weight = tangent(one), at(one, found.weight, book)
        push = one.mass[:, None] * weight[:, None] * v
        wanted = np.zeros_like(one.x)
        for place in np.ndindex(*one.x.shape):
            step = np.zeros_like(one.x)
            step[place] = 1.0
            if names.model.sphere:  # along the tangent, where all tokens stay
                step -= (step * one.x).sum(1, keepdims=True) * one.x
            wanted[place] = _slope_along(one, found.energy, book, step)
        worst = max(worst, residual(push, wanted))
        dissipated = float((one.mass * weight * (v * v).sum(1)).sum())
        along = _slope_along(one, found.energy, book, v)
        worst = max(worst, residual(np.asarray(along), np.asarray(dissipated)))
        worst = worst if np.min(weight) > 0 or not found.positive else float("inf")
    what = "differences of E against the text's velocity, and along it"
    return Check(what, worst, BY_DIFFERENCES)


def _slope_along(one: FlowInstance, energy: Expression, book: Book, step: np.ndarray) -> float:
    values = [
        float(at(at_tokens(one, one.x + sign * DIFFERENCE * step), energy, book))
        for sign in (1.0, -1.0)
    ]
    return (values[0] - values[1]) / (2 * DIFFERENCE)


def closed(weight: Expression, names: Names, book: Book, gradient: bool) -> Check:
    """The curl of m_a g_a v_a by differences of the text, in tangential directions."""
    one = instance(names.model, 15, tokens=3)
    rng = generator(87, 1)
    largest, scale = 0.0, 1e-3
    for _ in range(4):
        first, second = rng.standard_normal((2, *one.x.shape))
        if names.model.sphere:
            first, second = (s - (s * one.x).sum(1, keepdims=True) * one.x for s in (first, second))
        there = _turn(one, weight, book, first, second)
        back = _turn(one, weight, book, second, first)
        largest, scale = max(largest, abs(there - back)), max(scale, abs(there), abs(back))
    largest /= scale
    if gradient:
        return Check("curl of the text's weighted velocity by differences", largest, BY_DIFFERENCES)
    what = "curl of the text's velocity by differences does not vanish (1e-5 / size)"
    return Check(what, 1e-5 / max(largest, 1e-300), 1.0)


def _turn(
    one: FlowInstance, weight: Expression, book: Book, along: np.ndarray, against: np.ndarray
) -> float:
    """Derivative along a step of <m g v, another step>, both fixed in the ambient space."""
    out = []
    for sign in (1.0, -1.0):
        moved = replace(one, x=one.x + sign * DIFFERENCE * along)
        push = one.mass[:, None] * at(moved, weight, book)[:, None] * text_velocity(moved)
        out.append(float((push * against).sum()))
    return (out[0] - out[1]) / (2 * DIFFERENCE)

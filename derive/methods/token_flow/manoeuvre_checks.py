"""Manoeuvres beside the definition's text, run on tokens at the parameters that are claimed.

The text knows of no mean, gate or great circle; rates along a way are integrated by quadrature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Tensor
from derive.draws import generator
from derive.methods.common.record import Check
from derive.methods.token_flow.checks import BY_DIFFERENCES, DIFFERENCE, EXACT, residual
from derive.methods.token_flow.durations import END, START
from derive.methods.token_flow.gram import projected
from derive.methods.token_flow.instances import (
    FlowInstance,
    at,
    at_tokens,
    instance,
    on_home,
    tangent,
)
from derive.methods.token_flow.manoeuvres import (
    C_SPLIT,
    KEPT,
    MEAN,
    Z0,
    Z1,
    G,
    H,
    K,
    Manoeuvres,
    S,
    Z,
    direction,
    pull_values,
    split_values,
)
from derive.methods.token_flow.names import Names

BY_QUADRATURE = 1e-9
THRESHOLD = 0.2  # c of a split, h of a pull


def steered(
    one: FlowInstance, values: Mapping[Tensor, Expression], book: Book, **pieces: np.ndarray
) -> FlowInstance:
    """The instance with these matrices, all others zero."""
    arrays = {name: np.zeros_like(a) for name, a in one.arrays.items()}
    for tensor, value in values.items():
        arrays[tensor.name] = np.array(at(one, value, book, **pieces))
    return replace(one, arrays=arrays)


def uniform(found: Manoeuvres, names: Names, book: Book) -> Check:
    """The text where the matrices of the scores vanish."""
    worst = 0.0
    for seed in (91, 92):
        one = instance(names.model, seed)
        still = {t.name: np.zeros_like(one.arrays[t.name]) for t in found.levers.scores}
        one = replace(one, arrays=one.arrays | still)
        value = at(one, projected(found.levers.uniform, names), book)
        worst = max(worst, residual(value, tangent(one)))
    return Check("the text where the matrices of the scores vanish", worst, EXACT)


def split_at(
    found: Manoeuvres, one: FlowInstance, names: Names, book: Book, c: float = THRESHOLD
) -> tuple[FlowInstance, np.ndarray]:
    """The instance under a split, and its alpha."""
    d = one.x.shape[1]
    alpha = on_home(names.model, generator(89, d).standard_normal((1, d)))[0]
    tensor = direction("alpha", names)
    values = split_values(found.levers, tensor, sp.Rational(str(c)))
    return steered(one, values, book, **{tensor.name: alpha}), alpha


def pull_at(
    found: Manoeuvres, one: FlowInstance, names: Names, book: Book, h: float = THRESHOLD
) -> tuple[FlowInstance, np.ndarray, np.ndarray]:
    """The instance under a pull, its omega and z."""
    pair = on_home(names.model, generator(90, one.x.shape[1]).standard_normal((2, one.x.shape[1])))
    omega, z = direction("omega", names), direction("zeta", names)
    values = pull_values(found.levers.gate, omega, z, sp.Rational(str(h)))
    there = steered(one, values, book, **{omega.name: pair[0], z.name: pair[1]})
    return there, pair[0], pair[1]


def function(expression: sp.Expr, *symbols: sp.Symbol):  # type: ignore[no-untyped-def]
    return sp.lambdify(symbols, expression, "numpy")


def split(found: Manoeuvres, names: Names, book: Book) -> Check:
    """Every token of a law, and a law at one point of the threshold, which rests."""
    worst = 0.0
    for seed, d in ((93, 3), (94, 4)):
        one, alpha = split_at(found, instance(names.model, seed, d=d), names, book)
        z, mean = one.x @ alpha, float(one.mass @ one.x @ alpha)
        along = tangent(one) @ alpha
        rate = function(found.split_rate, Z, MEAN, C_SPLIT)(z, mean, THRESHOLD)
        shift = float(found.shift.subs({MEAN: mean, C_SPLIT: THRESHOLD}))
        worst = max(worst, residual(along, rate))
        worst = max(worst, residual(along / (1 - z**2), np.full(len(z), shift)))
        across = one.x - z[:, None] * alpha
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        resting = THRESHOLD * alpha + np.sqrt(1 - THRESHOLD**2) * across[:1]
        still = at_tokens(one, np.repeat(resting, len(z), 0))
        worst = max(worst, float(np.abs(tangent(still)).max()))
    return Check("the text's tokens under a split, and at its threshold", worst, EXACT)


def pull(found: Manoeuvres, names: Names, book: Book) -> Check:
    """Tokens outside rest, those inside go straight to omega; both cosines' rates."""
    worst = 0.0
    for seed, d in ((95, 3), (96, 4)):
        one, omega, z = pull_at(found, instance(names.model, seed, 12, d), names, book)
        v, s, g = tangent(one), one.x @ omega, one.x @ z
        outside = g <= THRESHOLD
        if not 0 < outside.sum() < len(g):
            return Check("a gate with tokens on both sides", float("inf"), EXACT)
        worst = max(worst, float(np.abs(v[outside]).max()))
        values = (s, g, float(omega @ z), THRESHOLD)
        for rate, towards in zip(found.pull_rates, (omega, z), strict=True):
            worst = max(worst, residual(v @ towards, function(rate, S, G, K, H)(*values)))
        straight = omega - s[:, None] * one.x
        length = (v * straight).sum(1) / (straight**2).sum(1)
        worst = max(worst, residual(v, length[:, None] * straight))
    return Check("the text's tokens under a pull, outside its gate and inside", worst, EXACT)


def kept(found: Manoeuvres, names: Names, book: Book) -> Check:
    """Differences of what is kept, along the text's velocity."""
    one, omega, z = pull_at(found, instance(names.model, 97, 12), names, book)
    value, v = function(found.kept, S, G, K), tangent(one)
    ends = [on_home(names.model, one.x + sign * DIFFERENCE * v) for sign in (1, -1)]
    first, last = (value(x @ omega, x @ z, float(omega @ z)) for x in ends)
    change = np.abs(first - last).max() / (2 * DIFFERENCE) / max(np.abs(v).max(), 1e-3)
    return Check("differences along the text's velocity", float(change), BY_DIFFERENCES)


def reverse(found: Manoeuvres, names: Names) -> Check:
    one = instance(names.model, 98)
    turned = {t.name: -one.arrays[t.name] for t in found.levers.outputs}
    back = tangent(replace(one, arrays=one.arrays | turned))
    return Check("the text with these turned around", residual(back, -tangent(one)), EXACT)


def durations(found: Manoeuvres, names: Names, book: Book) -> Check:
    """The text's rates on the way, integrated by quadrature."""
    one = instance(names.model, 99, 40)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    worst = 0.0
    for z0, z1 in ((THRESHOLD + 0.1, 0.7), (THRESHOLD - 0.1, -0.6)):
        there, alpha = split_at(found, one, names, book)
        z = (z1 - z0) / 2 * nodes + (z0 + z1) / 2
        rates = np.array([_alone(there, alpha, cosine) for cosine in z])
        time = float(found.split_time.subs({Z0: z0, Z1: z1, C_SPLIT: THRESHOLD}))
        worst = max(worst, abs((z1 - z0) / 2 * float((weights / rates).sum()) / time - 1))
    for h in (-0.1, -2.0):
        there, omega, z = pull_at(found, one, names, book, h)
        k = float(omega @ z)
        across = (z - k * omega) / np.sqrt(1 - k * k)
        u = (nodes + 1) / 2
        points = np.tanh(u)[:, None] * omega + across / np.cosh(u)[:, None]
        v = tangent(at_tokens(there, points))
        rates = (v @ omega) / (1 - np.tanh(u) ** 2)
        given = {START: 0.0, END: 1.0, K: k, KEPT: float(np.sqrt(1 - k * k)), H: h}
        whole = complex(found.pull_time.subs(given).evalf())
        worst = max(worst, abs(float((weights / rates).sum()) / 2 / whole - 1))
    worst = worst if np.isfinite(worst) else float("inf")
    return Check("the text's rates on the way, by quadrature", worst, BY_QUADRATURE)


def _alone(one: FlowInstance, alpha: np.ndarray, cosine: float) -> float:
    """d<x, alpha>/dt of a law at one point with that cosine."""
    across = np.linalg.qr(np.stack([alpha, one.x[0]], 1))[0][:, 1]
    x = cosine * alpha + np.sqrt(1 - cosine**2) * across
    return float(tangent(at_tokens(one, np.repeat(x[None], len(one.x), 0)))[0] @ alpha)

"""Checks of the stability of equal angles: the text's tokens, their angles changed a little.

Tokens are made from their inner products; the rates of these are taken from the text's velocity,
and their change by central differences, for every pair of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import sympy as sp

from derive.methods.common.record import Check, worst_of
from derive.methods.token_flow.checks import BY_DIFFERENCES, EXACT, residual
from derive.methods.token_flow.deviations import (
    Deviations,
    least_cosine,
    of_one_token,
    of_pairs,
)
from derive.methods.token_flow.equal_angles import RHO
from derive.methods.token_flow.instances import FlowInstance, instance, text_gram_rate
from derive.methods.token_flow.names import COUNT, Names
from derive.methods.token_flow.scalar_values import number
from derive.methods.token_flow.two_clusters import COSINE, MASS

TOKENS = 5
DRAWS = 40  # of parameters, in search of such that a zero of a rate is a cosine
STEP = 1e-5  # of inner products: differences are off by about its square


def with_products(one: FlowInstance, gram: np.ndarray, mass: np.ndarray) -> FlowInstance:
    """Tokens that have these inner products."""
    values, vectors = np.linalg.eigh(gram)
    x = vectors * np.sqrt(np.maximum(values, 0.0))
    return FlowInstance(one.model, x, mass, one.arrays, one.params)


def rates(found: Deviations, names: Names) -> Check:
    """Every pair's rate along changes of the three kinds."""
    worst = 0.0
    pairs = ~np.eye(TOKENS, dtype=bool)
    for seed, cosine in ((41, 0.3), (42, 0.7)):
        one = instance(names.model, seed, d=TOKENS)
        values = {**one.numbers, RHO: cosine, COUNT: TOKENS}
        kinds = ((lambda a, b: 1), of_one_token, of_pairs)
        for shape, rate in zip(kinds, found.rates, strict=True):
            change = np.array([[shape(a, b) for b in range(TOKENS)] for a in range(TOKENS)]) * pairs
            slope = _slope(one, cosine, change)
            worst = max(worst, residual(slope, number(rate, values) * change))
    what = "differences of the text's tokens about equal angles: every pair"
    return Check(what, worst, BY_DIFFERENCES)


def _slope(one: FlowInstance, cosine: float, change: np.ndarray) -> np.ndarray:
    equal = np.full(TOKENS, 1 / TOKENS)
    base = (1 - cosine) * np.eye(TOKENS) + cosine
    there, back = (
        text_gram_rate(with_products(one, base + sign * STEP * change, equal))
        for sign in (1.0, -1.0)
    )
    return (there - back) / (2 * STEP)


def _where_a_cosine(
    cosine: sp.Expr, names: Names, of: sp.Symbol, tokens: int, given: Mapping[sp.Symbol, float]
) -> tuple[FlowInstance, float] | None:
    """The first draw of the parameters at which so many tokens can have this cosine, and it."""
    for seed in range(43, 43 + DRAWS):
        one = instance(names.model, seed, tokens=tokens, d=tokens)
        values = {s: sp.sympify(v) for s, v in {**one.numbers, **given}.items()}
        at = complex(cosine.xreplace(values))
        if at.imag == 0 and least_cosine(tokens, of) <= at.real <= 1:
            return one, at.real
    return None


def resting(cosine: sp.Expr, names: Names) -> Check | None:
    """Equal angles at this cosine: no inner product of the text's tokens has a rate.  None where
    no parameters were met at which they can have it."""
    worst = 0.0
    for tokens in (4, 6):
        found = _where_a_cosine(cosine, names, RHO, tokens, {COUNT: tokens})
        if found is None:
            return None
        one, at = found
        gram = (1 - at) * np.eye(tokens) + at
        equal = np.full(tokens, 1 / tokens)
        worst = max(worst, float(np.max(np.abs(text_gram_rate(with_products(one, gram, equal))))))
    return Check("the text's tokens at equal angles stand still", worst, EXACT)


def two_resting(cosine: sp.Expr, slope: sp.Expr, names: Names) -> Check | None:
    """Two of the text's clusters at this cosine stand still; beside it they move by the slope.
    None where no parameters were met at which it is a cosine."""
    still = beside = 0.0
    for mass in (0.3, 0.6):
        found_at = _where_a_cosine(cosine, names, COSINE, 2, {})
        if found_at is None:
            return None
        one, at = found_at
        values = {**one.numbers, MASS: mass}
        h = STEP if at < 0.5 else -STEP
        rates_ = [_of_two(one, at + shift, mass) for shift in (0.0, h, 2 * h)]
        still = max(still, abs(rates_[0]))
        # from one side, since cosines end at one; what is of second order is taken out
        found = (2 * rates_[1] - rates_[2] / 2 - 1.5 * rates_[0]) / h
        wanted = number(slope, values)
        beside = max(beside, abs(found - wanted) / max(1.0, abs(wanted)))
    return worst_of(
        (
            Check("two of the text's clusters at rest", still, EXACT),
            Check("two of the text's clusters beside it", beside, BY_DIFFERENCES),
        )
    )


def _of_two(one: FlowInstance, cosine: float, mass: float) -> float:
    gram = np.array([[1.0, cosine], [cosine, 1.0]])
    return float(text_gram_rate(with_products(one, gram, np.array([mass, 1 - mass])))[0, 1])


def by_pairs(one: FlowInstance) -> np.ndarray:
    """Derivative (pairs, pairs) of the text's rates by the cosines of its tokens, by differences.

    Tokens are made anew from their inner products, in as many dimensions as there are tokens.
    """
    gram = one.x @ one.x.T
    n = len(gram)
    rows, columns = np.triu_indices(n, 1)
    out = np.zeros((len(rows), len(rows)))
    for column, (a, b) in enumerate(zip(rows, columns, strict=True)):
        change = np.zeros((n, n))
        change[a, b] = change[b, a] = STEP
        rates_ = [text_gram_rate(with_products(one, gram + s * change, one.mass)) for s in (1, -1)]
        out[:, column] = ((rates_[0] - rates_[1]) / (2 * STEP))[rows, columns]
    return out

"""Takes Gaussian expectations of index expressions by Isserlis' theorem, in any dimension.

Input: an expression and the names of the Gaussian tensors to average over.  Output: the exact
expectation, as an expression in what remains.  Closed loops of indices become powers of the
dimensions, so the result is exact in every dimension (no large-width approximation is made).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import sympy as sp

from derive.calculus.gaussian.envelopes import average_envelopes
from derive.calculus.gaussian.kinks import average_kinks
from derive.calculus.gaussian.pairings import covariance, pairings
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factor, Factors, Index, Tensor


def expectation(expression: Expression, over: Iterable[Tensor]) -> Expression:
    """E of `expression` over independent Gaussian tensors, everything else held fixed.

    Tensors inside kinked functions come last: the others join the units first.
    """
    kinked = {t.meaning[1] for t in expression.tensors() if t.kind == "magnitude"}
    if any(t.kind == "envelope" for t in expression.tensors()):
        expression = expression.map_terms(average_envelopes)
    for tensor in sorted(over, key=lambda t: (t in kinked, t.name)):
        expression = expression.map_terms(partial(_average, tensor))
    return expression


def _average(tensor: Tensor, coeff: sp.Expr, factors: Factors) -> Iterable[tuple[sp.Expr, Factors]]:
    if any(f.tensor.kind == "magnitude" and f.tensor.meaning[1] == tensor for f in factors):
        yield from average_kinks(coeff, factors, tensor)
        return
    drawn = [f for f in factors if f.tensor == tensor]
    rest = tuple(f for f in factors if f.tensor != tensor)
    if len(drawn) % 2:
        return
    for pairing in pairings(len(drawn)):
        products: list[Factors] = [rest]
        for p, q in pairing:
            alternatives = covariance(drawn[p], drawn[q])
            products = [done + deltas for done in products for deltas in alternatives]
        for product in products:
            yield coeff, product


def contract_gram(expression: Expression, row: Tensor, gram: Tensor, weight: sp.Expr) -> Expression:
    """Replace sum_i row[a, i] row[b, i] by weight * gram[a, b].

    Only an index that occurs exactly twice, both times in the last slot of `row`, is a Gram
    contraction; any other occurrence is left as it stands.
    """

    def rule(coeff: sp.Expr, factors: Factors) -> Iterable[tuple[sp.Expr, Factors]]:
        work = list(factors)
        while True:
            pair = _gram_pair(work, row, expression.free)
            if pair is None:
                break
            first, second = pair
            work.remove(first)
            work.remove(second)
            work.append(gram[first.indices[0], second.indices[0]])
            coeff = coeff * weight
        yield coeff, tuple(work)

    free = expression.free
    if not any(_gram_pair(list(factors), row, free) for _, factors in expression.terms):
        return expression
    return expression.map_terms(rule)


def _gram_pair(
    factors: list[Factor], row: Tensor, free: tuple[Index, ...]
) -> tuple[Factor, Factor] | None:
    seen: dict[Index, list[tuple[Factor, int]]] = {}
    if sum(f.tensor == row for f in factors) < 2:
        return None
    for factor in factors:
        for slot, index in enumerate(factor.indices):
            seen.setdefault(index, []).append((factor, slot))
    for index, places in seen.items():
        if index in free or len(places) != 2:
            continue
        if all(f.tensor == row and slot == 1 for f, slot in places):
            return places[0][0], places[1][0]
    return None

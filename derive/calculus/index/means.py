"""Rewrites sums over tokens in means and centred parts, where that makes an expression shorter.

Input: an expression.  Output: one of equal value with no more terms, in which

    diag X [k]      is X[k,k]
    centring [k,l]  is delta[k,l] - 1/m, the projection off the constant vector (H, in matrix words)
    centred C [r,k,l] is C[r,k] delta[k,l] - C[r,k] C[r,l] for a pattern C, the covariance of a
                    token under the weights of row r

Every sum over a pair of legs is first split into the two; what does not need the split is then put
together again.  `plain` takes it all back, and `shortest` proves with it that nothing was lost.

Not rewritten: legs over which three or more tensors are summed together.
"""

from __future__ import annotations

import itertools
from collections import Counter
from functools import cache
from typing import NamedTuple

import sympy as sp

from derive.calculus.index.canonical import canonical
from derive.calculus.index.expressions import Expression, collect, normal_coefficient
from derive.calculus.index.factors import (
    Factor,
    Factors,
    Index,
    Tensor,
    Terms,
    delta_tensor,
    fresh,
)
from derive.errors import CheckFailed

LIMIT = 5000  # terms at any time beyond which splitting has not found structure
MOST_SPLIT = 500  # terms in the end beyond which putting together again takes minutes

CENTRING, DIAGONAL, CENTRED = "centring", "diagonal", "centred pattern"


class _Edge(NamedTuple):
    """A place where a sum may be split or put together: `kind`, and a dummy or a factor."""

    kind: str
    dummy: Index | None = None
    place: int = -1


class _Closing(NamedTuple):
    """A product is `whole`, plus `share` times the product of means `left`."""

    whole: Expression
    share: sp.Expr
    left: Factors


def shortest(expression: Expression) -> Expression:
    """The expression in means and centred parts, if that has fewer terms; else with diagonals only.

    Raises CheckFailed if the form is not equal to what it came from.
    """
    start = diagonals(expression)
    split = _split(start)
    best = start
    if split is not None and len(split.terms) <= MOST_SPLIT:
        merged = _merged(split)
        best = min(start, merged, key=lambda e: (len(e.terms), sum(len(f) for _, f in e.terms)))
    left = len((plain(best) - expression).terms)
    if left:
        raise CheckFailed(f"the short form of an equation leaves {left} terms against its sums")
    return best


def normal(expression: Expression) -> Expression:
    """The expression with the words of this module in the order that `shortest` gives them."""
    return expression.map_terms(lambda c, f: [(c, _turned(_diagonals(f)))])


def diagonals(expression: Expression) -> Expression:
    """The expression with X[k,k] as the vector diag X."""
    return expression.map_terms(lambda c, f: [(c, _diagonals(f))])


def plain(expression: Expression) -> Expression:
    """The expression without centred parts and diagonals."""

    def rule(coefficient: sp.Expr, factors: Factors) -> Terms:
        terms: Terms = [(coefficient, ())]
        for f in factors:
            terms = [(c * c2, fs + f2) for c, fs in terms for c2, f2 in _meaning(f)]
        return terms

    return expression.map_terms(rule)


def _meaning(factor: Factor) -> Terms:
    tensor = factor.tensor
    if tensor.kind == DIAGONAL:
        return [(sp.Integer(1), (tensor.meaning[factor.indices * 2],))]
    if tensor.kind == CENTRING:
        return _pair(factor.indices, ())
    if tensor.kind == CENTRED:
        row, one, two = factor.indices
        pattern = tensor.meaning
        first, second = pattern[row, one], pattern[row, two]
        return [
            (sp.Integer(1), (first, delta_tensor(one.dim)[one, two])),
            (sp.Integer(-1), (first, second)),
        ]
    return [(sp.Integer(1), (factor,))]


def _pair(ends: tuple[Index, ...], more: Factors) -> Terms:
    dim = ends[0].dim
    return [(sp.Integer(1), (*more, delta_tensor(dim)[ends])), (-1 / dim, more)]


def _diagonals(factors: Factors) -> Factors:
    """X[k,k] as the vector diag X."""
    out = []
    for f in factors:
        if len(f.indices) == 2 and len(set(f.indices)) == 1 and f.tensor.kind not in _NO_DIAGONAL:
            vector = Tensor(f"diag {f.tensor.name}", f.tensor.dims[:1], DIAGONAL, meaning=f.tensor)
            f = vector[f.indices[:1]]
        out.append(f)
    return tuple(out)


_NO_DIAGONAL = ("delta", CENTRING, DIAGONAL)


def _places(factors: Factors, free: tuple[Index, ...]) -> tuple[list[_Edge], list[_Edge]]:
    """Sums that can be split, and splits that can be taken back."""
    legs: dict[Index, list[Factor]] = {}
    for f in factors:
        for i in f.indices:
            legs.setdefault(i, []).append(f)
    open_, closed = [], []
    for place, f in enumerate(factors):
        if f.tensor.kind in (CENTRING, CENTRED):
            if not {*f.indices[-2:]} & {*free}:
                closed.append(_Edge(f.tensor.kind, place=place))
        elif f.tensor.kind == DIAGONAL and _is_loose(f.indices[0], legs, free):
            open_.append(_Edge("trace", place=place))
    for index, touching in legs.items():
        kinds = Counter(f.tensor.kind for f in touching)
        if index in free or kinds[CENTRING] or kinds[CENTRED] or kinds["delta"]:
            continue
        if len(touching) == 2 and not kinds["pattern"]:
            open_.append(_Edge("pair", dummy=index))
        elif len(touching) == 3 and kinds["pattern"] == 1:
            (pattern,) = (f for f in touching if f.tensor.kind == "pattern")
            if pattern.indices[1] == index and pattern.indices[0] != index:
                open_.append(_Edge("row", dummy=index, place=factors.index(pattern)))
    return open_, closed


def _is_loose(index: Index, legs: dict[Index, list[Factor]], free: tuple[Index, ...]) -> bool:
    return index not in free and len(legs[index]) == 1


def _opened(coefficient: sp.Expr, factors: Factors, edge: _Edge) -> Terms:
    """One term as a centred part and a product of means."""
    if edge.kind == "trace":
        vector, rest = _without(factors, edge.place)
        (one,) = vector.indices
        two = fresh(one.dim)
        rest = (*rest, vector.tensor.meaning[one, two])
    elif edge.kind == "pair":
        assert edge.dummy is not None
        one, two = edge.dummy, fresh(edge.dummy.dim)
        rest = _moved(factors, one, two)
    else:
        pattern, rest = _without(factors, edge.place)
        row, one = pattern.indices
        two = fresh(one.dim)
        rest = _moved(rest, one, two)
        tensor = pattern.tensor
        dims = (tensor.dims[0], tensor.dims[1], tensor.dims[1])
        centred = Tensor(f"centred {tensor.name}", dims, CENTRED, meaning=tensor)[row, one, two]
        means = (tensor[row, one], tensor[row, two])
        return [(coefficient, _turned((*rest, centred))), (coefficient, (*rest, *means))]
    centring = Tensor("centring", (one.dim, one.dim), CENTRING, symmetric=True)[one, two]
    return [(coefficient, (*rest, centring)), (coefficient / one.dim, rest)]


def _closed(coefficient: sp.Expr, factors: Factors, edge: _Edge) -> tuple[Terms, Terms]:
    """One centred part as the whole sum, and the product of means that is then too much."""
    centred, rest = _without(factors, edge.place)
    one, two = centred.indices[-2:]
    joined = tuple(f.rename({two: one}) for f in rest)
    if edge.kind == CENTRING:
        return [(coefficient, _diagonals(joined))], [(-coefficient / one.dim, rest)]
    pattern, row = centred.tensor.meaning, centred.indices[0]
    means = (pattern[row, one], pattern[row, two])
    return [(coefficient, _diagonals((*joined, means[0])))], [(-coefficient, (*rest, *means))]


def _without(factors: Factors, place: int) -> tuple[Factor, Factors]:
    return factors[place], factors[:place] + factors[place + 1 :]


def _moved(factors: Factors, one: Index, two: Index) -> Factors:
    """The first leg on `one` put on `two`."""
    out = list(factors)
    for place, f in enumerate(out):
        if one in f.indices:
            slot = f.indices.index(one)
            out[place] = Factor(f.tensor, (*f.indices[:slot], two, *f.indices[slot + 1 :]))
            break
    return tuple(out)


def _turned(factors: Factors) -> Factors:
    """Centred patterns are symmetric in two of their three slots: the smallest of all ways."""
    places = [k for k, f in enumerate(factors) if f.tensor.kind == CENTRED]
    if not places:
        return factors
    ways = []
    for turns in itertools.product((False, True), repeat=len(places)):
        out = list(factors)
        for place, turn in zip(places, turns, strict=True):
            row, one, two = out[place].indices
            if turn:
                out[place] = Factor(out[place].tensor, (row, two, one))
        ways.append(tuple(out))
    return min(ways, key=lambda way: canonical(way, ())[0])


def _split(expression: Expression) -> Expression | None:
    """Every sum that can be split, split; None if that gives too many terms."""
    free = expression.free

    def rule(coefficient: sp.Expr, factors: Factors) -> Terms:
        open_, _ = _places(factors, free)
        terms = _opened(coefficient, factors, open_[0]) if open_ else [(coefficient, factors)]
        return [(c, _turned(f)) for c, f in terms]

    while len(expression.terms) <= LIMIT:
        once = expression.map_terms(rule)
        if once == expression:
            return once
        expression = once
    return None


def _merged(expression: Expression) -> Expression:
    """Centred parts put together with the means that they leave, as long as terms disappear."""
    free = expression.free
    terms = {factors: c for c, factors in expression.terms}
    closings = cache(lambda factors: _closings(factors, free))
    order = cache(lambda factors: canonical(factors, free)[0])

    def cancels(factors: Factors, found: _Closing) -> bool:
        there = terms.get(found.left)
        return there is not None and sp.expand(there + terms[factors] * found.share) == 0

    while True:
        able = ((f, x) for f in sorted(terms, key=order) for x in closings(f) if cancels(f, x))
        factors, closing = next(able, ((), None))
        if closing is None:
            return collect(free, [(c, f) for f, c in terms.items()])
        coefficient = terms.pop(factors)
        del terms[closing.left]
        for c, f in closing.whole.terms:
            total = normal_coefficient(terms.pop(f, sp.Integer(0)) + coefficient * c)
            terms |= {f: total} if total != 0 else {}


def _closings(factors: Factors, free: tuple[Index, ...]) -> list[_Closing]:
    """What a product with centred parts is, one of them closed."""
    out = []
    for edge in _places(factors, free)[1]:
        whole, means = _closed(sp.Integer(1), factors, edge)
        ((c, left),) = collect(free, [(c, _turned(f)) for c, f in means]).terms
        out.append(_Closing(collect(free, [(c, _turned(f)) for c, f in whole]), c, left))
    return out

"""Families of laws that a flow keeps, because all tokens move by one map of a small group.

Input: the velocity over (token, coordinate).  Output: A and B where it is A + B x in the query
token x, A and B functions of the law alone.  On the sphere the part along x does not count, and

- with B antisymmetric tokens move by one Moebius map of the sphere, x' = A - <A,x> x + B x: the
  cross-ratios of distances of four tokens stay, images of the uniform law stay such (on the circle:
  Poisson kernels; f + g cos theta + h sin theta is the velocity of an angle);
- with A = 0 they move by x -> F x / |F x|, F' = B F: cross-ratios of determinants stay, images of
  the uniform law stay such (angular central Gaussian laws).

In space they move by one affine map, and Gaussian laws stay Gaussian.  Else the term is named that
leaves the family.  Not supported: tokens in order, noise.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from derive.calculus.index.defined import Book, plus, spread
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Index
from derive.methods.common.record import Check, Fact
from derive.methods.token_flow.checks import EXACT, residual
from derive.methods.token_flow.instances import FlowInstance, at, instance, tangent
from derive.methods.token_flow.names import Names
from derive.methods.token_flow.told import told

COLUMN = "j"
CHANGES = 1e-6  # of a cross-ratio that does not stay, relative to the speeds


@dataclass(frozen=True)
class Family:
    """The velocity is `shift` over (i) + `matrix` over (i, j) times the query token."""

    kind: str
    shift: Expression
    matrix: Expression


@dataclass(frozen=True)
class Left:
    """The part of the velocity that belongs to no family."""

    term: Expression


def family(velocity: Expression, names: Names) -> Family | Left:
    """On the sphere of the velocity before it is projected."""
    a, x, i = names.s, names.x, names.i
    j = Index(COLUMN, i.dim)
    shift, matrix = [], []
    for coefficient, factors in velocity.terms:
        own = [f for f in factors if a in f.indices]
        others = tuple(f for f in factors if a not in f.indices)
        radial = any(f == x[a, i] for f in own)
        if names.model.sphere and radial:
            continue  # no part of the velocity on the sphere
        if any(f.tensor != x for f in own) or len(own) > 1:
            return Left(collect(velocity.free, [(coefficient, factors)]))
        if not own:
            shift.append((coefficient, others))
        elif radial:
            return Left(collect(velocity.free, [(coefficient, factors)]))
        else:
            place = own[0].indices[1]
            matrix.append((coefficient, tuple(f.rename({place: j}) for f in others)))
    A, B = collect((i,), shift), collect((i, j), matrix)
    if not names.model.sphere:
        return Family("affine", A, B)
    if A.is_zero:
        return Family("linear", A, B)
    turned = collect((i, j), B.renamed({i: j, j: i}).terms)
    symmetric = spread(plus(B, turned), (i, j))
    if symmetric.is_zero:
        return Family("Moebius", A, B)
    return Left(symmetric)


def facts(velocity: Expression, names: Names, book: Book, noisy: bool) -> tuple[Fact, ...]:
    if noisy or names.model.positional:
        return ()
    found = family(velocity, names)
    if isinstance(found, Family):
        words = f"{_WORDS[found.kind]}, {_parts(found, names, book)}"
        return (Fact(words, "invariant laws", _kept(found, names, book)),)
    if not names.model.sphere or not (check := _leaves(names)).passed:
        return ()
    left = told(found.term, names, book)
    words = f"tokens move by no one Moebius map and no one linear map of the sphere: {left} is left"
    return (Fact(words, "invariant laws", check),)


_WORDS = {
    "Moebius": "all tokens move by one Moebius map of the sphere: cross-ratios of four tokens and "
    "the family of its images of the uniform law (Poisson kernels on the circle) stay",
    "linear": "all tokens move by one map x -> F x / |F x|, F' = B F: cross-ratios of determinants "
    "and angular central Gaussian laws stay such",
    "affine": "all tokens move by one affine map: Gaussian laws stay Gaussian",
}


def _parts(found: Family, names: Names, book: Book) -> str:
    parts = [(n, e) for n, e in (("A", found.shift), ("B", found.matrix)) if not e.is_zero]
    return "; ".join(f"{n} = {told(e, names, book)}" for n, e in parts)


# checks


def _kept(found: Family, names: Names, book: Book) -> Check:
    """A + B x against the text, and the rates of cross-ratios of the text's own tokens."""
    worst = 0.0
    for seed in (41, 42):
        one = instance(names.model, seed, tokens=6)
        d = one.x.shape[1]
        A = np.broadcast_to(at(one, found.shift, book), (d,))
        B = np.broadcast_to(at(one, found.matrix, book), (d, d))
        v = A + one.x @ B.T
        if names.model.sphere:
            v = v - (v * one.x).sum(1, keepdims=True) * one.x
        moved = tangent(one)
        worst = max(worst, residual(v, moved))
        if found.kind != "affine":
            rates = {"Moebius": moebius_rates, "linear": linear_rates}[found.kind](one)
            worst = max(worst, float(np.max(np.abs(rates))) / _speed(one))
    return Check("A + B x, and rates of cross-ratios, of the text's tokens", worst, EXACT)


def _leaves(names: Names) -> Check:
    """Both kinds of cross-ratios of the text's tokens change, by more than rounding."""
    one = instance(names.model, 43, tokens=6)
    least = min(float(np.max(np.abs(rule(one)))) for rule in (moebius_rates, linear_rates))
    share = CHANGES * _speed(one) / max(least, 1e-300)
    return Check(
        "rates of cross-ratios of the text's tokens: least seen beside largest", share, 1.0
    )


def _speed(one: FlowInstance) -> float:
    return max(float(np.max(np.abs(tangent(one)))), 1e-3)


def moebius_rates(one: FlowInstance) -> np.ndarray:
    """Rates of log |x_a - x_b| |x_c - x_e| / (|x_a - x_c| |x_b - x_e|), by the text."""
    x, v = one.x, tangent(one)
    gaps, moves = x[:, None] - x[None], v[:, None] - v[None]
    size = (gaps**2).sum(-1) + np.eye(len(x))
    rate = (gaps * moves).sum(-1) / size
    fours = itertools.permutations(range(len(x)), 4)
    return np.array([rate[a, b] + rate[c, e] - rate[a, c] - rate[b, e] for a, b, c, e in fours])


def linear_rates(one: FlowInstance) -> np.ndarray:
    """Rates of log det(K, a, b) det(K, c, e) / (det(K, a, c) det(K, b, e)), K the last tokens."""
    x, v = one.x, tangent(one)
    common = list(range(4, 4 + x.shape[1] - 2))

    def rate(*pair: int) -> float:
        rows = [*common, *pair]
        return float(np.trace(np.linalg.solve(x[rows], v[rows])))

    fours = itertools.permutations(range(4), 4)
    return np.array([rate(a, b) + rate(c, e) - rate(a, c) - rate(b, e) for a, b, c, e in fours])

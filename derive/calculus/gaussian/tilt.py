"""Averages polynomials times exponentials over a Gaussian law by completing the square.

Input: an expression in a variable y, its law N(m, S), and the book of defined tensors.  Output:
E over y, an expression without y.  S^-1 is never formed, so a singular S is legal.

Rule.  A term is p(y) exp(c + l.y - y^T M y / 2) f(s), s = s0 + a.y.  Put y = m + L z, S = L L^T:
the exponent against exp(-|z|^2/2) has precision I + L^T M L, and L (I + L^T M L)^-1 =
(I + S M)^-1 L (push-through), so with P = (I + S M)^-1 the tilted law of y is N(P (m + S l), P S)
and the normaliser is det(I + S M)^(-1/2) exp(c + l.P m + l.P S l/2 - m.M P m/2).  Then p by
Isserlis, f by Stein.  The condition is I + L^T M L > 0 (`condition`).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import sympy as sp

from derive.calculus.gaussian.homogeneous import homogeneous_mean
from derive.calculus.index.defined import (
    Book,
    depends,
    differentiate,
    placed,
    plus,
    spread,
    touches,
    union,
)
from derive.calculus.index.expressions import Expression, collect, scalar, single
from derive.calculus.index.factors import (
    Factor,
    Factors,
    Index,
    Tensor,
    apart,
    fresh,
    indices_of,
)

HALF = sp.Rational(1, 2)


class NoTilt(Exception):
    """The average has no closed form by these rules; the message says why."""


@dataclass(frozen=True)
class GaussianLaw:
    """N(mean, cov) of a variable; `block`: an index that both carry first (a mixture), or None."""

    variable: Tensor
    mean: Tensor
    cov: Tensor
    block: Index | None = None
    # (mean over i, covariance over i and j, i, j) where the law is no tensor but an expression
    given: tuple[Expression, Expression, Index, Index] | None = None
    centred: bool = False  # is the mean zero?

    def at(self, i: Index) -> Expression:
        if self.given is not None:
            mean, _, at, _ = self.given
            return placed(mean, {at: i})
        own = (self.block, i) if self.block else (i,)
        if self.centred:
            return collect(own, [])
        return single(self.mean[own], own)

    def covariance(self, i: Index, j: Index) -> Expression:
        if self.given is not None:
            _, cov, row, column = self.given
            return placed(cov, {row: i, column: j})
        own = (self.block, i, j) if self.block else (i, j)
        return single(self.cov[own], own)


@dataclass(frozen=True)
class Quadratic:
    """c + l.y - y^T M y / 2: parts of an exponent, over `outer` indices plus i (and j)."""

    constant: Expression
    linear: Expression
    matrix: Expression
    i: Index
    j: Index


def average(expression: Expression, law: GaussianLaw, book: Book) -> Expression:
    """E over the law's variable.  The law's block index becomes free."""
    free = union(expression.free, (law.block,) if law.block else ())
    parts = [_term(c, f, free, law, book) for c, f in expression.terms]
    return plus(collect(free, []), *parts) if parts else collect(free, [])


def split(expression: Expression, variable: Tensor, book: Book) -> Quadratic:
    """Coefficients of a quadratic polynomial; NoTilt for anything else."""
    dim = variable.dims[-1]
    i, j = fresh(dim), fresh(dim)
    degrees: dict[int, list[Any]] = {0: [], 1: [], 2: []}
    for coefficient, factors in expression.terms:
        degree = sum(f.tensor == variable for f in factors)
        if degree > 2:
            raise NoTilt(f"the exponent has degree {degree} in {variable.name}; at most 2 is legal")
        if any(touches(f.tensor, variable, book) for f in factors if f.tensor != variable):
            raise NoTilt(f"the exponent is no polynomial in {variable.name}")
        degrees[degree].append((coefficient, factors))
    parts = [collect(expression.free, degrees[n]) for n in range(3)]
    linear = differentiate(parts[1], variable, i, book)
    matrix = differentiate(differentiate(parts[2], variable, i, book), variable, j, book).scaled(
        sp.Integer(-1)
    )
    return Quadratic(parts[0], linear, matrix, i, j)


def join(left: Expression, i: Index, right: Expression, j: Index) -> Expression:
    """Product of two expressions, free index i of the left joined to j of the right."""
    link = fresh(i.dim)
    product = placed(left, {i: link}) * placed(right, {j: link})
    return product.summed(link)


@dataclass(frozen=True)
class Tilted:
    """A tilted Gaussian: its mean (free i), covariance (free i, j) and log-normaliser."""

    mean: Expression
    cov: Expression
    log: Expression
    det: Factor | None
    i: Index
    j: Index
    matrix: Expression


def complete_square(exponent: Expression, law: GaussianLaw, book: Book) -> Tilted:
    """The rule of the module's head, on one exponent."""
    q = split(exponent, law.variable, book)
    i, j = q.i, q.j
    if q.matrix.is_zero:
        mean = plus(law.at(i), join(law.covariance(i, j), j, q.linear, i))
        log = plus(
            q.constant,
            join(q.linear, i, law.at(i), i),
            join(q.linear, i, join(law.covariance(i, j), j, q.linear, i), i).scaled(HALF),
        )
        return Tilted(mean, law.covariance(i, j), log, None, i, j, q.matrix)
    if any(t.kind in ("query", "key") for t in _inside(q.matrix, book)):
        raise NoTilt(f"the part of the exponent quadratic in {law.variable.name} is not constant")
    present = indices_of_expression(q.matrix)
    outer = tuple(n for n in q.matrix.free if n not in (i, j) and n in present)
    if law.block:
        outer = union(outer, (law.block,))
    matrix = spread(q.matrix, (*(n for n in outer if n in q.matrix.free), i, j))
    body = join(law.covariance(i, j), j, matrix, i)
    row, column = Index("row", i.dim), Index("column", i.dim)
    names = {n: Index(f"u{position}", n.dim) for position, n in enumerate(outer)}
    body = spread(placed(body, {i: row, j: column} | names), (*names.values(), row, column))
    needed = spread(placed(matrix, {i: row, j: column} | names), (*names.values(), row, column))
    if (needed, law.cov) not in book.conditions:
        book.conditions.append((needed, law.cov))
    inverse = book.tensor("inverse", names.values(), (body,), None, (i.dim, i.dim))
    det = book.tensor("det", names.values(), (body,), None)
    P = single(inverse[(*outer, i, j)], (*outer, i, j))
    shifted = plus(law.at(i), join(law.covariance(i, j), j, q.linear, i))
    Pm = join(P, j, law.at(i), i)
    cov = join(P, j, law.covariance(i, j), i)
    log = plus(
        q.constant,
        join(q.linear, i, Pm, i),
        join(q.linear, i, join(cov, j, q.linear, i), i).scaled(HALF),
        join(law.at(i), i, join(q.matrix, j, Pm, i), i).scaled(-HALF),
    )
    return Tilted(join(P, j, shifted, i), cov, log, det[outer], i, j, q.matrix)


def _inside(expression: Expression, book: Book) -> set[Tensor]:
    """Tensors of an expression, those inside definitions included."""
    found: set[Tensor] = set()
    for tensor in expression.tensors():
        found.add(tensor)
        for body in book.of[tensor].bodies if tensor in book.of else ():
            found |= _inside(body, book)
    return found


def _term(
    coefficient: sp.Expr, factors: Factors, free: tuple[Index, ...], law: GaussianLaw, book: Book
) -> Expression:
    variable = law.variable
    factors = apart(factors, free)
    powers = [f for f in factors if f.tensor == variable]
    inside = [f for f in factors if f.tensor != variable and touches(f.tensor, variable, book)]
    outside = tuple(f for f in factors if f not in powers and f not in inside)
    ridges = [f for f in inside if f.tensor.kind == "ridge"]
    others = [f for f in inside if f.tensor.kind not in ("exp", "ridge")]
    if others:
        raise NoTilt(f"no rule averages a {others[0].tensor.kind} over {variable.name}")
    if len(ridges) > 1:
        raise NoTilt("a product of two functions that are no exponentials or polynomials")
    # indices of the term that are bound stay bound: give them to the pieces as free, sum at last
    held = union(free, sorted(indices_of(factors), key=lambda n: n.name))
    exponents = [book.of[f.tensor].body(f.indices) for f in inside if f.tensor.kind == "exp"]
    if exponents:
        exponent = plus(*exponents)
        tilted = complete_square(exponent, law, book)
        i, j = tilted.i, tilted.j
        out = spread(collect(held, [(coefficient, outside)]), held)
        if not tilted.log.is_zero:
            own = tuple(n for n in tilted.log.free if n in indices_of_expression(tilted.log))
            gone = book.tensor("exp", *_standard(own, (spread(tilted.log, own),)))
            out = out * single(gone[own], own)
        if tilted.det is not None:
            out = out * single(tilted.det, tilted.det.indices)
        mean, cov = tilted.mean, tilted.cov
    else:
        i, j = fresh(variable.dims[-1]), fresh(variable.dims[-1])
        out = collect(held, [(coefficient, outside)])
        mean, cov = law.at(i), law.covariance(i, j)
    if ridges:
        moment = _stein([f.indices[-1] for f in powers], ridges[0], 0, mean, cov, i, j, law, book)
    else:
        moment = isserlis([f.indices[-1] for f in powers], mean, cov, i, j)
    product = out * moment
    return spread(product.summed(*(n for n in product.free if n not in free)), free)


def indices_of_expression(expression: Expression) -> set[Index]:
    return {n for _, f in expression.terms for n in indices_of(f)}


def _standard(
    own: tuple[Index, ...], bodies: tuple[Expression, ...]
) -> tuple[tuple[Index, ...], tuple[Expression, ...]]:
    """Indices of a definition under names of their own: definitions do not depend on the place."""
    names = {n: Index(f"u{position}", n.dim) for position, n in enumerate(own)}
    return tuple(names.values()), tuple(placed(spread(b, own), names) for b in bodies)


def isserlis(at: list[Index], mean: Expression, cov: Expression, i: Index, j: Index) -> Expression:
    """E of a product of entries of a Gaussian vector (Isserlis, means included)."""
    if not at:
        return scalar(sp.Integer(1))
    first, rest = at[0], at[1:]
    out = [placed(mean, {i: first}) * isserlis(rest, mean, cov, i, j)]
    for position, other in enumerate(rest):
        pair = placed(cov, {i: first, j: other})
        out.append(pair * isserlis(rest[:position] + rest[position + 1 :], mean, cov, i, j))
    return plus(*out)


def _stein(
    at: list[Index],
    ridge: Factor,
    raised: int,
    mean: Expression,
    cov: Expression,
    i: Index,
    j: Index,
    law: GaussianLaw,
    book: Book,
) -> Expression:
    """E of a product of entries times f^(k)(s0 + a.y): E[y g] = mean E g + cov E grad g."""
    meaning = book.of[ridge.tensor]
    rule, order = meaning.data
    argument = meaning.body(ridge.indices)
    q = split(argument, law.variable, book)
    if not q.matrix.is_zero:
        raise NoTilt(f"the argument of {rule.name} is not affine in {law.variable.name}")
    slope = placed(q.linear, {q.i: i})
    if not at:
        centre = plus(q.constant, join(slope, i, mean, i))
        across = join(cov, j, slope, i)
        variance = join(slope, i, across, i)
        own = tuple(
            n
            for n in union(centre.free, variance.free)
            if n in indices_of_expression(centre) | indices_of_expression(variance)
        )
        if not depends(variance, law.variable, book) and variance.is_zero:
            variance = scalar(sp.Integer(0), own)
        known = homogeneous_mean(rule.body, order + raised) if centre.is_zero else None
        if known is not None:  # a power of the variance
            factor, power = known
            return reduce(operator.mul, [variance] * power, scalar(factor, own))
        tensor = book.tensor("smooth", *_standard(own, (centre, variance)), (rule, order + raised))
        return single(tensor[own], own)
    first, rest = at[0], at[1:]
    out = [
        placed(mean, {i: first}) * _stein(rest, ridge, raised, mean, cov, i, j, law, book),
        placed(join(cov, j, slope, i), {i: first})
        * _stein(rest, ridge, raised + 1, mean, cov, i, j, law, book),
    ]
    for position, other in enumerate(rest):
        left = rest[:position] + rest[position + 1 :]
        out.append(
            placed(cov, {i: first, j: other})
            * _stein(left, ridge, raised, mean, cov, i, j, law, book)
        )
    return plus(*out)

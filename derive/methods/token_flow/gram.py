"""Inner products of tokens: their rate closes where coordinates enter by inner products alone.

Input: the velocity over (token, coordinate).  Output: R' = <v_a, x_b> + <x_a, v_b>, an expression
in R, masses and parameters; on the sphere v is projected first and R has a unit diagonal.  Raises
`Leaves` with the term in which a token stands otherwise.
"""

from __future__ import annotations

import sympy as sp

from derive.calculus.index.defined import Book, placed, plus, spread
from derive.calculus.index.expressions import Expression, collect, single
from derive.calculus.index.factors import Factor, Factors, Index, Tensor, fresh
from derive.methods.token_flow.names import COUNT, Names
from derive.methods.token_flow.told import told

OTHER = Index("b", COUNT)


class Leaves(Exception):
    """What is left in tokens: `term`, in words."""

    def __init__(self, term: str) -> None:
        super().__init__(term)
        self.term = term


def projected(velocity: Expression, names: Names) -> Expression:
    """v - <v, x> x over (token, coordinate)."""
    a, i, k = names.s, names.i, fresh(names.model.state_dim)
    along = (placed(velocity, {i: k}) * single(names.x[a, k], (a, k))).summed(k)
    radial = spread(along, (a,)) * single(names.x[a, i], (a, i))
    return spread(plus(velocity, -radial), (a, i))


def inner(velocity: Expression, names: Names, other: Index) -> Expression:
    """<v_a, x_other> over (a, other); `other` may be a itself."""
    i = names.i
    return (velocity * single(names.x[other, i], (other, i))).summed(i)


def half_rate(velocity: Expression, names: Names, book: Book) -> Expression:
    """<velocity of x_a, x_b> over (a, b), projected on the sphere, in inner products."""
    a, b = names.s, OTHER
    towards = spread(inner(velocity, names, b), (a, b))
    if names.model.sphere:
        pair = in_products(_product(names, a, b), names, book)
        radial = in_products(spread(inner(velocity, names, a), (a,)), names, book, "some")
        towards = in_products(towards, names, book, "some")
        return spread(plus(towards, -(radial * pair)), (a, b))
    return in_products(towards, names, book, "some")


def gram_rate(velocity: Expression, names: Names, book: Book) -> Expression:
    """R' over (a, b).  Raises Leaves."""
    half = half_rate(velocity, names, book)
    rate = spread(plus(half, swapped(half, names.s, OTHER)), (names.s, OTHER))
    return in_products(rate, names, book)


def swapped(expression: Expression, a: Index, b: Index) -> Expression:
    return expression.renamed({a: b, b: a})


def _product(names: Names, a: Index, b: Index) -> Expression:
    i = fresh(names.model.state_dim)
    return spread((single(names.x[a, i], (a, i)) * single(names.x[b, i], (b, i))).summed(i), (a, b))


def in_products(expression: Expression, names: Names, book: Book, which: str = "all") -> Expression:
    """Every pair of tokens that is summed over its coordinate becomes an inner product.

    Defined tensors become those of their bodies.  `which`: "all", where a token that has no
    partner raises Leaves; "some", where it stays; "own", where the pairs of a token with itself
    alone are taken.
    """
    return collect(
        expression.free,
        [(c, _paired(c, f, expression.free, names, book, which)) for c, f in expression.terms],
    )


def _paired(
    coefficient: sp.Expr,
    factors: Factors,
    free: tuple[Index, ...],
    names: Names,
    book: Book,
    which: str,
) -> Factors:
    left, out = list(factors), []
    while left:
        factor = left.pop(0)
        meaning = book.of.get(factor.tensor)
        if meaning is not None:
            bodies = [in_products(b, names, book, which) for b in meaning.bodies]
            made = book.tensor(meaning.kind, meaning.indices, bodies, meaning.data)
            out.append(made[factor.indices])
        elif factor.tensor != names.x:
            out.append(factor)
        else:
            partner = _partner(factor, left, free, names.x)
            if partner is None and which == "all":
                raise Leaves(told(collect(free, [(coefficient, factors)]), names, book))
            if partner is None or (which == "own" and partner.indices != factor.indices):
                out.append(factor)
                continue
            left.remove(partner)
            out.append(names.gram[factor.indices[0], partner.indices[0]])
    return tuple(out)


def _partner(
    factor: Factor, others: list[Factor], free: tuple[Index, ...], x: Tensor
) -> Factor | None:
    """The one other factor with the coordinate of this one, if it is a token too."""
    at = factor.indices[1]
    if at in free:
        return None
    found = [f for f in others if at in f.indices]
    return found[0] if len(found) == 1 and found[0].tensor == x else None

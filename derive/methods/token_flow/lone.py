"""All tokens at one point: how the point moves, and the frame in which it stands still.

Input: the velocity over (token, coordinate).  Output: the same at n = 1 over (coordinate), an
expression in one token: every sum over tokens has one term, a normalised weight is one.  Where it
is M x, the frame z = exp(-t M) x is that in which tokens at one point rest:

    z_a' = exp(-t M) (v_a(exp(t M) z) - M exp(t M) z_a).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factor, Index, Tensor, apart, delta_tensor, indices_of
from derive.methods.common.record import Check
from derive.methods.token_flow.checks import EXACT, residual
from derive.methods.token_flow.instances import at, instance, tangent, text_velocity
from derive.methods.token_flow.names import COUNT, Names
from derive.notation.common.scalars import extent

COLUMN = "j"


def point(names: Names) -> Tensor:
    return Tensor("x", (names.model.state_dim,), "query")


def lone(expression: Expression, names: Names, book: Book) -> Expression:
    """The expression where there is one token of mass one; token indices are gone."""
    free = tuple(i for i in expression.free if i.dim != COUNT)
    out = []
    for coefficient, factors in expression.terms:
        made: list[Factor] = []
        named = apart(factors, expression.free)
        for f in named:
            share = _factor(f, names, book)
            coefficient *= share[0]
            made += share[1]
        # a sum over heads of what does not depend on them counts them
        gone = indices_of(named) - indices_of(made) - set(expression.free)
        coefficient *= sp.Mul(*(extent(i.dim) for i in gone if i.dim != COUNT))
        out.append((coefficient, tuple(made)))
    return collect(free, out)


def _factor(factor: Factor, names: Names, book: Book) -> tuple[sp.Expr, list[Factor]]:
    tensor = factor.tensor
    left = tuple(i for i in factor.indices if i.dim != COUNT)
    one = sp.Integer(1)
    if tensor == names.x:
        return one, [point(names)[left]]
    if tensor == names.mass:
        return one, []
    if tensor.name.startswith("mask_"):
        return sp.Integer(tensor.name in ("mask_upto", "mask_from")), []
    meaning = book.of.get(tensor)
    if meaning is None:
        return one, [factor]
    if meaning.kind == "gate":
        return one, []
    kept = tuple(i for i in meaning.indices if i.dim != COUNT)
    bodies = [lone(b, names, book) for b in meaning.bodies]
    made = book.tensor(meaning.kind, kept, bodies, meaning.data)
    return one, [made[left]]


def frame(motion: Expression, names: Names) -> Expression | None:
    """M over (i, j) where the point moves by M x, else None."""
    x, i, d = point(names), names.i, names.model.state_dim
    j = Index(COLUMN, d)
    out = []
    for coefficient, factors in motion.terms:
        tokens = [f for f in factors if f.tensor == x]
        others = tuple(f for f in factors if f.tensor != x)
        if len(tokens) != 1 or any(f.tensor.kind != "constant" for f in others):
            return None
        (at_,) = tokens[0].indices
        if at_ == i:
            out.append((coefficient, (*others, delta_tensor(d)[i, j])))
        else:
            out.append((coefficient, tuple(f.rename({at_: j}) for f in others)))
    return collect((i, j), out)


def rests(motion: Expression, names: Names) -> bool:
    """On the sphere: does all of the motion point along the point itself?"""
    x, i = point(names), names.i
    return all(any(f == x[(i,)] for f in factors) for _, factors in motion.terms)


def resting_by_the_text(names: Names) -> Check:
    """Tokens of the text at one point of the sphere have no tangential velocity."""
    one = instance(names.model, 38, tokens=3)
    still = tangent(replace(one, x=np.repeat(one.x[:1], 3, axis=0)))
    return Check("tokens of the text at one point stand", float(np.max(np.abs(still))), EXACT)


def by_the_text(motion: Expression, names: Names, book: Book) -> Check:
    """Tokens of the text that all stand at one point."""
    worst = 0.0
    for seed in (35, 36):
        one = instance(names.model, seed, tokens=3)
        together = replace(one, x=np.repeat(one.x[:1], 3, axis=0))
        found = at(one, motion, book, x=one.x[0])
        wanted = text_velocity(together)
        worst = max(worst, residual(np.broadcast_to(found, wanted.shape), wanted))
    return Check("tokens of the text at one point", worst, EXACT)


def in_frame_by_the_text(matrix: Expression, names: Names, book: Book) -> Check:
    """Two of the text's tokens at one point move by M x: their difference to it vanishes."""
    one = instance(names.model, 37, tokens=2)
    together = replace(one, x=np.repeat(one.x[:1], 2, axis=0))
    found = one.x[:1] @ at(one, matrix, book).T
    error = residual(np.repeat(found, 2, axis=0), text_velocity(together))
    return Check("tokens of the text at one point move by M x", error, EXACT)

"""Configurations that a flow keeps because it commutes with what leaves them alone.

Tokens at one place have one velocity, so that n tokens at K places are K clusters with masses; an
inversion that commutes with the definition keeps antipodal pairs; on the circle, angles are all.
Each finding is compared with the definition's text.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.draws import generator
from derive.methods.common.record import Check
from derive.methods.token_flow.checks import EXACT, residual
from derive.methods.token_flow.equivariance import Direction, turned_arrays
from derive.methods.token_flow.instances import at, at_tokens, instance, tangent
from derive.methods.token_flow.names import Names


def inversion_commutes(velocity: Expression, names: Names, book: Book) -> bool:
    """Does x -> -x of all tokens turn the velocity, whatever the arrays are?

    The arrays that hold directions are turned along; an inversion leaves those of two axes alone.
    """
    try:
        arrays = turned_arrays(velocity, names, book)
    except Direction:
        return False
    d = names.model.state_dim
    shapes = {m.data: m.shape for m in names.model.matrices}
    return all(shapes[name].count(d) % 2 == 0 for name in arrays)


def spanned_by_tokens(velocity: Expression, names: Names) -> bool:
    """Is every term of the velocity a token times a number?  Then it lies in their span."""
    carriers = [[f for f in fs if names.i in f.indices] for _, fs in velocity.terms]
    return all([f.tensor for f in found] == [names.x] for found in carriers)


def in_a_plane(names: Names) -> Check:
    """The text's tokens in a plane of R^4 through the origin: what leaves it of their velocity."""
    one = instance(names.model, 39, tokens=5, d=4)
    plane = np.linalg.qr(generator(91).standard_normal((4, 2)))[0]
    flat = at_tokens(one, one.x @ plane @ plane.T)
    v = tangent(flat)
    error = residual(v @ plane @ plane.T, v)
    return Check("the text's tokens in a plane of R^4", error, EXACT)


def clusters(names: Names) -> Check:
    """Tokens repeated at their places, masses shared: the text moves each copy as the place."""
    one = instance(names.model, 32, tokens=3)
    counts = np.array([1, 3, 2])
    split = np.repeat(one.mass / counts, counts)
    copies = replace(one, x=np.repeat(one.x, counts, axis=0), mass=split)
    error = residual(tangent(copies), np.repeat(tangent(one), counts, axis=0))
    return Check("copies of the text's tokens that share their masses", error, EXACT)


def antipodal(names: Names) -> Check:
    one = instance(names.model, 33, tokens=3)
    pairs = replace(one, x=np.vstack([one.x, -one.x]), mass=np.tile(one.mass / 2, 2))
    v = tangent(pairs)
    return Check("antipodal pairs of the text's tokens", residual(v[3:], -v[:3]), EXACT)


def circle(pushes: Expression, names: Names, book: Book) -> Check:
    """sum_b w_ab sin(theta_b - theta_a) against the text's tokens on the circle."""
    one = instance(names.model, 34, tokens=5, d=2)
    angle = np.arctan2(one.x[:, 1], one.x[:, 0])
    found = (at(one, pushes, book) * np.sin(angle[None, :] - angle[:, None])).sum(1)
    across = np.stack([-one.x[:, 1], one.x[:, 0]], 1)
    return Check(
        "angles of the text's tokens", residual(found, (tangent(one) * across).sum(1)), EXACT
    )

"""Equal angles: all pairs of tokens at one cosine rho, and one radius where the norm is free.

Input: the Gram rate.  Output: `EqualAngles`, rates of rho (and of the radius r) at n tokens of
equal mass, preserved because the Gram rate does not tell tokens apart: all pairs of distinct
tokens have one rate and all diagonal entries another.  Raises `Unlike` with the reason otherwise.
Near consensus, rho = 1, the rates decide how fast angles close.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.methods.token_flow.names import Names
from derive.methods.token_flow.patterns import Exchangeable, Unlike
from derive.methods.token_flow.tidy import tidy

RHO = sp.Symbol("rho", real=True)
RADIUS = sp.Symbol("r", positive=True)


@dataclass(frozen=True)
class EqualAngles:
    """`cosine`: rho'; `radius`: r', None on the sphere.  In rho, r, n and the parameters."""

    cosine: sp.Expr
    radius: sp.Expr | None


def equal_angles(rate: Expression, names: Names, book: Book) -> EqualAngles:
    """The reduced rates.  Raises Unlike where the ansatz is not preserved."""
    sphere = names.model.sphere
    own = sp.Integer(1) if sphere else RADIUS**2
    values = Exchangeable(names, book, own=own, other=own * RHO)
    diagonal, pair = values.of(rate, (0, 0)), values.of(rate, (0, 1))
    if sphere:
        left = tidy(diagonal)
        if left != 0 and sp.simplify(left) != 0:
            raise Unlike(f"the norm of a token changes at the rate {left}")
        return EqualAngles(tidy(pair), None)
    return EqualAngles(tidy((pair - RHO * diagonal) / RADIUS**2), tidy(diagonal / (2 * RADIUS)))

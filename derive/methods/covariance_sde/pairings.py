"""Covariances of two fields over two tokens: the straight and the swapped pairing of their legs.

Both together form a group of two elements, so covariances of images multiply like its ring.
"""

from __future__ import annotations

import sympy as sp

Pairing = tuple[sp.Expr, sp.Expr]  # coefficients of the straight and of the swapped pairing


def image_pairing(first: Pairing, second: Pairing, middle: Pairing) -> Pairing:
    """Covariance of two images of one field: straight and swapped pairings form a group of two."""
    plus = sp.prod(x + y for x, y in (first, second, middle))
    minus = sp.prod(x - y for x, y in (first, second, middle))
    return sp.expand((plus + minus) / 2), sp.expand((plus - minus) / 2)


def less(first: Pairing, second: Pairing) -> Pairing:
    return sp.cancel(first[0] - second[0]), sp.cancel(first[1] - second[1])


def quotient(first: Pairing, second: Pairing) -> Pairing | None:
    """x with x * second = first; None where there is none."""
    ends = []
    for sign in (1, -1):
        top, bottom = first[0] + sign * first[1], second[0] + sign * second[1]
        if sp.cancel(bottom) == 0:
            if sp.cancel(top) != 0:
                return None
            ends.append(sp.Integer(0))
        else:
            ends.append(sp.cancel(top / bottom))
    return sp.cancel((ends[0] + ends[1]) / 2), sp.cancel((ends[0] - ends[1]) / 2)

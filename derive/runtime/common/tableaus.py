"""Coefficients of embedded explicit Runge-Kutta pairs.

The higher-order weights `b` make the step; `e` = b - b_hat estimates its error.
"""

from __future__ import annotations

from typing import NamedTuple


class Tableau(NamedTuple):
    a: tuple[tuple[float, ...], ...]  # row i: weights of the stages before stage i
    b: tuple[float, ...]
    e: tuple[float, ...]
    order: int  # of the step
    first_same_as_last: bool  # the last stage is the rate at the new state


DORMAND_PRINCE = Tableau(
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    b=(35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
    e=(
        71 / 57600,
        0.0,
        -71 / 16695,
        71 / 1920,
        -17253 / 339200,
        22 / 525,
        -1 / 40,
    ),
    order=5,
    first_same_as_last=True,
)
"""J. R. Dormand, P. J. Prince, A family of embedded Runge-Kutta formulae, 1980: 5(4), 7 stages."""

CASH_KARP = Tableau(
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (3 / 10, -9 / 10, 6 / 5),
        (-11 / 54, 5 / 2, -70 / 27, 35 / 27),
        (1631 / 55296, 175 / 512, 575 / 13824, 44275 / 110592, 253 / 4096),
    ),
    b=(37 / 378, 0.0, 250 / 621, 125 / 594, 0.0, 512 / 1771),
    e=(
        37 / 378 - 2825 / 27648,
        0.0,
        250 / 621 - 18575 / 48384,
        125 / 594 - 13525 / 55296,
        -277 / 14336,
        512 / 1771 - 1 / 4,
    ),
    order=5,
    first_same_as_last=False,
)
"""J. R. Cash, A. H. Karp, 1990: 5(4), 6 stages; its `b` has no negative weight, so that a sum of
positive semi-definite stages stays one."""

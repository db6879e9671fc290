"""The words of a control problem say its dynamics and costs, norms and bounds.

Each word takes arrays of a definition, or NumPy arrays for the checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from derive.errors import DefinitionError, Place, Refusal, user_place
from derive.notation.common.arrays import Array, exact, show_shape
from derive.notation.common.functions import eye, log
from derive.notation.common.words.word import WORDS, applied


@dataclass(frozen=True)
class Bound:
    """A constraint on controls: `kind` is "box", "l1" or "l2" (of all `arrays` together)."""

    kind: str
    arrays: tuple[Any, ...]
    low: Any
    high: Any
    place: Place | None = None


@dataclass(frozen=True)
class Problem:
    """What the text of a definition returns."""

    dynamics: tuple[Any, ...]
    running: Any
    terminal: Any
    bounds: tuple[Bound, ...]
    discount: Any
    end: str
    place: Place | None
    horizon: str = "given"


def problem(
    *,
    dynamics: Any,
    running: Any = 0,
    terminal: Any = 0,
    bounds: Any = (),
    discount: Any = 0,
    end: str = "free",
    horizon: str = "given",
) -> Problem:
    """A problem: d state / dt = `dynamics` (a tuple if there are several states), and its cost.

    **Arguments:** `running`: cost per unit of time.  `terminal`: cost of the last state.
    `bounds`: `box(u, low, high)`, `l1_ball(W, b, radius=M)`, `l2_ball(...)`, one or several.
    `discount`: a rate rho; costs at time t count exp(-rho t).  `end`: "free" or "fixed".
    `horizon`: "given", or "free" where the final time is chosen too (`solve` takes a guess as T).
    """
    if horizon not in ("given", "free"):
        raise DefinitionError(f'horizon={horizon!r}; say "given" or "free"')
    if end not in ("free", "fixed"):
        raise DefinitionError(f'end={end!r}; say "free" or "fixed"')
    if isinstance(discount, Array):
        raise DefinitionError(
            "the discount is a rate: a number or a declared parameter, not an array; a weight that "
            "depends on the state belongs into the running cost"
        )
    if isinstance(running, Array) and not isinstance(discount, float):
        discount = exact(discount)
        if discount.is_negative:
            raise DefinitionError(
                f"the discount {discount} is negative: costs at time t would count more and more; "
                "a rate rho >= 0 counts them exp(-rho t)"
            )
    dynamics = tuple(dynamics) if isinstance(dynamics, (tuple, list)) else (dynamics,)
    bounds = (bounds,) if isinstance(bounds, Bound) else tuple(bounds)
    if horizon == "free" and not (isinstance(discount, (int, float, sp.Expr)) and discount == 0):
        raise Refusal(
            "a free final time beside a discount: the Hamiltonian is not conserved there; write "
            "the factor exp(-rho s) into the costs, s being a state with s' = 1"
        )
    return Problem(dynamics, running, terminal, bounds, discount, end, user_place(), horizon)


def inner(left: Any, right: Any) -> Any:
    """The sum of products of entries."""
    if isinstance(left, Array) and left.shape != right.shape:
        raise DefinitionError(
            f"inner product of shapes {show_shape(left.shape)} and {show_shape(right.shape)}"
        )
    return (left * right).sum()


def squared_norm(array: Any) -> Any:
    """The sum of squares of all entries."""
    return (array * array).sum()


def trace(matrix: Any) -> Any:
    """The sum of the diagonal."""
    if isinstance(matrix, Array):
        return (matrix * eye(matrix.shape[0])).sum()
    return np.trace(matrix)


def log_det(matrix: Any) -> Any:
    """The logarithm of the determinant of a square matrix, where that is positive."""
    if isinstance(matrix, Array):
        return -2 * log(WORDS["inv_sqrt_det"](matrix))
    return np.log(np.linalg.det(matrix))


inverse = applied("inverse")
l1_norm = applied("l1_norm")
l2_norm = applied("l2_norm")


def project(points: Any, vectors: Any) -> Any:
    """Rows of `vectors` without their part along the rows of `points` (which have norm one)."""
    return vectors - (points * vectors).sum(axis=-1, keepdims=True) * points


def _scalar_limits(*limits: Any) -> None:
    for limit in limits:
        if isinstance(limit, Array):
            raise Refusal(
                "the limits of a bound are numbers or declared parameters, not arrays; scale the "
                "control instead: u = limit * w with box(w, -1, 1)"
            )


def box(array: Any, low: Any, high: Any) -> Bound:
    """low <= every entry <= high."""
    _scalar_limits(low, high)
    return Bound("box", (array,), low, high, user_place())


def l1_ball(*arrays: Any, radius: Any) -> Bound:
    """The absolute values of all entries together sum to at most `radius`."""
    _scalar_limits(radius)
    return Bound("l1", arrays, 0, radius, user_place())


def l2_ball(*arrays: Any, radius: Any) -> Bound:
    """The Euclidean norm of all entries together is at most `radius`."""
    _scalar_limits(radius)
    return Bound("l2", arrays, 0, radius, user_place())

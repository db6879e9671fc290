"""What a derivation of a control problem gives: the optimality system and its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sympy as sp

from derive.calculus.arrays.algebra import Algebra
from derive.methods.common.record import Fact, Step
from derive.methods.gaussian_closure.result import GaussianClosure
from derive.methods.optimal_control.law import ControlLaw, Price
from derive.notation.common.arrays import Array
from derive.notation.control.definition import ControlDefinition
from derive.notation.control.words import Bound

Leaves = tuple[Array, ...]


Parts = tuple[Array, ...]


@dataclass(frozen=True)
class OptimalControl:
    """The derived system.  `equations` maps a name to one array for each of its parts."""

    model: ControlDefinition
    algebra: Algebra
    x: Leaves
    p: Leaves
    u: Leaves
    data: Leaves
    dx: Leaves
    du: Leaves
    equations: Mapping[str, Parts]
    law: ControlLaw
    prices: tuple[Price, ...]
    bounds: tuple[Bound, ...]
    discount: sp.Expr
    fixed_end: bool
    steps: tuple[Step, ...]
    facts: tuple[Fact, ...]
    closures: tuple[GaussianClosure, ...] = ()
    free_time: bool = False

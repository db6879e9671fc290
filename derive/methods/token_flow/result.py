"""What a derivation of a token flow gives: velocity, reductions, energy, stability, the record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.methods.common.record import Fact, Step
from derive.methods.token_flow.closing import Closing
from derive.methods.token_flow.deviations import Deviations
from derive.methods.token_flow.energy import Gradient
from derive.methods.token_flow.equal_angles import EqualAngles
from derive.methods.token_flow.harmonics import Growth
from derive.methods.token_flow.manoeuvres import Manoeuvres
from derive.methods.token_flow.metastability import Caps
from derive.methods.token_flow.names import Names
from derive.methods.token_flow.rescaled import Rescaled
from derive.methods.token_flow.slow_motion import SlowMotion
from derive.methods.token_flow.two_clusters import TwoClusters
from derive.notation.closures.model import ClosureTrace
from derive.notation.flows.model import FlowDefinition


@dataclass(frozen=True)
class Absent:
    """What could not be had, and why."""

    why: str


@dataclass(frozen=True, eq=False)
class TokenFlow:
    """A derivation's result.  Free indices: velocity (a, i), gram_rate (a, b)."""

    model: FlowDefinition
    trace: ClosureTrace
    names: Names
    book: Book
    velocity: Expression  # on the sphere before it is projected
    noise: Expression | None
    gram_rate: Expression | Absent
    equal_angles: EqualAngles | Absent
    closing: Closing | Absent
    deviations: Deviations | Absent
    contraction: Expression | Absent
    two_clusters: TwoClusters | Absent
    slow_motion: SlowMotion | Absent
    caps: Caps | Absent
    gradient: Gradient
    motion: Expression | Absent  # of all tokens at one point
    frame: Expression | None  # M, in space, where that is M x
    rescaled: Rescaled | Absent | None  # in space; None: no M
    growth: Growth | Absent
    manoeuvres: Manoeuvres | Absent
    equations: dict[str, Any] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    facts: tuple[Fact, ...] = ()

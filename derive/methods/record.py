"""The record of a derivation: what each step did, and how far its numeric check was off."""

from __future__ import annotations

from dataclasses import dataclass, field

from derive.calculus.index import Expression


@dataclass(frozen=True)
class Check:
    """Both sides of a step evaluated at random instances; `residual` is relative."""

    what: str
    residual: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.residual <= self.tolerance


@dataclass(frozen=True)
class Step:
    """One step: its rule, its result and its check.

    `results` maps the name of a quantity to the expression after the step; `facts` are findings
    in words (the depth scale, what vanished and why).
    """

    name: str
    rule: str
    results: dict[str, Expression] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    check: Check | None = None

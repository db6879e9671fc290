"""The record of a derivation: what each step did, and how far its numeric check was off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from derive.calculus.index import Expression
from derive.errors import CheckFailed


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


def require_sound(steps: Iterable[Step], name: str) -> None:
    """Raise `CheckFailed` with the steps whose own check does not pass."""
    failed = [
        f'"{s.name}" is off by {s.check.residual:.1g}, where {s.check.tolerance:.1g} is allowed '
        f"({s.check.what})"
        for s in steps
        if s.check is not None and not s.check.passed
    ]
    if failed:
        raise CheckFailed(
            f"the derivation of {name} contradicts its own check: step {'; step '.join(failed)}. "
            f"No kernel is made of it; derive show {name} --steps has the record"
        )

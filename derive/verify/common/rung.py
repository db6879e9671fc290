"""One rung of the ladder, and whether it was reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Rung:
    """One rung: `figures` are numbers to compare, `power` says what it would catch.

    `unreached`: why nothing was compared; such a rung neither passes nor fails.
    """

    name: str
    claim: str
    passed: bool
    figures: dict[str, Any] = field(default_factory=dict)
    power: str = ""
    unreached: str = ""

    @property
    def status(self) -> str:
        """passed, failed, or not reached."""
        if self.unreached:
            return "not reached"
        return "passed" if self.passed else "failed"

    @property
    def failed(self) -> bool:
        return self.status == "failed"

    @property
    def complaint(self) -> str:
        """The figures of a rung that failed; nothing otherwise."""
        return str(self.figures) if self.failed else ""


def digit(value: float) -> float:
    """One digit: certificates should differ only when something changed."""
    return float(f"{value:.0e}")

"""The record of a derivation: what each step did, and how far its numeric check was off.

What is said in words is a claim like an equation: every fact carries a check of its own, or the
reason why there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from derive.calculus.index.expressions import Expression
from derive.errors import CheckFailed


@dataclass(frozen=True)
class Check:
    """Both sides of a step evaluated at random instances; `residual` is relative."""

    what: str
    residual: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return bool(self.residual <= self.tolerance)


class Fact(str):
    """A finding in words, with its check.  Printed and compared, it is its words.

    `kind`: what sort of finding; `check`: by a route that the finding does not take; `unreached`:
    why nothing can be compared, where `check` is None.
    """

    kind: str
    check: Check | None
    unreached: str

    def __new__(cls, words: str, kind: str, check: Check | None, unreached: str = "") -> Fact:
        if check is None and not unreached:
            raise ValueError(f"a fact needs a check, or the reason why it has none: {words}")
        self = super().__new__(cls, words)
        self.kind, self.check, self.unreached = kind, check, unreached
        return self

    def marked(self, mark: str) -> Fact:
        """The same fact with a mark before its words."""
        return Fact(mark + self, self.kind, self.check, self.unreached)

    def __reduce__(self) -> tuple[Any, ...]:
        return Fact, (str(self), self.kind, self.check, self.unreached)


@dataclass(frozen=True)
class Step:
    """One step: its rule, its result and its check.

    `results` maps the name of a quantity to the expression after the step; `facts` are findings
    in words (the depth scale, what vanished and why).
    """

    name: str
    rule: str
    results: dict[str, Expression] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    check: Check | None = None


def worst_of(checks: Sequence[Check]) -> Check:
    """Several checks as one: the figures of the one that is furthest beyond its tolerance."""
    worst = max(checks, key=lambda c: c.residual / c.tolerance)
    return Check("; ".join(c.what for c in checks), worst.residual, worst.tolerance)


def of_step(words: Iterable[str], check: Check | None, unreached: str = "") -> tuple[Fact, ...]:
    """Findings that the check of their own step would catch if they were wrong."""
    why = "" if check is not None else unreached or "the step has no check at this definition"
    return tuple(Fact(w, "step", check, why) for w in words)


def merged(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """Every fact once; where it is said of several parts, with the check that is worst."""
    found: dict[str, Fact] = {}
    for fact in facts:
        known = found.get(fact)
        if known is not None and isinstance(fact, Fact) and fact.check is not None:
            both = fact.check if known.check is None else worst_of((known.check, fact.check))
            fact = Fact(fact, fact.kind, both)
        found[str(fact)] = known if known is not None and fact.check is None else fact
    return tuple(found.values())


def all_facts(steps: Iterable[Step], facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """Every fact of a derivation, once."""
    return tuple(dict.fromkeys((*facts, *(f for s in steps for f in s.facts))))


def require_sound(
    steps: Iterable[Step], name: str, facts: Iterable[Fact] = (), argument: str = ""
) -> None:
    """Raise `CheckFailed` with the steps and the facts whose own check does not pass.

    `argument`: what a command line takes for the model, if not its name.
    """
    steps = tuple(steps)
    checks = [(f'step "{s.name}"', s.check) for s in steps if s.check is not None]
    for fact in all_facts(steps, facts):
        if not isinstance(fact, Fact):
            raise CheckFailed(f'the derivation of {name} says "{fact}" and does not check it')
        if fact.check is not None:
            checks.append((f'what it says, "{fact}",', fact.check))
    failed = [
        f"{what} is off by {c.residual:.1g}, where {c.tolerance:.1g} is allowed ({c.what})"
        for what, c in checks
        if not c.passed
    ]
    if failed:
        raise CheckFailed(
            f"the derivation of {name} contradicts its own check: {'; '.join(failed)}. "
            f"No kernel is made of it; derive show {argument or name} --steps has the record"
        )


def rounded(x: float) -> float:
    """Residuals as they are recorded: one digit, so that records do not depend on the machine."""
    return float(f"{max(x, 1e-16):.0e}")

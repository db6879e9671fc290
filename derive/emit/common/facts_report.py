"""What is said in words, with the check of each, as a report shows it."""

from __future__ import annotations

from typing import Any

from derive.methods.common.record import Fact, all_facts


def fact_lines(result: Any) -> list[str]:
    """Every fact of a derivation and how far its check was off, for the record of the steps."""
    lines = ["what is said in words, each compared by a route of its own"]
    for fact in all_facts(result.steps, result.facts):
        lines.append(f"    {fact}")
        if fact.check is None:
            lines.append(f"        not reached: {fact.unreached}")
            continue
        verdict = "passed" if fact.check.passed else "FAILED"
        lines.append(
            f"        check {verdict}: {fact.check.what}, residual {fact.check.residual:.1e} "
            f"(tolerance {fact.check.tolerance:.0e})"
        )
    return [*lines, ""]


def fact_checks(result: Any) -> list[dict[str, Any]]:
    """The same as data."""
    return [_data(f) for f in all_facts(result.steps, result.facts)]


def _data(fact: Fact) -> dict[str, Any]:
    out: dict[str, Any] = {"fact": str(fact), "kind": fact.kind}
    if fact.check is None:
        return out | {"not reached": fact.unreached}
    return out | {
        "what": fact.check.what,
        "residual": fact.check.residual,
        "tolerance": fact.check.tolerance,
        "passed": fact.check.passed,
    }

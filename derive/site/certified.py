"""A certificate and the mutants that it counts, in a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from derive.certificate import read
from derive.site.page import escape, section, sentence, table


def _content(text: str) -> dict[str, Any]:
    try:
        return read(text) if text else {}
    except ValueError as problem:
        return {"damaged": str(problem)}


def certificate_section(text: str) -> str:
    """Rungs of the ladder with what each can catch, and what the certificate is bound to."""
    found = _content(text)
    if not found or "damaged" in found:
        said = found.get("damaged", "")
        return section(
            "certificate", "Certificate", f"<p>The certificate {said}</p>" if said else ""
        )
    rows = [
        [
            escape(rung["name"]),
            _status(rung["status"]),
            sentence(rung["claim"]),
            escape(str(rung.get("power") or rung.get("unreached") or rung.get("complaint") or "")),
            f"<details><summary>figures</summary><pre>{escape(_figures(rung.get('figures')))}</pre>"
            "</details>",
        ]
        for rung in found["rungs"]
    ]
    tools = ", ".join(f"{k} {v}" for k, v in dict(found.get("measured_on", {})).items())
    kernel = str(dict(found.get("pins", {})).get("kernel", ""))[:16]
    verdict = _status("passed" if found["passed"] else "failed")
    said = (
        f"<p>Level {escape(found['level'])}, {verdict}; measured on {escape(tools)}; bound to the "
        f"kernel with digest <code>{escape(kernel)}</code> and to its definition and runtime "
        "files. <code>derive check</code> tells whether it still holds.</p>"
    )
    head = ("rung", "", "claim", "the smallest error that it catches, or why it is not reached", "")
    return section("certificate", "Certificate", said + table(head, rows, "rungs of the ladder"))


def _status(word: str) -> str:
    kind = {"passed": "good", "failed": "bad"}.get(word, "soft")
    return f'<span class="{kind}">{escape(word.replace("failed", "FAILED"))}</span>'


def _figures(figures: Any) -> str:
    return json.dumps(figures, indent=1, ensure_ascii=False)


def mutants_section(certificate: str, rules: str, model: str) -> str:
    """How many wrong neighbours of the equations were made and caught, and which broken rules."""
    rungs = [r for r in _content(certificate).get("rungs", []) if r["name"].startswith("L6")]
    parts = [
        f"<p>{sentence(rung['claim'])}: {escape(_counts(rung.get('figures') or {}))}.</p>"
        for rung in rungs
    ]
    head, rows = _matrix(rules, model)
    if rows:
        parts.append("<p>Rules broken in their typical way, and the rungs that notice (x):</p>")
        parts.append(table(head, rows, "rules broken, by rung"))
    return section("mutants", "Mutants", "".join(parts))


def _counts(figures: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {len(value) if isinstance(value, list) else value}"
        for name, value in figures.items()
        if isinstance(value, (int, list))
    )


def _matrix(rules: str, model: str) -> tuple[list[str], list[list[str]]]:
    """The rows of rules.md whose rules were tried on a model."""
    rows = [list(_cells(line)) for line in rules.split("\n") if line.startswith("|")]
    if not rows:
        return [], []
    head, at = rows[0], rows[0].index("model")
    return head[:at] + head[at + 1 :], [
        [escape(c) for c in row[:at] + row[at + 1 :]] for row in rows[2:] if row[at] == model
    ]


def _cells(line: str) -> Iterator[str]:
    yield from (cell.strip() for cell in line.strip().strip("|").split("|"))

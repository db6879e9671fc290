"""What a ladder found, as a certificate says it."""

from __future__ import annotations

from typing import Any

from derive.verify.common.rung import Rung
from derive.version import ENGINE


def content(result: Any, signature: str, level: str, found: list[Rung]) -> dict[str, Any]:
    """What the ladder found, as a certificate says it: no dates, no machine, one digit for
    residuals.  `derive.certificate` binds it to the kernel's bytes."""
    return {
        "model": result.model.name,
        "signature": signature,
        "engine": ENGINE,
        "level": level,
        "passed": all(not r.failed for r in found),
        "rungs": [
            {
                "name": r.name,
                "claim": r.claim,
                "status": r.status,
                **({"reason": r.unreached} if r.unreached else {}),
                "figures": r.figures,
                **({"power": r.power} if r.power else {}),
            }
            for r in found
        ],
    }

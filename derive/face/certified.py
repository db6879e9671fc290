"""The ladder from Python: a certificate that shows itself as a table."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from derive.certificate import LEVELS
from derive.entry import Entry
from derive.errors import RequestError
from derive.registry import find, load


@dataclass(frozen=True)
class Certificate:
    """What the ladder found of a model's kernel.

    `model`, `level`; `rungs`: each with `name`, `claim`, `status` (passed, failed, not reached),
    `figures`, `power`.  True where it was passed.
    """

    model: str
    level: str
    rungs: tuple[Any, ...]

    @property
    def passed(self) -> bool:
        """Whether no rung failed and at least one was reached."""
        return any(r.status == "passed" for r in self.rungs) and not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the rungs that failed."""
        return tuple(r.name for r in self.rungs if r.failed)

    def __bool__(self) -> bool:
        return self.passed

    @property
    def _verdict(self) -> str:
        words = (
            "passed" if self.passed else f"FAILED: {', '.join(self.failed) or 'nothing reached'}"
        )
        return f"{self.model}, level {self.level}: {words}"

    def _rows(self) -> Iterator[tuple[str, str, str, str]]:
        for rung in self.rungs:
            said = rung.unreached or rung.complaint or rung.power
            yield rung.name, rung.status.replace("failed", "FAILED"), rung.claim, said

    def __repr__(self) -> str:
        rows = list(self._rows())
        wide = [max((len(row[k]) for row in rows), default=0) for k in (0, 1)]
        lines = [
            f"  {name:<{wide[0]}}  {status:<{wide[1]}}  {claim}{f'  [{said}]' if said else ''}"
            for name, status, claim, said in rows
        ]
        return "\n".join([self._verdict, *lines])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{w}</th>" for w in ("rung", "", "claim", "figures, power or reason"))
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>"
            for row in self._rows()
        )
        return f"<p>{html.escape(self._verdict)}</p><table><tr>{head}</tr>{body}</table>"


def verify(model: Any, level: str = "quick", draw: int = 0) -> Certificate:
    """Climb the ladder for the kernel of a model.

    **Arguments:** `model`: as of `derive.derive`; its kernel is built if need be, as
    `derive.compile` does.  `level`: "quick" or "full".  `draw`: 1, 2, ... for other random
    numbers.

    A rung that fails is told in the certificate and raises nothing; a model that cannot be derived
    or built raises as `derive.compile` does, an unknown level RequestError.  No file is written:
    `derive verify` does that.
    """
    if level not in LEVELS:
        raise RequestError(f"there is no level {level!r}; take {' or '.join(LEVELS)}")
    from derive.face.kernel import kernel_file

    entry = find(model)
    file = kernel_file(entry)
    return Certificate(
        entry.name, level, tuple(rung for _, rung in rungs(entry, file, level, draw))
    )


def rungs(entry: Entry, file: Path, level: str, draw: int = 0) -> Iterator[tuple[Any, Any]]:
    """(derivation, rung) one by one, for the kernel in `file`."""
    from derive.dispatch import method
    from derive.draws import redrawn
    from derive.verify.common.compare import drop_compiled

    with redrawn(draw):
        yield from method(entry.method).climb(load(entry), file, level)
    drop_compiled()

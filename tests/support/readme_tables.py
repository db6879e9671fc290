"""The table of models in README.md, between its markers.  Run as a program, it writes it."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from textwrap import wrap

from derive.registry import registered

README = Path(__file__).parents[2] / "README.md"
BETWEEN = re.compile(r"(<!-- models: [^\n]*-->\n).*?(<!-- end of models -->)", re.DOTALL)


def models() -> str:
    """The names of the models of each kind."""
    entries = sorted(registered(), key=lambda e: (e.method, e.name))
    rows = []
    for word, of in groupby(entries, lambda e: e.method):
        lines = wrap(", ".join(e.name for e in of), 90)
        rows += [f"| {f'`{word}`' if k == 0 else ''} | {line} |" for k, line in enumerate(lines)]
    return "\n".join(["| kind | models |", "|---|---|", *rows]) + "\n"


def written(text: str) -> str:
    return BETWEEN.sub(lambda found: f"{found[1]}{models()}{found[2]}", text)


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")

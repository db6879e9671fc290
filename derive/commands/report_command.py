"""Write the reports of models as pages, with the reference of what they and derive offer.

DIR/index.html leads to them: equations with what is said of them, the record of the steps, and the
names that Python sees, with their docstrings.  Every page stands alone.
"""

from __future__ import annotations

import argparse
import html
import sys
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from derive.cache import kept
from derive.commands.options import add_kernels
from derive.derivation import add_limit, derived
from derive.entry import Entry
from derive.errors import RequestError
from derive.files import present, require_writable, write_whole
from derive.process import has_signs
from derive.registry import asked, registered, shown

REFERENCE = "reference"  # folder of the names that Python sees


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all registered models")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder of the pages")
    add_kernels(parser)
    add_limit(parser)


def run(options: argparse.Namespace) -> int:
    from derive.face import reference

    entries = asked(options.models) or registered()
    twice = {e.name for e in entries if sum(o.name == e.name for o in entries) > 1}
    if twice:
        raise RequestError(f"two models are called {sorted(twice)[0]}: one page would be lost")
    folder = options.to
    require_writable(folder / REFERENCE, "--to")
    write_whole(folder / REFERENCE / "derive.html", reference.python_page())
    rows = []
    for entry in entries:
        for name, text in _pages(entry, options.limit):
            write_whole(folder / f"{name}.html", text)
        rows.append(_row(entry, _referenced(entry, folder, options.kernels)))
        print(f"\r{len(rows)} of {len(entries)} models", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    write_whole(folder / "index.html", _index(rows))
    print(shown(folder / "index.html"))
    return 0


def _pages(entry: Entry, limit: float) -> Iterator[tuple[str, str]]:
    """Names and texts of the two pages of a model, which is derived once."""

    @cache
    def found() -> Any:
        from derive.face.equations import Equations

        equations = Equations(entry, derived(entry, limit))
        equations.require_sound()
        return equations

    def report(steps: bool) -> str:
        return str(found().report("html", steps))

    for name, steps in ((entry.name, False), (f"{entry.name}-steps", True)):
        what = ["html", f"steps {steps}", "", f"signs {has_signs()}"]  # as `derive show` keeps it
        yield name, kept(entry, what, partial(report, steps))


def _referenced(entry: Entry, folder: Path, kernels: Path | None) -> bool:
    """Whether there is a kernel, whose page is written then."""
    from derive.face import reference
    from derive.kernels import kernel_of

    if not present(entry.kernels(kernels) / f"{entry.name}.py"):
        return False
    page = reference.kernel_page(kernel_of(entry, kernels))
    write_whole(folder / REFERENCE / f"{entry.name}.html", page)
    return True


def _row(entry: Entry, built: bool) -> str:
    name, title = html.escape(entry.name), html.escape(entry.title)
    kernel = f'<a href="{REFERENCE}/{name}.html">kernel</a>' if built else "not built"
    return (
        f'<tr><td><a href="{name}.html">{name}</a><td>{html.escape(entry.method)}<td>{title}'
        f'<td><a href="{name}-steps.html">steps</a><td>{kernel}'
    )


def _index(rows: list[str]) -> str:
    from derive.emit.common.document import html_page

    head = "<tr><th>model<th>kind<th>what it is<th>record<th>reference"
    python = f'<p><a href="{REFERENCE}/derive.html">What <code>import derive</code> offers</a></p>'
    return html_page("derive: reports", "\n".join([python, "<table>", head, *rows, "</table>"]))

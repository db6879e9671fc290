"""Write the reports of models as a site: pages that need no network and no script.

DIR/index.html leads to them: a page a model, with definition, equations, every step, facts, kernel
and certificate; what definitions of each kind may say; the texts of derive; the names that Python
sees.  Pictures that `derive figure` has drawn into the folder of --figures come with them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from derive.cache import kept
from derive.commands.list_command import standing
from derive.commands.options import add_kernels
from derive.derivation import add_limit, derived
from derive.dispatch import method, own
from derive.entry import Entry, generated_folder
from derive.errors import RequestError
from derive.files import present, require_writable, write_whole
from derive.registry import asked, registered, shown

REFERENCE = "reference"  # folder of the names that Python sees
PICTURES = "pictures"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all registered models")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder of the pages")
    parser.add_argument(
        "--figures",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="folder of pictures that derive figure has drawn (default results)",
    )
    add_kernels(parser)
    add_limit(parser)


def run(options: argparse.Namespace) -> int:
    from derive.site.index_page import Row

    entries = asked(options.models) or registered()
    twice = {e.name for e in entries if sum(o.name == e.name for o in entries) > 1}
    if twice:
        raise RequestError(f"two models are called {sorted(twice)[0]}: one page would be lost")
    folder = options.to
    require_writable(folder / REFERENCE, "--to")
    rows: list[Row] = []
    for entry in entries:
        properties = _model(entry, folder, options)
        reference = _referenced(entry, folder, options.kernels)
        state = standing(entry.kernels(options.kernels), entry)
        rows.append(Row(entry.name, entry.method, entry.title, properties, state, reference))
        print(f"\r{len(rows)} of {len(entries)} models", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    _others(folder, rows)
    print(shown(folder / "index.html"))
    return 0


def _model(entry: Entry, folder: Path, options: argparse.Namespace) -> Mapping[str, str]:
    """Write the page of a model, which is derived once; its properties."""
    from derive.site.gathered import beside, digest, pictures, with_properties
    from derive.site.index_page import HOME
    from derive.site.model_page import model_page

    @cache
    def found() -> Any:
        from derive.face.equations import Equations

        equations = Equations(entry, derived(entry, options.limit))
        equations.require_sound()
        return equations

    kind = method(entry.method)
    said = kept(entry, ["properties"], lambda: json.dumps(dict(kind.properties(found().result))))
    there = with_properties(beside(entry, options.kernels), json.loads(said))
    drawn = []
    for title, file in pictures(entry, options.figures):
        require_writable(folder / PICTURES, "--to")
        shutil.copyfile(file, folder / PICTURES / file.name)
        drawn.append((title, f"{PICTURES}/{file.name}"))
    way = (entry.method, f"kind-{entry.method}.html")
    there = replace(there, figures=drawn, links=[HOME, way])

    def text() -> str:
        return model_page(kind.document(found().result, True), there)

    write_whole(folder / f"{entry.name}.html", kept(entry, ["page", digest(there)], text))
    properties: Mapping[str, str] = there.properties
    return properties


def _referenced(entry: Entry, folder: Path, kernels: Path | None) -> str:
    """Where the page of its kernel is, if there is one."""
    from derive.face import reference
    from derive.kernels import kernel_of

    if not present(entry.kernels(kernels) / f"{entry.name}.py"):
        return ""
    page = reference.kernel_page(kernel_of(entry, kernels))
    write_whole(folder / REFERENCE / f"{entry.name}.html", page)
    return f"{REFERENCE}/{entry.name}.html"


def _others(folder: Path, rows: list[Any]) -> None:
    """The pages of kinds, texts, broken rules and of what Python sees, and the index."""
    from derive.face import reference
    from derive.site import index_page
    from derive.site.gathered import RULES, read
    from derive.site.markdown import title

    write_whole(folder / REFERENCE / "derive.html", reference.python_page())
    pages = [("What import derive offers", f"{REFERENCE}/derive.html")]
    for name, text in index_page.texts().items():
        write_whole(folder / f"{name}.html", index_page.text_page(text))
        pages.append((title(text), f"{name}.html"))
    for name, text in index_page.notebooks().items():
        words, page = index_page.notebook_page(name, text)
        write_whole(folder / f"{name}.html", page)
        write_whole(folder / f"{name}.ipynb", text)
        pages.append((f"Notebook: {words}", f"{name}.html"))
    if rules := read(generated_folder() / RULES):
        write_whole(folder / "broken-rules.html", index_page.text_page(rules))
        pages.append((title(rules), "broken-rules.html"))
    kinds = list(dict.fromkeys((*own(), *(row.method for row in rows))))
    for word in kinds:
        of = [row for row in rows if row.method == word]
        write_whole(folder / f"kind-{word}.html", index_page.method_page(word, of))
    write_whole(folder / "index.html", index_page.index(rows, pages, kinds))

"""The first page of a site, and its pages of methods and texts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

from derive.dispatch import method
from derive.site import markdown
from derive.site.page import Link, code, escape, page, scrolling, section, sentence

COLUMNS = ("clock", "exactness", "structure", "explosion", "cost")
HOME: Link = ("all models", "index.html")


class Row(NamedTuple):
    """A model in the table."""

    name: str
    method: str
    title: str
    properties: Mapping[str, str]
    standing: str
    reference: str


def texts() -> dict[str, str]:
    """Pages that are kept as text, by name."""
    return _kept("texts", ".md")


def notebooks() -> dict[str, str]:
    """Worked notebooks, by name."""
    return _kept("notebooks", ".ipynb")


def _kept(folder: str, suffix: str) -> dict[str, str]:
    there = (resources.files("derive.site") / folder).iterdir()
    files = sorted((f for f in there if f.name.endswith(suffix)), key=lambda f: f.name)
    return {f.name.removesuffix(suffix): f.read_text(encoding="utf-8") for f in files}


def notebook_page(name: str, text: str) -> tuple[str, str]:
    """Title and page of a notebook, whose file lies beside the page."""
    cells = json.loads(text)["cells"]
    whole = "\n\n".join(
        source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
        for cell in cells
        if (source := "".join(cell["source"]))
    )
    head = f'<p><a href="{escape(name)}.ipynb">{escape(name)}.ipynb</a>, to be run</p>'
    body = markdown.as_html(markdown.without_title(whole))
    return markdown.title(whole), page(markdown.title(whole), body, [HOME], head)


def text_page(text: str) -> str:
    return page(markdown.title(text), markdown.as_html(markdown.without_title(text)), [HOME])


def method_page(word: str, models: Sequence[Row]) -> str:
    """What definitions of a kind may say, what is refused, and where to begin."""
    kind = method(word)
    text = _told(word)
    rows = "".join(
        f'<li><a href="{r.name}.html">{r.name}</a>: {sentence(r.title)}</li>' for r in models
    )
    starter = f"<pre>{code(kind.starter.strip())}</pre>"
    body = [
        markdown.as_html(markdown.without_title(text)),
        section(
            "starter",
            "A definition to begin with",
            f"<p><code>derive new NAME --kind {word}</code> writes it.</p>{starter}",
        ),
        section("models", "Models of this kind", f"<ul>{rows}</ul>" if rows else ""),
    ]
    return page(markdown.title(text) or word, "\n".join(body), [HOME])


def _told(word: str) -> str:
    """The text beside a method's descriptor, or what its module says of itself."""
    module = type(method(word)).__module__
    file: Traversable | None = None
    with contextlib.suppress(TypeError):  # where it is a module, no package
        file = resources.files(module) / "method.md"
    if file is not None and file.is_file():
        return file.read_text(encoding="utf-8")
    return f"# {word}\n"


def index(rows: Sequence[Row], pages: Sequence[Link], methods: Sequence[str]) -> str:
    """`pages`: of texts and tables."""
    listed = "".join(
        f'<li><a href="{escape(there)}">{escape(words)}</a></li>' for words, there in pages
    )
    kinds = "".join(f'<li><a href="kind-{word}.html">{word}</a></li>' for word in methods)
    search = (
        '<p class="search" hidden><label for="search">Search names, titles and properties: </label>'
        '<input type="search" id="search" autocomplete="off"> '
        '<span id="found" role="status" class="soft"></span></p>'
    )
    body = [
        section("models", "Models", search + _table(rows)),
        section(
            "kinds",
            "Kinds of models: what a definition may say, and what is refused",
            f"<ul>{kinds}</ul>",
        ),
        section("pages", "More", f"<ul>{listed}</ul>"),
    ]
    lead = (
        "<p>Every page is derived from a definition: its equations, each step with the residual "
        "of its numeric check, the kernel beside what it computes, and its certificate.</p>"
    )
    return page("derive: reports", "\n".join(body), [], lead)


def _table(rows: Sequence[Row]) -> str:
    head = ("model", "kind", "what it is", *COLUMNS, "certificate", "reference")
    top = "".join(f'<th scope="col">{word}</th>' for word in head)
    body = "\n".join(map(_row, rows))
    return scrolling(
        f'<table class="wide"><thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody></table>',
        "table of all models",
    )


def _row(row: Row) -> str:
    said = [row.name, row.method, row.title, *row.properties.values(), row.standing]
    cells = [
        f'<a href="{escape(row.name)}.html">{escape(row.name)}</a>',
        f'<a href="kind-{row.method}.html">{escape(row.method)}</a>',
        sentence(row.title),
        *(sentence(row.properties.get(name, "")) for name in COLUMNS),
        escape(row.standing),
        f'<a href="{escape(row.reference)}">kernel</a>' if row.reference else "not built",
    ]
    search = escape(" ".join(said).lower())
    return f'<tr data-search="{search}">{"".join(f"<td>{c}</td>" for c in cells)}</tr>'

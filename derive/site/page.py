"""The frame of every page: one file of HTML that needs nothing from elsewhere.

Style and script stand in the page.  The script adds search, copying and folding at once; what a
page says is there without it.
"""

from __future__ import annotations

import html
import io
import keyword
import re
import tokenize
from collections.abc import Sequence
from functools import cache
from importlib import resources

from derive.site import mathml
from derive.site.formulas import pieces

escape = html.escape
Link = tuple[str, str]  # words, where they lead


def page(title: str, body: str, links: Sequence[Link] = (), head: str = "") -> str:
    """A page that stands alone.

    `body`, `head`: HTML, of the page and before its first section; `links`: the way to other pages.
    """
    ways = "".join(f'<a href="{escape(there)}">{escape(words)}</a>' for words, there in links)
    said = escape(title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{said}</title>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>\n{_text('page.css')}</style>\n</head>\n<body>\n"
        f'<header><a class="skip" href="#main">to the text</a>{ways}</header>\n'
        f'<main id="main">\n<h1>{sentence(title)}</h1>\n{head}\n{body}\n</main>\n'
        f"<script>\n{_text('page.js')}</script>\n</body>\n</html>\n"
    )


@cache
def _text(name: str) -> str:
    return (resources.files("derive.site") / name).read_text(encoding="utf-8")


def slug(words: str) -> str:
    """Words as the name of a place in a page."""
    return re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-")


def section(name: str, heading: str, body: str) -> str:
    return f'<section id="{name}">\n<h2>{escape(heading)}</h2>\n{body}\n</section>' if body else ""


def sentence(words: str) -> str:
    """A line of plain text, its formulas as mathematics, its arXiv numbers as links."""
    return "".join(
        mathml.inline(p.text) if p.is_math else _linked(escape(p.text)) for p in pieces(words)
    )


def _linked(text: str) -> str:
    return re.sub(
        r"arXiv[: ](\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>', text
    )


def scrolling(body: str, name: str) -> str:
    """What may be wider than the page, moved by keys too."""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}">{body}</div>'
    )


def tex(source: str) -> str:
    """The LaTeX behind a formula; the script puts a button that copies it before this."""
    return f'<details class="tex"><summary>LaTeX</summary><pre>{escape(source)}</pre></details>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], name: str, kind: str = "") -> str:
    """`rows`: cells of HTML."""
    top = "".join(f'<th scope="col">{escape(word)}</th>' for word in head)
    body = "\n".join(f"<tr>{''.join(f'<td>{c}</td>' for c in row)}</tr>" for row in rows)
    inner = f"<table{kind}><thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    return scrolling(inner, name)


def code(text: str) -> str:
    """Python text with its words, strings and comments told apart; other text as it is."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return escape(text)
    lines, out, row, column = text.splitlines(keepends=True), [], 1, 0

    def between(to_row: int, to_column: int) -> str:
        nonlocal row, column
        parts = []
        while row < to_row and row <= len(lines):
            parts.append(lines[row - 1][column:])
            row, column = row + 1, 0
        if row <= len(lines):
            parts.append(lines[row - 1][column:to_column])
        column = to_column
        return escape("".join(parts))

    for kind, word, start, end, _ in tokens:
        out.append(between(*start))
        shown = between(*end)
        name = {tokenize.STRING: "st", tokenize.COMMENT: "co"}.get(kind, "")
        name = "kw" if kind == tokenize.NAME and keyword.iskeyword(word) else name
        out.append(f'<span class="{name}">{shown}</span>' if name else shown)
    return "".join(out)

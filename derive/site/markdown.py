"""The little of Markdown that the texts of this folder and the notebooks are written in.

Headings, paragraphs, lists, fenced code, tables, `code`, **bold**, *leaning*, [words](link) and
$formulas$.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from derive.site import mathml
from derive.site.page import code, slug, table

_INLINE = re.compile(
    r"`(?P<code>[^`]+)`|\$(?P<math>[^$\n]+)\$|\*\*(?P<bold>[^*]+)\*\*|\*(?P<lean>[^*\s][^*]*)\*"
    r"|\[(?P<words>[^\]]+)\]\((?P<link>[^)]+)\)"
)


def as_html(text: str) -> str:
    """HTML of a text, without the page around it."""
    lines = text.split("\n")
    out: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            at += 1
        elif line.startswith("```"):
            at = _fenced(lines, at, out)
        elif heading := re.match(r"(#{1,4}) +(.*)", line):
            level = len(heading[1])
            out.append(f'<h{level} id="{slug(heading[2])}">{inline(heading[2])}</h{level}>')
            at += 1
        else:
            at = _block(lines, at, out)
    return "\n".join(out)


def title(text: str) -> str:
    """The first heading."""
    return re.sub(r"[`*]", "", text.partition("\n")[0].lstrip("# "))


def without_title(text: str) -> str:
    return text.partition("\n")[2]


def inline(text: str) -> str:
    out, at = [], 0
    for found in _INLINE.finditer(text):
        out += [html.escape(text[at : found.start()]), _marked(found)]
        at = found.end()
    return "".join([*out, html.escape(text[at:])])


def _marked(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind == "code":
        return f"<code>{html.escape(found['code'])}</code>"
    if kind == "math":
        return mathml.inline(found["math"])
    if kind == "link":
        return f'<a href="{html.escape(found["link"])}">{inline(found["words"])}</a>'
    word = {"bold": "b", "lean": "i"}[str(kind)]
    return f"<{word}>{inline(found[str(kind)])}</{word}>"


def _fenced(lines: list[str], at: int, out: list[str]) -> int:
    kind, body = lines[at][3:].split(" ")[0], []
    at += 1
    while at < len(lines) and not lines[at].startswith("```"):
        body.append(lines[at])
        at += 1
    text = "\n".join(body)
    out.append(f"<pre>{code(text) if kind == 'python' else html.escape(text)}</pre>")
    return at + 1


def _block(lines: list[str], at: int, out: list[str]) -> int:
    """A table, a list, indented code or a paragraph, up to an empty line."""
    first = at
    while at < len(lines) and lines[at].strip() and not lines[at].startswith(("```", "#")):
        at += 1
    block = lines[first:at]
    kinds: dict[str, Callable[[list[str]], str]] = {"|": _table, "- ": _list, "    ": _indented}
    made = next((f for mark, f in kinds.items() if block[0].startswith(mark)), _paragraph)
    out.append(made(block))
    return at


def _paragraph(block: list[str]) -> str:
    return f"<p>{inline(' '.join(line.strip() for line in block))}</p>"


def _indented(block: list[str]) -> str:
    return f"<pre>{html.escape(chr(10).join(line[4:] for line in block))}</pre>"


def _list(block: list[str]) -> str:
    rows: list[str] = []
    for line in block:
        if line.startswith("- "):
            rows.append(line[2:])
        else:
            rows[-1] += " " + line.strip()
    return f"<ul>{''.join(f'<li>{inline(row)}</li>' for row in rows)}</ul>"


def _table(block: list[str]) -> str:
    cells = [
        [inline(c.strip()) for c in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        for line in block
    ]
    head = [re.sub(r"<[^>]+>", "", html.unescape(c)) for c in cells[0]]
    return table(head, cells[2:], "table")

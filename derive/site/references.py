"""What a definition cites, as links and as BibTeX.

Definitions cite by arXiv numbers.  Entries of the papers that shipped definitions name lie in
`references.bib`; of any other the number is all that is known, and all that is said.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from importlib import resources

from derive.site.page import escape, tex

_NUMBER = re.compile(r"arXiv[: ]\s*(\d{4}\.\d{4,5})")
_ENTRY = re.compile(r"@\w+\{(?P<key>[^,]+),.*?\n\}", re.DOTALL)
_FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", re.MULTILINE)


def numbers(*texts: str) -> list[str]:
    """arXiv numbers in their order, once each."""
    return list(dict.fromkeys(n for text in texts for n in _NUMBER.findall(text)))


@cache
def _known() -> dict[str, str]:
    """Entries by arXiv number."""
    text = (resources.files("derive.site") / "references.bib").read_text(encoding="utf-8")
    entries = [match[0] for match in _ENTRY.finditer(text)]
    return {dict(_FIELD.findall(entry))["eprint"]: entry for entry in entries}


def entry(number: str) -> str:
    """A paper's entry of BibTeX."""
    return _known().get(number) or (
        f"@misc{{arXiv:{number},\n  eprint = {{{number}}},\n  archivePrefix = {{arXiv}},\n"
        f"  url = {{https://arxiv.org/abs/{number}}},\n}}"
    )


def key(number: str) -> str:
    """What \\cite takes."""
    return entry(number).partition("{")[2].partition(",")[0]


def bibtex(*texts: str) -> str:
    return "\n\n".join(map(entry, numbers(*texts)))


def as_html(*texts: str) -> str:
    found = numbers(*texts)
    if not found:
        return ""
    rows = "".join(f"<li>{_line(number)}</li>" for number in found)
    return f"<ul>{rows}</ul>{tex(bibtex(*texts)).replace('LaTeX', 'BibTeX')}"


def line(number: str) -> str:
    """Authors, title, year, in plain text."""
    known = dict(_FIELD.findall(entry(number)))
    authors = [
        " ".join(reversed(name.split(", "))) for name in known.get("author", "").split(" and ")
    ]
    said = (", ".join(authors), known.get("title", ""), known.get("year", ""))
    return ". ".join(filter(None, said))


_ACCENTS = {"'": "\u0301", "`": "\u0300", '"': "\u0308", "^": "\u0302"}


def _line(number: str) -> str:
    accented = re.sub(r"\{?\\(['`\"^])(\w)\}?", lambda m: m[2] + _ACCENTS[m[1]], line(number))
    said = escape(unicodedata.normalize("NFC", re.sub(r"[{}]", "", accented)))
    link = f'<a href="https://arxiv.org/abs/{number}">arXiv {number}</a>'
    return f"{said}. {link}" if said else link

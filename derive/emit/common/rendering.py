"""The one Jinja environment, and the hash by which a generated text knows that it is untouched."""

from __future__ import annotations

import hashlib
import re
import textwrap
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from derive.emit.common.layout import WIDTH

NO_HASH = "0" * 16


_HASH_LINE = re.compile(r"^Body ([0-9a-f]{16})", re.MULTILINE)


@cache
def environment() -> jinja2.Environment:
    """The one Jinja environment: undefined names are errors.

    Every value is escaped for text between double quotes unless it is marked as code.
    """
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
        finalize=_finalize,
    )
    made.filters |= {"code": Code, "raw": raw, "line": lambda text: " ".join(str(text).split("\n"))}
    return made


class Code(str):
    """Text that the emitter made to be run, made of checked names, numbers and operators."""

    __slots__ = ()


def _finalize(value: Any) -> Any:
    kept = isinstance(value, (Code, jinja2.Undefined))
    return value if kept else escape(str(value))


def escape(text: str) -> str:
    """Text as it stands between double quotes, one or three, and reads back equal."""
    return "".join(
        _ESCAPES.get(c) or (c if c == "\n" or c.isprintable() else _code(c)) for c in text
    )


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\t": "\\t"}


def _code(char: str) -> str:
    number = ord(char)
    return (
        f"\\x{number:02x}"
        if number < 256
        else f"\\u{number:04x}"
        if number < 65536
        else (f"\\U{number:08x}")
    )


def raw(text: str) -> Code:
    """A literal of LaTeX, raw where that reads back equal."""
    plain = all(c.isprintable() and c != '"' for c in text) and not text.endswith("\\")
    return Code(f'r"{text}"' if plain else '"' + escape(text).replace("\n", "\\n") + '"')


def _template(name: str) -> str:
    return (resources.files("derive.templates") / name).read_text(encoding="utf-8")


def body_hash(text: str) -> str:
    """Hash of a module's text with its own hash blanked out."""
    blank = _HASH_LINE.sub(f"Body {NO_HASH}", text, count=1)
    return hashlib.sha256(blank.encode()).hexdigest()[:16]


def body_is_untouched(text: str) -> bool:
    """Whether a generated module still is as it was written."""
    match = _HASH_LINE.search(text)
    return match is not None and match.group(1) == body_hash(text)


def filled(doc: str) -> str:
    """A docstring with its paragraphs filled; it is indented by four, after three quotes."""
    first, *others = doc.split("\n\n")
    width = WIDTH - 4
    head = textwrap.fill(" " * 3 + first, width)[3:]
    return "\n\n".join([head, *(textwrap.fill(p, width) for p in others)])

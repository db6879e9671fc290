"""The formats of a report, from one `Document`."""

from __future__ import annotations

from collections.abc import Callable

from derive.emit.common.document import Document, json_text, text
from derive.site.appendix import latex
from derive.site.beside import Beside
from derive.site.model_page import model_page

WHOLE = ("latex", "html")  # formats that hold every step, asked for or not


def formatted(
    form: str, document: Document, beside: Beside, spelt: Callable[[str], str] = str
) -> str:
    """Raises KeyError for another form.

    `spelt`: how text spells mathematics, as it is or with the signs of a terminal.
    """
    made: dict[str, Callable[[], str]] = {
        "text": lambda: text(document, spelt),
        "latex": lambda: latex(document, beside),
        "html": lambda: model_page(document, beside),
        "json": lambda: json_text(document),
    }
    return made[form]()

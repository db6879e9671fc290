"""Says which names a definition may give: those that a kernel can carry as fields and locals.

Input: a name as the definition writes it.  Output: the name as Python reads it (identifiers are
normalised: the ligature in "ﬁeld" is two letters there), or a `DefinitionError` at the line.
"""

from __future__ import annotations

import difflib
import keyword
import unicodedata

from derive.errors import DefinitionError, Place


def identifier(name: str, what: str, place: Place | None = None) -> str:
    """The name as Python reads it; refuses what no field of a kernel can be called.

    `what`: the kind of thing named, for the message ("parameter", "dimension", ...).
    """
    name = unicodedata.normalize("NFKC", name)
    if not name.isidentifier():
        raise DefinitionError(f"the {what} {name!r} has a name that is no identifier", place)
    if keyword.iskeyword(name):
        raise DefinitionError(
            f"the {what} {name} has the name of a word of Python, which no field of a kernel can "
            f"have; call it {name}_",
            place,
        )
    if name.startswith("_"):
        other = name.strip("_")
        advice = (
            f"; call it {other}" if other.isidentifier() and not keyword.iskeyword(other) else ""
        )
        raise DefinitionError(
            f"the {what} {name} starts with an underscore, which no field of a kernel may{advice}",
            place,
        )
    return name


def literal_size(said: str, size: str) -> str:
    """What to write where a number stands for a size."""
    return (
        f"{said} has the number {size} as a size; sizes are symbols here, and numbers come with "
        f'the arrays that kernels are given: d = dims("d: size"), and d in place of {size}'
    )


def nearest(name: str, known: list[str]) -> str:
    """ " (did you mean ...?)" where a known name is close, else nothing."""
    close = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {close[0]}?)" if close else ""

"""Grids of parameters as they are written on a command line: NAME=VALUES, one axis each."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Sequence

from derive.errors import RequestError

FORMS = "NAME=.5,1,2 (values), NAME=.1:.9:9 (9 from .1 to .9) or NAME=1e-2:1:5:log (equal ratios)"
MOST = 10**6  # points: far beyond what a table and its reader hold

Axes = dict[str, list[float]]
Point = dict[str, float]


def axes(given: Sequence[str], names: Sequence[str], model: str) -> Axes:
    """Values by parameter.  Raises RequestError, with the right form, for what is none."""
    found: Axes = {}
    for text in given:
        name, equals, values = text.partition("=")
        if not equals or not name:
            raise RequestError(f"--grid {text}: write {FORMS}")
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
            raise RequestError(f"--grid {text}: {model} has no parameter {name}; {hint}")
        if name in found:
            raise RequestError(f"--grid {text}: {name} has values already; write them in one list")
        found[name] = _values(text, values)
    if not found:
        raise RequestError(f"the grid is empty; --grid takes {FORMS}")
    count = math.prod(map(len, found.values()))
    if count > MOST:
        raise RequestError(f"the grid has {count} points, more than {MOST}; take fewer values")
    return found


def points(axes: Axes) -> list[Point]:
    """Every combination, the last parameter moving fastest."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _values(text: str, given: str) -> list[float]:
    if not given.strip():
        raise RequestError(f"--grid {text}: there is no value; write {FORMS}")
    found = _range(text, given.split(":")) if ":" in given else _list(text, given)
    if len(set(found)) < len(found):
        raise RequestError(f"--grid {text}: a value stands there twice")
    return found


def _list(text: str, given: str) -> list[float]:
    return [_number(text, word) for word in given.split(",")]


def _range(text: str, words: list[str]) -> list[float]:
    """linspace, or its like with equal ratios; the ends are as they were written."""
    if len(words) not in (3, 4) or words[3:] not in ([], ["log"]) or "," in "".join(words):
        raise RequestError(f"--grid {text}: a range is FIRST:LAST:COUNT or FIRST:LAST:COUNT:log")
    first, last = _number(text, words[0]), _number(text, words[1])
    try:
        count = int(words[2])
    except ValueError:
        raise RequestError(f"--grid {text}: {words[2]!r} is not a whole number") from None
    if count < 1:
        raise RequestError(f"--grid {text}: {count} values are an empty grid; take 1 or more")
    if not (math.isfinite(first) and math.isfinite(last)):
        raise RequestError(f"--grid {text}: the ends of a range are finite; list inf by a comma")
    if words[3:] and not (first > 0 and last > 0):
        raise RequestError(f"--grid {text}: equal ratios need ends above 0")
    if count == 1:
        return [first]
    if count > MOST:
        raise RequestError(f"--grid {text}: {count} values are more than {MOST}")
    shares = [i / (count - 1) for i in range(count)]
    if words[3:]:
        inner = [first * (last / first) ** s for s in shares]
    else:
        inner = [first + (last - first) * s for s in shares]
    # .1 + .8 * .25 is 0.30000000000000004: what is meant has 12 digits
    return [first, *(float(f"{x:.12g}") for x in inner[1:-1]), last]


def _number(text: str, word: str) -> float:
    try:
        found = float(word)
    except ValueError:
        raise RequestError(f"--grid {text}: {word!r} is not a number; write {FORMS}") from None
    if math.isnan(found):
        raise RequestError(f"--grid {text}: nan is not a value")
    return found

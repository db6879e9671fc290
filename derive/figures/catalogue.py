"""Which figures there are.  Imports nothing heavy: naming a figure wrongly costs no time."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

from derive import contract
from derive.dispatch import method, own
from derive.errors import RequestError

Progress = Callable[[float], None]
Arrays = dict[str, Any]


class Figure(NamedTuple):
    """`request`: what the arrays follow from; `compute(request, progress)`; `draw(request,
    arrays)`; `film(request, arrays)`: its pictures one by one, where there is a film."""

    request: dict[str, Any]
    compute: Callable[[dict[str, Any], Progress], Arrays]
    draw: Callable[[dict[str, Any], Arrays], Any]
    film: Callable[[dict[str, Any], Arrays], Iterator[Any]] | None = None


def _known() -> dict[str, contract.Figure]:
    return {name: found for word in own() for name, found in method(word).figures().items()}


def names() -> list[str]:
    return list(_known())


def titles() -> dict[str, str]:
    return {name: found.title for name, found in _known().items()}


def figure(name: str) -> Figure:
    """The figure of a name; RequestError with "did you mean" for what is not there."""
    known = _known()
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known figures: {', '.join(known)}"
        raise RequestError(f"unknown figure {name!r}; {hint}")
    found = known[name]
    module = import_module(f"derive.figures.{found.module}")
    own_model = {"model": found.model} if found.model else {}
    film = getattr(module, "film", None)
    return Figure({**own_model, **module.REQUEST}, module.compute, module.draw, film)

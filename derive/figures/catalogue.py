"""Which figures there are.  Imports nothing heavy: naming a figure wrongly costs no time."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from derive.errors import RequestError

FIGURES = {
    "correlation": "correlation against depth: shaped, Pre-LN and unshaped attention",
    "densities": "densities of variance, covariance and correlation: network and SDE",
    "sweeps": "correlation against gamma and tau_0",
    "explosion": "share of exploded paths, gamma^2 below and above 1/2",
    "finite_width": "weak error against the width: the limit's SDE and the SDE at that width",
    "limiting_rank": "rank of the limit covariance: adaptive solver and clipped Euler",
    "cone": "covariances in the plane settle on a ray or blow up: softmax, heads, L2, Sinkhorn",
}
TURNPIKE = "turnpike_"

Progress = Callable[[float], None]
Arrays = dict[str, Any]


class Figure(NamedTuple):
    """`request`: what the arrays follow from; `compute(request, progress)`; `draw(arrays)`."""

    request: dict[str, Any]
    compute: Callable[[dict[str, Any], Progress], Arrays]
    draw: Callable[[dict[str, Any], Arrays], Any]


def names() -> list[str]:
    from derive.figures.instances import TITLES

    return [*FIGURES, *(TURNPIKE + model for model in TITLES)]


def titles() -> dict[str, str]:
    from derive.figures.instances import TITLES

    return FIGURES | {TURNPIKE + model: text for model, text in TITLES.items()}


def figure(name: str) -> Figure:
    """The figure of a name; RequestError with "did you mean" for what is not there."""
    known = names()
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known figures: {', '.join(known)}"
        raise RequestError(f"unknown figure {name!r}; {hint}")
    if name.startswith(TURNPIKE):
        from derive.figures import turnpike

        request = {"model": name.removeprefix(TURNPIKE), **turnpike.REQUEST}
        return Figure(request, turnpike.compute, turnpike.draw)
    module = import_module(f"derive.figures.{name}")
    return Figure(module.REQUEST, module.compute, module.draw)

"""What a control problem's text says of norms, discount and symmetry, found by running it.

Input: a definition and a point.  Output: `TextFacts`; nothing of the derivation takes part.  The
words for norms are told what to return: the running cost is affine in it, and the slope is the
weight.
"""

from __future__ import annotations

from dataclasses import dataclass

from derive.methods.optimal_control.instances import Point, text_problem
from derive.notation.control.definition import ControlDefinition


@dataclass(frozen=True)
class TextPrice:
    """`weight` times a norm ("l1_norm" or "l2_norm") of whole controls, by their names."""

    word: str
    names: tuple[str, ...]
    weight: float


@dataclass(frozen=True)
class TextFacts:
    """`symmetric`: names of symmetric arrays, costates and moves (p_ and d_) among them."""

    prices: tuple[TextPrice, ...]
    discount: float
    symmetric: frozenset[str]


def text_facts(model: ControlDefinition, at: Point) -> TextFacts:
    heard: list[tuple[str, tuple[str, ...]]] = []

    def silent(word: str, names: tuple[str, ...]) -> float:
        heard.append((word, names))
        return 0.0

    still = text_problem(model, at, {}, silent)
    calls = list(heard)
    prices = []
    for position, (word, names) in enumerate(calls):
        heard.clear()

        def one(word: str, names: tuple[str, ...], position: int = position) -> float:
            silent(word, names)
            return float(len(heard) == position + 1)

        weight = float(text_problem(model, at, {}, one).running - still.running)
        prices.append(TextPrice(word, names, weight))
    marks = [s.name for s in (*model.states, *model.data) if s.kind == "symmetric"]
    return TextFacts(
        tuple(p for p in prices if p.weight),
        float(still.discount),
        frozenset(f"{mark}{n}" for n in marks for mark in ("", "p_", "d_")),
    )

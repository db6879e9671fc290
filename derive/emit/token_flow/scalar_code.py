"""Scalar rates as statements: shared parts once, in the words of kernels."""

from __future__ import annotations

from collections.abc import Sequence

import sympy as sp

from derive.emit.common import scalars
from derive.emit.common.names import fresh

WORDS = ("sqrt", "exp", "log", "tanh", "sin", "cos", "erf", "relu")


def statements(
    expressions: Sequence[sp.Expr], taken: set[str], words: set[str]
) -> tuple[list[str], list[str]]:
    """Lines for what is shared, and a text for each expression; `words` gains what they use."""
    names: list[sp.Symbol] = []

    def numbered():  # type: ignore[no-untyped-def]
        while True:
            name = fresh(f"c_{len(names) + 1}", taken)
            names.append(sp.Symbol(name))
            yield names[-1]

    shared, out = sp.cse(list(expressions), symbols=numbered(), order="canonical")
    lines = [f"{scalars.symbol_text(s)} = {scalars.python(e)}" for s, e in shared]
    texts = [scalars.python(e) for e in out]
    for word in WORDS:
        if any(f"{word}(" in text for text in (*lines, *texts)):
            words.add(word)
    if any(e.has(sp.pi) for e in expressions):
        words.add("pi")
    return lines, texts

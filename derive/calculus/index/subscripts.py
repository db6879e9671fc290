"""Gives the letters of an einsum: what a product of factors is called on arrays."""

from __future__ import annotations

import string

from derive.calculus.index.factors import Factors, Index


def subscripts(
    factors: Factors, free: tuple[Index, ...]
) -> tuple[list[str], list[tuple[int, str]], str]:
    """The words of the factors, those of free indices that none carries, and that of the output.

    A product is constant along an index that it does not carry: (its position in `free`, its
    letter), for an array of ones.
    """
    letters: dict[str, str] = {}

    def letter(index: Index) -> str:
        return letters.setdefault(index.name, string.ascii_letters[len(letters)])

    words = ["".join(letter(i) for i in f.indices) for f in factors]
    carried = {i for f in factors for i in f.indices}
    ones = [(p, letter(i)) for p, i in enumerate(free) if i not in carried]
    return words, ones, "".join(letter(i) for i in free)

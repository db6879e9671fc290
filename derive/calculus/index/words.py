"""Connected products of tensors as words of linear algebra: chains, vectors, traces.

Input: a component (factors joined by summed legs) and the free indices.  Output: a `Word`, or None
where three or more tensors meet at one leg or a tensor has three or more legs: that stays a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from derive.calculus.index.factors import Factor, Factors, Index, Tensor


@dataclass(frozen=True)
class Letter:
    """A matrix in a chain."""

    tensor: Tensor
    transposed: bool = False

    @property
    def turned(self) -> Letter:
        return Letter(self.tensor, not self.transposed and not self.tensor.symmetric)


@dataclass(frozen=True)
class Word:
    """left^T letters right, or the trace of the letters where `loop`.

    `left` and `right` are a free index, the tensor of a vector, or None for the vector of ones; a
    word with one free index at both ends is a diagonal.
    """

    letters: tuple[Letter, ...]
    left: Index | Tensor | None = None
    right: Index | Tensor | None = None
    loop: bool = False

    @property
    def ends(self) -> tuple[Index, ...]:
        return tuple(e for e in (self.left, self.right) if isinstance(e, Index))

    @property
    def turned(self) -> Word:
        letters = tuple(letter.turned for letter in reversed(self.letters))
        return Word(letters, self.right, self.left, self.loop)


def word(factors: Factors, free: Sequence[Index]) -> Word | None:
    """The component as a word, begun at its first free index."""
    legs: dict[Index, int] = {}
    for f in factors:
        if len(f.indices) > 2 or len(set(f.indices)) != len(f.indices):
            return None
        for i in f.indices:
            legs[i] = legs.get(i, 0) + 1
    ends = [i for i in free if i in legs]
    if any(count > (1 if i in free and len(ends) > 1 else 2) for i, count in legs.items()):
        return None
    vector = next((f for f in factors if len(f.indices) == 1), None)
    loose = next((i for i, count in legs.items() if count == 1 and i not in ends), None)
    if ends:
        return _walk(ends[0], ends[0], list(factors), free)
    if vector is not None:
        rest = [f for f in factors if f is not vector]
        return _walk(vector.tensor, vector.indices[0], rest, free)
    if loose is not None:
        return _walk(None, loose, list(factors), free)
    first = factors[0].indices[0]
    return Word(_walk(None, first, list(factors), free).letters, loop=True)


def _walk(
    left: Index | Tensor | None, index: Index, waiting: list[Factor], free: Sequence[Index]
) -> Word:
    """The word from one end to the other."""
    letters: list[Letter] = []
    while (here := next((f for f in waiting if index in f.indices), None)) is not None:
        waiting.remove(here)
        if len(here.indices) == 1:
            return Word(tuple(letters), left, here.tensor)
        slot = here.indices.index(index)
        letters.append(Letter(here.tensor, slot == 1 and not here.tensor.symmetric))
        index = here.indices[1 - slot]
    return Word(tuple(letters), left, index if index in free else None)

"""tril and triu: what is on one side of a diagonal of a matrix, the rest being zero."""

from __future__ import annotations

import numpy as np

from derive.notation.common.arrays import Array, Shape
from derive.notation.common.words.word import Operations, Printer, Text, Word, given


class Triangle(Word):
    """The triangle of a matrix up to, or from, the diagonal with an offset."""

    def value(self, matrix: np.ndarray, offset: int) -> np.ndarray:
        return {"tril": np.tril, "triu": np.triu}[self.name](matrix, int(offset))

    exact = value

    def shape(self, matrix: Array, offset: int) -> Shape:
        return matrix.shape

    def adjoint(self, g: Operations, array: Array, position: int, bar: Array) -> Array:
        return g.word(self.name, bar, *given(array))

    def tangent(self, g: Operations, array: Array, position: int, move: Array) -> Array:
        return g.word(self.name, move, *given(array))

    def latex(self, p: Printer, array: Array) -> Text:
        text, strength = super().latex(p, array)
        return text.replace(self.name + "}", f"{self.name}}}_{{{given(array)[0]}}}", 1), strength


for _name in ("tril", "triu"):
    Triangle(_name).register()

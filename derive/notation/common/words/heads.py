"""concatenate: heads side by side."""

from __future__ import annotations

import numpy as np

from derive.errors import DefinitionError
from derive.notation.common.arrays import Array, Shape, show_shape
from derive.notation.common.scalars import Share
from derive.notation.common.words.word import Word


class Concatenate(Word):
    """H heads (H, m, n / H) side by side (m, n): unit i of head h is column h (n / H) + i."""

    op = "concatenate"
    runtime = "ops"

    def value(self, heads: np.ndarray) -> np.ndarray:
        moved = np.moveaxis(heads, -3, -2)
        return moved.reshape(*moved.shape[:-2], -1)

    exact = value

    def shape(self, heads: Array) -> Shape:
        if heads.ndim != 3:
            raise DefinitionError(
                f"concatenate takes heads of shape (H, m, n / H), got {show_shape(heads.shape)}"
            )
        count, rows, columns = heads.shape
        if not isinstance(columns, Share) or columns.count != count:
            raise DefinitionError(
                f"concatenate: heads of shape {show_shape(heads.shape)} are no parts of a declared "
                f"dimension; draw values of n / {count} columns: gaussian({count}, n, n / {count})"
            )
        return rows, columns.whole


Concatenate("concatenate").register()

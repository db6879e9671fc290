"""softmax, which derivatives are written in again, so that nothing overflows."""

from __future__ import annotations

import numpy as np

from derive.errors import DefinitionError
from derive.notation.common.arrays import Array, function, multiply, reciprocal, total
from derive.notation.common.words.elementwise import named
from derive.notation.common.words.word import Word


class Softmax(Word):
    """exp, normalised to sum one along the last axis."""

    runtime = "ops"

    def value(self, array: np.ndarray) -> np.ndarray:
        weight = np.exp(array - array.real.max(axis=-1, keepdims=True))
        return weight / weight.sum(axis=-1, keepdims=True)

    def meaning(self, array: Array) -> Array:
        if not array.ndim:
            raise DefinitionError("softmax needs at least one axis")
        weight = function(named("exp"), array, "exp")
        return multiply(weight, reciprocal(total(weight, -1, keepdims=True)))


Softmax("softmax").register()

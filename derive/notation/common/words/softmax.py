"""softmax, which derivatives are written in again, so that nothing overflows."""

from __future__ import annotations

from typing import Any

import numpy as np

from derive.errors import DefinitionError
from derive.notation.common.arrays import Array, function, multiply, reciprocal, total
from derive.notation.common.words.elementwise import named
from derive.notation.common.words.word import Word


class Softmax(Word):
    """exp, normalised to sum one along an axis, by default the last."""

    runtime = "ops"

    def value(self, array: np.ndarray, axis: int = -1) -> np.ndarray:
        weight = np.exp(array - array.real.max(axis=axis, keepdims=True))
        return weight / weight.sum(axis=axis, keepdims=True)

    def meaning(self, array: Array) -> Array:
        weight = function(named("exp"), array, "exp")
        return multiply(weight, reciprocal(total(weight, -1, keepdims=True)))

    def __call__(self, array: Any, axis: int = -1) -> Any:
        ndim = getattr(array, "ndim", 0)
        if not ndim:
            raise DefinitionError("softmax needs at least one axis")
        if not isinstance(axis, int) or not -ndim <= axis < ndim:
            raise DefinitionError(
                f"softmax along axis {axis}: the array has {ndim}, counted from 0, or from -1 back"
            )
        if axis in (-1, ndim - 1):
            return super().__call__(array)
        if ndim > 2:
            raise DefinitionError(
                f"softmax along axis {axis} of an array with {ndim} axes: it takes the last axis, "
                "and of a matrix the first as well"
            )
        return super().__call__(array.T).T  # of a matrix: along its columns


Softmax("softmax").register()

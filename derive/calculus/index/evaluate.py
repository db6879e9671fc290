"""Numeric value of an index expression: an evaluator that shares no code with the printers.

Input: an expression, arrays for its tensors, numbers for its symbols.  Output: a NumPy array
over the free indices (after the batch axes, if the arrays have any).
"""

from __future__ import annotations

import string
from collections.abc import Mapping

import numpy as np
import sympy as sp

from derive.calculus.gaussian.kinks import CORRELATION
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factors, Tensor
from derive.notation.common.graph import value
from derive.notation.common.scalars import number, size


def evaluate(
    expression: Expression,
    arrays: Mapping[str, np.ndarray],
    numbers: Mapping[sp.Symbol, float],
) -> np.ndarray:
    """Sum of einsums.  Arrays may carry one common leading batch axis beyond their dimensions."""
    sizes = [size(i.dim, numbers) for i in expression.free]
    total: np.ndarray | float = np.zeros(sizes)
    for coefficient, factors in expression.terms:
        total = total + number(coefficient, numbers) * _product(
            expression, factors, arrays, numbers, sizes
        )
    return np.asarray(total)


def _product(
    expression: Expression,
    factors: Factors,
    arrays: Mapping[str, np.ndarray],
    numbers: Mapping[sp.Symbol, float],
    sizes: list[int],
) -> np.ndarray:
    letters: dict[str, str] = {}

    def letter(name: str) -> str:
        return letters.setdefault(name, string.ascii_letters[len(letters)])

    operands, subscripts = [], []
    carried = set()
    array: np.ndarray
    for factor in factors:
        if factor.tensor.kind == "delta":
            array = np.eye(size(factor.indices[0].dim, numbers))
        elif factor.tensor.kind == "joint":
            count, share, whole = (size(d, numbers) for d in factor.tensor.dims)
            array = np.reshape(np.eye(whole), (count, share, whole))
        elif factor.tensor.kind == "pattern" and factor.tensor.name not in arrays:
            array = factor.tensor.meaning.sample(int(numbers[factor.tensor.dims[0]]))
        elif factor.tensor.kind in BUILT:
            array = built(factor.tensor, arrays, numbers)
        else:
            array = arrays[factor.tensor.name]
        batch = "..." if array.ndim > len(factor.indices) else ""
        operands.append(array)
        subscripts.append(batch + "".join(letter(i.name) for i in factor.indices))
        carried.update(factor.indices)
    for index, length in zip(expression.free, sizes, strict=True):
        if index not in carried:
            operands.append(np.ones(length))
            subscripts.append(letter(index.name))
    out = "..." + "".join(letter(i.name) for i in expression.free)
    if not operands:
        return np.ones(())
    return np.einsum(",".join(subscripts) + "->" + out, *operands, optimize="greedy")


BUILT = ("magnitude", "envelope", "kernel", "spread", "response")


def built(
    tensor: Tensor, arrays: Mapping[str, np.ndarray], numbers: Mapping[sp.Symbol, float]
) -> np.ndarray:
    """Value of a tensor that is a function of others (see `derive.calculus.gaussian.kinks`)."""
    if tensor.kind == "magnitude":
        state, weight, _ = tensor.meaning
        pre = arrays[state.name] @ arrays[weight.name]
        return np.abs(pre) / np.sqrt(numbers[state.dims[1]])
    if tensor.kind == "envelope":
        return np.abs(evaluate(tensor.meaning[0], arrays, numbers))
    if tensor.kind == "response":
        meaning = tensor.meaning
        return value(meaning.root, {meaning.gram: arrays[meaning.tensor.name]}, numbers)
    *head, gram = tensor.meaning
    V = arrays[gram.name]
    root = np.sqrt(np.diagonal(V, axis1=-2, axis2=-1))
    if tensor.kind == "spread":
        return float(head[0]) * root
    shape, degree = head
    size = root[..., :, None] * root[..., None, :]
    correlation = np.clip(V / np.where(size > 0, size, 1), -1, 1)
    return size**degree * sp.lambdify(CORRELATION, shape, "numpy")(correlation)

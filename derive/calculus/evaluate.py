"""Numeric value of an index expression: an evaluator that shares no code with the printers.

Input: an expression, arrays for its tensors, numbers for its symbols.  Output: a NumPy array
over the free indices (after the batch axes, if the arrays have any).
"""

from __future__ import annotations

import string
from collections.abc import Mapping

import numpy as np
import sympy as sp

from derive.calculus.index import Expression, Factors
from derive.notation.scalars import number


def evaluate(
    expression: Expression,
    arrays: Mapping[str, np.ndarray],
    numbers: Mapping[sp.Symbol, float],
) -> np.ndarray:
    """Sum of einsums.  Arrays may carry one common leading batch axis beyond their dimensions."""
    sizes = [int(numbers[i.dim]) for i in expression.free]
    total: np.ndarray | float = np.zeros(sizes)
    for coefficient, factors in expression.terms:
        value = number(coefficient, numbers)
        total = total + value * _product(expression, factors, arrays, numbers, sizes)
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
    for factor in factors:
        if factor.tensor.kind == "delta":
            array = np.eye(int(numbers[factor.indices[0].dim]))
        else:
            array = arrays[factor.tensor.name]
        batch = "..." if array.ndim > len(factor.indices) else ""
        operands.append(array)
        subscripts.append(batch + "".join(letter(i.name) for i in factor.indices))
        carried.update(factor.indices)
    for index, size in zip(expression.free, sizes, strict=True):
        if index not in carried:
            operands.append(np.ones(size))
            subscripts.append(letter(index.name))
    out = "..." + "".join(letter(i.name) for i in expression.free)
    if not operands:
        return np.ones(())
    return np.einsum(",".join(subscripts) + "->" + out, *operands, optimize="greedy")

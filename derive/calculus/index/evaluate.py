"""Evaluates an index expression numerically; it shares no code with the printers.

Input: an expression, arrays for its tensors, numbers for its symbols.  Output: a NumPy array
over the free indices (after the batch axes, if the arrays have any).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import sympy as sp

from derive.calculus.gaussian.kinks import CORRELATION
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factor, Factors, Tensor
from derive.calculus.index.subscripts import subscripts
from derive.notation.common.graph import value
from derive.notation.common.patterns import Pattern
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
    words, ones, out = subscripts(factors, expression.free)
    if not words and not ones:
        return np.ones(())
    operands = [_array(f, arrays, numbers) for f in factors]
    batched = [
        ("..." if array.ndim > len(word) else "") + word
        for array, word in zip(operands, words, strict=True)
    ]
    operands += [np.ones(sizes[position]) for position, _ in ones]
    batched += [letter for _, letter in ones]
    return np.einsum(",".join(batched) + "->..." + out, *operands, optimize="greedy")


def _array(
    factor: Factor, arrays: Mapping[str, np.ndarray], numbers: Mapping[sp.Symbol, float]
) -> np.ndarray:
    tensor = factor.tensor
    if tensor.kind == "delta":
        return np.eye(size(factor.indices[0].dim, numbers))
    if tensor.kind == "joint":
        count, share, whole = (size(d, numbers) for d in tensor.dims)
        return np.reshape(np.eye(whole), (count, share, whole))
    if isinstance(tensor.meaning, Pattern) and tensor.name not in arrays:
        return tensor.meaning.sample(int(numbers[tensor.dims[0]]))
    given = tensor.kind not in BUILT or tensor.name in arrays
    return arrays[tensor.name] if given else built(tensor, arrays, numbers)


BUILT = ("magnitude", "envelope", "kernel", "spread", "response", "mixture")


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
        leaves = {a: arrays[n] for n, a in meaning.others}
        return value(meaning.root, {meaning.gram: arrays[meaning.tensor.name], **leaves}, numbers)
    if tensor.kind == "mixture":
        meaning = tensor.meaning
        leaves = {a: arrays[t.name] for t, a in meaning.weights}
        return value(meaning.array, {meaning.state: arrays[meaning.state.data], **leaves}, numbers)
    *head, gram = tensor.meaning
    V = arrays[gram.name]
    root = np.sqrt(np.diagonal(V, axis1=-2, axis2=-1))
    if tensor.kind == "spread":
        return float(head[0]) * root
    shape, degree = head
    size = root[..., :, None] * root[..., None, :]
    correlation = np.clip(V / np.where(size > 0, size, 1), -1, 1)
    return size**degree * sp.lambdify(CORRELATION, shape, "numpy")(correlation)

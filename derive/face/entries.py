"""Exact entries of an index expression at given dimensions, as SymPy expressions.

Input: an expression, the book of what is defined by an equation, sizes by name.  Output: a NumPy
array of SymPy expressions.  A tensor without an equation is an array of symbols named after it
(V_11, V_12, a symmetric V with one symbol for both); what has an equation is its value.  Parameters
are plain symbols with the assumptions of their declaration.

Shares no code with the numeric evaluators of the checks.  Refused: matrix functions of a general
symmetric matrix, whose entries have no closed form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import sympy as sp

from derive.calculus.arrays.scalar_functions import derivative_of
from derive.calculus.gaussian.kinks import CORRELATION
from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import UNIT, Factors, Index, Tensor
from derive.calculus.index.subscripts import subscripts
from derive.errors import RequestError
from derive.face import graph_entries
from derive.face.symbols import gaussian_integral, named, plain


class Entries:
    """Evaluates expressions of one derivation at fixed sizes."""

    def __init__(self, book: Book, sizes: Mapping[str, int]) -> None:
        self.book, self.sizes = book, sizes
        self._known: dict[Tensor, np.ndarray] = {}

    def of(self, expression: Expression) -> np.ndarray:
        """Entries over the free indices."""
        shape = [self.size(i.dim) for i in expression.free]
        total = np.full(shape, sp.Integer(0), dtype=object)
        for coefficient, factors in expression.terms:
            front = plain(coefficient, self.sizes)
            total = total + front * self._product(factors, expression.free)
        return each(sp.expand, np.asarray(total, dtype=object))

    def size(self, dim: sp.Symbol) -> int:
        return graph_entries.size_of(dim, self.sizes)

    def _product(self, factors: Factors, free: tuple[Index, ...]) -> np.ndarray:
        words, ones, out = subscripts(factors, free)
        if not words and not ones:
            return np.asarray(sp.Integer(1), dtype=object)
        operands = [self.tensor(f.tensor) for f in factors]
        for position, letter in ones:
            operands.append(np.full(self.size(free[position].dim), sp.Integer(1), dtype=object))
            words.append(letter)
        return _joined(words, operands, out)

    def tensor(self, tensor: Tensor) -> np.ndarray:
        """Its entries: symbols, or what its equation says."""
        if tensor not in self._known:
            build = getattr(self, f"_of_{tensor.kind}", self._symbols)
            self._known[tensor] = build(tensor)
        return self._known[tensor]

    def _shape(self, tensor: Tensor) -> list[int]:
        return [self.size(d) for d in tensor.dims]

    def _symbols(self, tensor: Tensor) -> np.ndarray:
        shape = self._shape(tensor)
        paired = tensor.kind == "covariance" and len(shape) > 2  # one matrix for every block
        out = np.empty(shape, dtype=object)
        for at in np.ndindex(*shape):
            key = tuple(sorted(at)) if tensor.symmetric else at
            if paired or (tensor.kind == "covariance" and not tensor.symmetric):
                key = (*at[:-2], *sorted(at[-2:]))
            out[at] = named(tensor.name, key)
        return out

    def _of_covariance(self, tensor: Tensor) -> np.ndarray:
        out = self._symbols(tensor)
        if tensor.meaning == UNIT:
            np.fill_diagonal(out, sp.Integer(1))
        return out

    def _of_delta(self, tensor: Tensor) -> np.ndarray:
        return graph_entries.identity(self.size(tensor.dims[0]))

    def _of_joint(self, tensor: Tensor) -> np.ndarray:
        return graph_entries.identity(self.size(tensor.dims[2])).reshape(self._shape(tensor))

    def _of_pattern(self, tensor: Tensor) -> np.ndarray:
        return graph_entries.pattern(tensor.meaning, self._shape(tensor), tensor.name)

    def _of_spread(self, tensor: Tensor) -> np.ndarray:
        head, gram = tensor.meaning
        return each(lambda v: head * sp.sqrt(v), np.diagonal(self.tensor(gram)))

    def _of_kernel(self, tensor: Tensor) -> np.ndarray:
        shape, degree, gram = tensor.meaning
        covariance = self.tensor(gram)
        out = np.empty(covariance.shape, dtype=object)
        for a, b in np.ndindex(*covariance.shape):
            out[a, b] = kernel_value(
                shape, degree, covariance[a, a], covariance[b, b], covariance[a, b], a == b
            )
        return out

    def _of_response(self, tensor: Tensor) -> np.ndarray:
        meaning = tensor.meaning
        leaves = {meaning.gram: self.tensor(meaning.tensor)}
        return graph_entries.Graph(self.sizes, leaves).of(meaning.root)

    def _refused(self, tensor: Tensor) -> np.ndarray:
        raise RequestError(
            f"{tensor.name} is a function of random weights and has no entries of its own"
        )

    _of_magnitude = _of_envelope = _of_centred = _of_sign = _refused

    def _bodies(self, tensor: Tensor) -> list[np.ndarray]:
        return [self.of(b) for b in self.book.of[tensor].bodies]

    def _of_exp(self, tensor: Tensor) -> np.ndarray:
        return each(sp.exp, self._bodies(tensor)[0])

    def _of_reciprocal(self, tensor: Tensor) -> np.ndarray:
        return each(lambda v: 1 / v, self._bodies(tensor)[0])

    def _whole(self, tensor: Tensor) -> sp.Matrix:
        body = self._bodies(tensor)[0]
        if body.ndim != 2:
            raise RequestError(f"{tensor.name} is a stack of matrices; take one at a time")
        return sp.eye(body.shape[-1]) + sp.Matrix(body)

    def _of_inverse(self, tensor: Tensor) -> np.ndarray:
        whole = self._whole(tensor)
        return np.array((whole.adjugate() / whole.det()).tolist(), dtype=object)

    def _of_det(self, tensor: Tensor) -> np.ndarray:
        return np.asarray(self._whole(tensor).det() ** sp.Rational(-1, 2), dtype=object)

    def _of_gate(self, tensor: Tensor) -> np.ndarray:
        exponent, theta = self._bodies(tensor)
        weight = theta * each(sp.exp, exponent)
        return weight / weight.sum(axis=-1, keepdims=True)

    def _of_ridge(self, tensor: Tensor) -> np.ndarray:
        rule, order = self.book.of[tensor].data
        function = derivative_of(rule.body, order)
        return each(lambda v: plain(function(v)), self._bodies(tensor)[0])

    def _of_smooth(self, tensor: Tensor) -> np.ndarray:
        """E f(s), s ~ N(mu, v), held."""
        rule, order = self.book.of[tensor].data
        mean = partial(gaussian_integral, derivative_of(rule.body, order))
        return np.asarray(np.frompyfunc(mean, 2, 1)(*self._bodies(tensor)), dtype=object)

    def _of_spectral(self, tensor: Tensor) -> np.ndarray:
        raise RequestError(
            f"{tensor.name} is a function of a symmetric matrix through its eigenvalues, whose "
            "entries have no closed form; the kernel evaluates it"
        )


def _joined(words: list[str], operands: list[np.ndarray], out: str) -> np.ndarray:
    """An einsum of two at a time: NumPy's own order of contraction does not serve objects."""
    words, operands = list(words), list(operands)
    while True:
        pair = max(range(1, len(words)), key=lambda k: len({*words[0]} & {*words[k]}), default=0)
        first, arrays = words.pop(0), [operands.pop(0)]
        taken = first
        if pair:
            taken += words.pop(pair - 1)
            arrays.append(operands.pop(pair - 1))
        kept = "".join(dict.fromkeys(c for c in taken if c in out or any(c in w for w in words)))
        text = f"{first},{taken[len(first) :]}" if pair else first
        kept = kept if words else out
        made = np.asarray(np.einsum(f"{text}->{kept}", *arrays), dtype=object)
        if not words:
            return made
        words.insert(0, kept)
        operands.insert(0, made)


def kernel_value(
    shape: sp.Expr, degree: int, first: sp.Expr, second: sp.Expr, both: sp.Expr, same: bool
) -> sp.Expr:
    """(V_aa V_bb)^(degree/2) shape(correlation) of a pair of tokens; `same`: of one token."""
    size = first if same else sp.sqrt(first) * sp.sqrt(second)
    return size**degree * shape.subs(CORRELATION, 1 if same else both / size)


def each(function: Any, array: np.ndarray) -> np.ndarray:
    """A function of every entry."""
    return np.asarray(np.frompyfunc(function, 1, 1)(array), dtype=object)


def dims_of(expression: Expression, book: Book) -> set[sp.Symbol]:
    """Dimensions that indices run over, in definitions too."""
    found = {i.dim for i in expression.free}
    for tensor in closure_of(expression.tensors(), book):
        found |= set(tensor.dims)
        if tensor in book.of:
            for body in book.of[tensor].bodies:
                found |= {i.dim for i in body.free}
    return found


def closure_of(tensors: Iterable[Tensor], book: Book) -> list[Tensor]:
    """Tensors and all that their definitions are made of."""
    pending, found = list(tensors), dict[Tensor, None]()
    while pending:
        tensor = pending.pop()
        if tensor in found:
            continue
        found[tensor] = None
        if tensor in book.of:
            pending += [t for body in book.of[tensor].bodies for t in body.tensors()]
    return list(found)

"""An equation in matrix form, as SymPy matrix expressions of symbolic sizes.

Input: an index expression of at most two free indices.  Output: the words of its short form (the
proven one that the text shows) as `MatrixExpr` objects: MatrixSymbol, HadamardProduct, Trace,
DiagMatrix, Identity and OneMatrix, scalars outside; a vector is a matrix of one column.  What is
defined by an equation is written out.

Refused, with the product: three or more free indices, sums that no word of linear algebra writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sympy as sp
from sympy.matrices.expressions.hadamard import HadamardPower

from derive.calculus.arrays.scalar_functions import derivative_of
from derive.calculus.gaussian.kinks import CORRELATION
from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factors, Index, Tensor
from derive.calculus.index.grouping import Line, Piece, grouped
from derive.calculus.index.means import DIAGONAL, shortest
from derive.calculus.index.text import show, show_term
from derive.calculus.index.words import Letter, Word, word
from derive.errors import RequestError
from derive.face.graph_matrices import (
    GraphMatrices,
    elementwise,
    inner,
    pattern,
    plus,
    times,
    transposed,
)
from derive.face.symbols import gaussian_integral, plain
from derive.notation.common.scalars import extent

_i, _j = sp.symbols("i j", integer=True)


def matrix_form(expression: Expression, book: Book) -> Any:
    """A `MatrixExpr`, or a scalar expression where there is no free index."""
    if len(expression.free) > 2:
        first = show_term(expression, 0) if expression.terms else "0"
        raise RequestError(
            f"{len(expression.free)} free indices make no matrix: {first}; "
            "entries at given sizes: .sympy(...)"
        )
    return _Form(expression, book).whole()


def ones(dim: sp.Expr) -> sp.MatrixExpr:
    return sp.OneMatrix(plain(extent(dim)), 1)


class _Form:
    """The matrix form of one expression; `parts`: what its named parts stand for."""

    def __init__(self, expression: Expression, book: Book) -> None:
        # centred parts are of tokens; where tensors are defined, sums are over coordinates
        short = expression if book.of else shortest(expression)
        self.found, self.book, self.free = grouped(short), book, expression.free

    def whole(self) -> Any:
        total = self._lines(self.found.lines)
        operator = self.found.operator
        if operator is None:
            return total
        inside, tensor = self._lines(self.found.inside), self._tensor(operator.tensor)
        diagonal = sp.DiagMatrix(sp.DiagonalOf(inside))
        off = plus(times(diagonal, tensor), times(tensor, diagonal))
        return plus(total, inside, times(plain(operator.scale), off))

    def _lines(self, lines: Iterable[Line]) -> Any:
        terms = []
        for line in lines:
            pieces = [term for piece in line.pieces for term in self._piece(piece)]
            terms.append(times(plain(line.coefficient), self._sum(pieces, self.free)))
        return self._sum(terms, self.free)

    def _sum(self, terms: list[Any], free: tuple[Index, ...]) -> Any:
        if terms:
            return plus(*terms)
        shape = [*(plain(extent(i.dim)) for i in free), 1, 1][:2]
        return sp.ZeroMatrix(*shape) if free else sp.Integer(0)

    def _piece(self, piece: Piece) -> list[Any]:
        """A product and what exchanges of free indices make of it."""
        out = []
        for way in (self.free, *piece.exchanges):
            names = dict(zip(self.free, way, strict=True))
            parts = [tuple(f.rename(names) for f in part) for part in piece.parts]
            out.append(times(plain(piece.coefficient), self._product(parts, self.free)))
        return out

    def _product(self, parts: Iterable[Factors], free: tuple[Index, ...]) -> Any:
        scalars: list[Any] = []
        vectors: dict[Index, list[Any]] = {i: [] for i in free}
        both: list[Any] = []
        for part in parts:
            w = self._word(part, free)
            if not w.ends:
                scalars.append(self._scalar(w))
            elif w.left == w.right:
                vectors[w.ends[0]].append(sp.DiagonalOf(self._chain(w)))
            elif len(w.ends) == 2:
                both.append(self._chain(w if w.left == free[0] else w.turned))
            else:
                vectors[w.ends[0]].append(self._vector(w))
        front = sp.Mul(*scalars)
        return times(front, self._joined(free, vectors, both)) if free else front

    def _joined(
        self, free: tuple[Index, ...], vectors: Mapping[Index, list[Any]], both: list[Any]
    ) -> Any:
        """Vectors along the free indices and matrices over both, multiplied entrywise."""
        along = [_entrywise(vectors[i]) for i in free]
        if not both:
            columns = [ones(i.dim) if v is None else v for i, v in zip(free, along, strict=True)]
            return columns[0] if len(free) == 1 else times(columns[0], transposed(columns[1]))
        left, right = ([] if v is None else [sp.DiagMatrix(v)] for v in along)
        return times(*left, _entrywise(both), *right)

    # words

    def _word(self, part: Factors, free: tuple[Index, ...]) -> Word:
        if len(part) == 1 and not part[0].indices:
            return Word((), part[0].tensor, part[0].tensor, loop=True)
        found = word(part, free)
        if found is None:
            ends = tuple(i for i in free if any(i in f.indices for f in part))
            text = show(Expression(ends, ((sp.Integer(1), part),)))
            raise RequestError(
                f"no matrix word writes the product {text}; entries at given sizes: .sympy(...)"
            )
        return found

    def _letter(self, letter: Letter) -> Any:
        value = self._tensor(letter.tensor)
        return transposed(value) if letter.transposed else value

    def _chain(self, w: Word) -> Any:
        return times(*(self._letter(x) for x in w.letters))

    def _end(self, end: Any, w: Word, last: bool) -> Any:
        if end is not None:
            return self._tensor(end)
        letter = w.letters[-1 if last else 0]
        return ones(letter.tensor.dims[1 if last != letter.transposed else 0])

    def _vector(self, w: Word) -> Any:
        w = w if isinstance(w.left, Index) else w.turned
        end = self._end(w.right, w, True)
        return times(self._chain(w), end) if w.letters else end

    def _scalar(self, w: Word) -> Any:
        if w.loop:
            return sp.Trace(self._chain(w)) if w.letters else self._end(w.left, w, False)
        if not w.letters:
            there = [e for e in (w.left, w.right) if isinstance(e, Tensor)]
            if len(there) == 1 and there[0].kind == DIAGONAL:
                return sp.Trace(self._tensor(there[0].meaning))
            one, two = [*(self._tensor(e) for e in there), ones(there[0].dims[0])][:2]
            return inner(one, two)
        return inner(
            self._end(w.left, w, False), times(self._chain(w), self._end(w.right, w, True))
        )

    # tensors

    def _tensor(self, tensor: Tensor) -> Any:
        build = getattr(self, f"_of_{tensor.kind.replace(' ', '_')}", self._symbol)
        return build(tensor)

    def _symbol(self, tensor: Tensor) -> Any:
        sizes = [plain(extent(d)) for d in tensor.dims]
        if not sizes:
            return sp.Symbol(tensor.name, real=True)
        return sp.MatrixSymbol(tensor.name, *[*sizes, 1][:2])

    def _of_part(self, tensor: Tensor) -> Any:
        meaning = self.found.named[tensor]
        terms = [times(plain(c), self._product((f,), meaning.free)) for c, f in meaning.terms]
        return self._sum(terms, meaning.free)

    def _of_diagonal(self, tensor: Tensor) -> Any:
        return sp.DiagonalOf(self._tensor(tensor.meaning))

    def _of_centring(self, tensor: Tensor) -> Any:
        m = plain(extent(tensor.dims[0]))
        return plus(sp.Identity(m), times(-1 / m, sp.OneMatrix(m, m)))

    def _of_delta(self, tensor: Tensor) -> Any:
        return sp.Identity(plain(extent(tensor.dims[0])))

    def _of_pattern(self, tensor: Tensor) -> Any:
        return pattern(tensor.meaning, [plain(extent(d)) for d in tensor.dims], tensor.name)

    def _of_spread(self, tensor: Tensor) -> Any:
        head, gram = tensor.meaning
        roots = HadamardPower(sp.DiagonalOf(self._tensor(gram)), sp.Rational(1, 2))
        return times(plain(head), roots)

    def _of_kernel(self, tensor: Tensor) -> Any:
        shape, degree, gram = tensor.meaning
        V = self._tensor(gram)
        size = sp.sqrt(V[_i, _i]) * sp.sqrt(V[_j, _j])
        entry = size**degree * plain(shape).subs(CORRELATION, V[_i, _j] / size)
        return sp.FunctionMatrix(*V.shape, sp.Lambda((_i, _j), entry))

    def _of_response(self, tensor: Tensor) -> Any:
        meaning = tensor.meaning
        return GraphMatrices({meaning.gram: self._tensor(meaning.tensor)}).of(meaning.root)

    # tensors with an equation

    def _bodies(self, tensor: Tensor) -> list[Any]:
        return [matrix_form(b, self.book) for b in self.book.of[tensor].bodies]

    def _of_exp(self, tensor: Tensor) -> Any:
        return elementwise(sp.exp, self._bodies(tensor)[0])

    def _of_reciprocal(self, tensor: Tensor) -> Any:
        return elementwise(lambda x: 1 / x, self._bodies(tensor)[0])

    def _whole(self, tensor: Tensor) -> Any:
        body = self._bodies(tensor)[0]
        return plus(sp.Identity(body.shape[0]), body)

    def _of_inverse(self, tensor: Tensor) -> Any:
        return sp.Inverse(self._whole(tensor))

    def _of_det(self, tensor: Tensor) -> Any:
        return sp.Determinant(self._whole(tensor)) ** sp.Rational(-1, 2)

    def _of_ridge(self, tensor: Tensor) -> Any:
        rule, order = self.book.of[tensor].data
        function = derivative_of(rule.body, order)
        return elementwise(lambda x: plain(function(x)), self._bodies(tensor)[0])

    def _of_smooth(self, tensor: Tensor) -> Any:
        rule, order = self.book.of[tensor].data
        if tensor.dims:
            self._refused(tensor)
        return gaussian_integral(derivative_of(rule.body, order), *self._bodies(tensor))

    def _refused(self, tensor: Tensor) -> Any:
        raise RequestError(f"{tensor.name} ({tensor.kind}) has no matrix form")

    _of_gate = _of_spectral = _of_joint = _of_centred_pattern = _refused
    _of_magnitude = _of_envelope = _of_centred = _of_sign = _refused


def _entrywise(factors: list[Any]) -> Any:
    """The entrywise product; None of nothing."""
    if len(factors) < 2:
        return factors[0] if factors else None
    return sp.HadamardProduct(*factors)

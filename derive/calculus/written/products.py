"""Products over one or two free indices as matrix words, and sums of them with factors in front.

Input: components of products, their coefficients.  Output: rows of text, signed.  A product of
vectors and chains is a list of words, so that what all rows begin and end with is written once:
V m m^T A + V S A = V (m m^T + S) A.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import sympy as sp

from derive.calculus.index.factors import Index, Tensor
from derive.calculus.index.words import Word
from derive.calculus.written.spelling import Words, joined

MOST_FORMS = 4  # products whose forms are read both ways

Rows = list[tuple[str, str]]  # sign and words


@dataclass(frozen=True)
class Product:
    """`front`: numbers beside the coefficient; `words`: the chain, one word for each tensor; or
    else the words `other`, which mean the same."""

    coefficient: sp.Expr
    front: tuple[str, ...]
    words: tuple[str, ...]
    other: tuple[str, ...] = ()


class Products(Words):
    """What `Words` writes, in products and sums of them."""

    def named_chain(self, w: Word) -> str:
        """How a chain between two free indices is written."""
        return self.chain(w)

    def product(
        self, coefficient: sp.Expr, parts: Sequence[Word], free: tuple[Index, ...]
    ) -> Product:
        """A product over one or two free indices; a form beside a vector stands at its end,
        m m^T A x."""
        scalars = [w for w in parts if not w.ends]
        open_ = [w for w in parts if w.ends]
        forms = [w for w in scalars if not w.loop and _is_form(w)]
        if len(free) == 1 and len(open_) == 1 and len(forms) == 1:
            others = [self.scalar(w) for w in scalars if w is not forms[0]]
            one, other = (
                (*self._column(open_[0]), *self._row(form.left), *self._column(form))
                for form in (forms[0], forms[0].turned)
            )
            return Product(coefficient, self._closed(others), one, other)
        front = self._closed([self.scalar(w) for w in scalars])
        return Product(coefficient, front, self._open(open_, free))

    def _closed(self, scalars: list[str]) -> tuple[str, ...]:
        bare = ("|", "tr(", r"\left", r"\operatorname")
        return tuple(self.powers([self.closed(s, not s.startswith(bare)) for s in scalars]))

    def _open(self, parts: Sequence[Word], free: tuple[Index, ...]) -> tuple[str, ...]:
        """Words with free ends."""
        row, column = free[0], free[-1]
        if len(parts) == 2 and all(len(w.ends) == 1 and _end(w) is not None for w in parts):
            first, second = sorted(parts, key=lambda w: w.ends[0] != row)
            if row != column:
                return (*self._column(first), *self._turned_column(second))
        if len(parts) == 1 and len(parts[0].ends) == len(free):
            (w,) = parts
            if len(free) == 1 and _end(w) is not None:
                return self._column(w)
            if len(free) == 2 and w.left != w.right:
                w = w if w.left == row else w.turned
                chain = self.named_chain(w)
                return self.letters(w) if chain == self.chain(w) else (chain,)
        return (self._entrywise(parts, free),)

    def _column(self, w: Word) -> tuple[str, ...]:
        w = w.turned if isinstance(w.right, Index) else w
        return (*self.letters(w), self.end(w.right))

    def _turned_column(self, w: Word) -> tuple[str, ...]:
        w = w if isinstance(w.right, Index) else w.turned
        return (*self._row(w.left), *self.letters(w))

    def _row(self, end: Index | Tensor | None) -> tuple[str, ...]:
        return (self.transposed(self.end(end)),)

    def _entrywise(self, parts: Sequence[Word], free: tuple[Index, ...]) -> str:
        """Diagonals, entrywise products, vectors of ones."""
        row, column = free[0], free[-1]
        rows: list[str] = []
        columns: list[str] = []
        both: list[str] = []
        for w in parts:
            if w.left == w.right:
                vector = self.dialect.diagonal.format(self.named_chain(w))
                (rows if w.left == row else columns).append(vector)
            elif len(w.ends) == 2:
                both.append(self.named_chain(w if w.left == row else w.turned))
            else:
                (rows if w.ends[0] == row else columns).append(self.vector(w))
        d = self.dialect
        ones = d.ones.format()
        left = d.entrywise.join(self.closed(v, len(rows) > 1) for v in rows)
        right = d.entrywise.join(self.closed(v, len(columns) > 1) for v in columns)
        if row == column:
            return left or ones
        if not both:
            left = self.closed(left or ones, bool(left))
            return f"{left} {self.transposed(self.closed(right or ones, bool(right)))}"
        product = d.entrywise.join(self.closed(m, len(both) > 1) for m in both)
        if (rows or columns) and len(both) > 1:
            product = d.brackets.format(product)
        before = [d.diagonal.format(left)] if rows else []
        after = [d.diagonal.format(right)] if columns else []
        return " ".join([*before, product, *after])

    def factored(self, products: Sequence[Product]) -> Rows:
        """Rows, or one row where all products begin or end alike."""
        if len(products) > 1:
            products = max(_readings(products), key=lambda one: sum(_ends(one)))
            chains = [p.words for p in products]
            head, tail = _ends(products)
            if head + tail and not any(" " in w for c in chains for w in (*c[:head], *c[-tail:])):
                inner = self._inside(products, head, tail)
                words = [*chains[0][:head], inner, *chains[0][len(chains[0]) - tail :]]
                return [("+", " ".join(words))]
        return [self._row_of(p) for p in products]

    def _inside(self, products: Sequence[Product], head: int, tail: int) -> str:
        """What is left of products without their common ends; short ones first."""
        left = [replace(p, words=p.words[head : len(p.words) - tail]) for p in products]
        left.sort(key=lambda p: len(p.words))
        left.sort(key=lambda p: self._row_of(p)[0] == "-")
        return self.dialect.brackets.format(joined([self._row_of(p) for p in left]))

    def _row_of(self, p: Product) -> tuple[str, str]:
        return self.signed(p.coefficient, " ".join((*p.front, *p.words)))


def _readings(products: Sequence[Product]) -> list[list[Product]]:
    """Products in the words that they may have, those that they have first."""
    free = [p for p in products if p.other]
    if len(free) > MOST_FORMS:
        return [list(products)]
    ways = ([p, replace(p, words=p.other)] if p.other else [p] for p in products)
    return [list(way) for way in itertools.product(*ways)]


def _ends(products: Sequence[Product]) -> tuple[int, int]:
    """How many words all products begin with, and end with."""
    chains = [p.words for p in products]
    head = _shared(chains)
    return head, _shared([c[head:][::-1] for c in chains])


def _shared(chains: Sequence[tuple[str, ...]]) -> int:
    """How many words all begin with, one less than the shortest has."""
    most = min(map(len, chains)) - 1
    return next((k for k in range(most) if len({c[k] for c in chains}) > 1), max(most, 0))


def _is_form(w: Word) -> bool:
    """A bilinear form of two vectors."""
    two = isinstance(w.left, Tensor) and isinstance(w.right, Tensor)
    return two and bool(w.letters or w.left != w.right)


def _end(w: Word) -> Index | Tensor | None:
    return w.right if isinstance(w.left, Index) else w.left

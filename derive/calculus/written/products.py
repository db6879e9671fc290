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
from derive.calculus.written.spelling import Words, joined, split_sign

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

    def exchange(self, free: Sequence[Index], way: Sequence[Index]) -> str:
        """The permutation of free indices in cycles."""
        goes = dict(zip(free, way, strict=True))
        cycles, seen = [], set()
        for first in free:
            cycle = [first]
            while goes[cycle[-1]] != first:
                cycle.append(goes[cycle[-1]])
            if len(cycle) > 1 and first not in seen:
                d = self.dialect
                around = cycle if len(cycle) == 2 else [*cycle, first]
                arrow = d.arrow if len(cycle) == 2 else d.step
                cycles.append(arrow.join(i.name for i in around))
            seen |= {*cycle}
        return self.dialect.exchange.format(", ".join(cycles))

    def factored(self, products: Sequence[Product]) -> Rows:
        """Rows; those that begin or end alike are one."""
        for group in (products, _alike(products)):
            row = self._together(group) if len(group) > 1 else None
            if row is not None:
                rest = self.factored([p for p in products if not any(p is q for q in group)])
                return [row, *rest] if products[0] in group else [*rest, row]
        return [self._row_of(p) for p in products]

    def _together(self, products: Sequence[Product]) -> tuple[str, str] | None:
        """The shortest row of products that all begin or end alike, if they do."""
        rows = (self._in_front(way) for way in _readings(products))
        return min((r for r in rows if r), key=lambda row: len(row[1]), default=None)

    def _in_front(self, products: Sequence[Product]) -> tuple[str, str] | None:
        """What they begin and end with and their common size, in front of a bracket."""
        head, tail = _ends(products)
        first = products[0].words
        ends = first[:head], first[len(first) - tail :]
        if not head + tail or any(" " in w for words in ends for w in words):
            return None
        sizes = list(dict.fromkeys(p.coefficient for p in products))
        size = sizes[0] if len(sizes) == 1 else sp.Integer(1)
        if len(sizes) == 2 and sizes[0] == -sizes[1]:
            size = split_sign(sizes[0])[1]
        inner = self._inside([replace(p, coefficient=p.coefficient / size) for p in products])
        return self.signed(size, " ".join((*ends[0], inner, *ends[1])))

    def _inside(self, products: Sequence[Product]) -> str:
        """What is left of products without their common ends; short ones first."""
        head, tail = _ends(products)
        left = [replace(p, words=p.words[head : len(p.words) - tail], other=()) for p in products]
        left.sort(key=lambda p: len(p.words))
        left.sort(key=lambda p: self._row_of(p)[0] == "-")
        return self.dialect.brackets.format(joined(self.factored(left)))

    def _row_of(self, p: Product) -> tuple[str, str]:
        return self.signed(p.coefficient, " ".join((*p.front, *p.words)))


def _readings(products: Sequence[Product]) -> list[list[Product]]:
    """Products in the words that they may have, those that they have first."""
    free = [p for p in products if p.other]
    if len(free) > MOST_FORMS:
        return [list(products)]
    ways = ([p, replace(p, words=p.other)] if p.other else [p] for p in products)
    return [list(way) for way in itertools.product(*ways)]


def _alike(products: Sequence[Product]) -> list[Product]:
    """The most products, not all, that may begin with one word, or end with one."""
    groups: dict[tuple[int, str], list[Product]] = {}
    for p in products:
        ways = [words for words in (p.words, p.other) if len(words) > 1]
        for key in dict.fromkeys((place, words[place]) for words in ways for place in (0, -1)):
            groups.setdefault(key, []).append(p)
    some = (g for g in groups.values() if len(g) < len(products))
    return max(some, key=len, default=[])


def _ends(products: Sequence[Product]) -> tuple[int, int]:
    """How many words all products begin with, and end with."""
    chains = [p.words for p in products]
    head = _shared(chains)
    return head, _shared([c[head:][::-1] for c in chains])


def _shared(chains: Sequence[tuple[str, ...]]) -> int:
    """How many words all begin with, one less than the shortest has."""
    most = min(map(len, chains)) - 1
    return next((k for k in range(most) if len({c[k] for c in chains}) > 1), max(most, 0))


def transposes(product: Product) -> int:
    """How many transposes a product is written with."""
    return sum("^" in word for word in product.words)


def _is_form(w: Word) -> bool:
    """A bilinear form of two vectors."""
    two = isinstance(w.left, Tensor) and isinstance(w.right, Tensor)
    return two and bool(w.letters or w.left != w.right)


def _end(w: Word) -> Index | Tensor | None:
    return w.right if isinstance(w.left, Index) else w.left

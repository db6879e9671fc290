"""Equations in their shortest proven form, as text and as LaTeX.

Input: an index expression.  Output: a `ShortForm`: the right side in lines, in matrix words where
it has two indices and every product is one, with exchanges of free indices written once where it
has more; and what the symbols in it stand for.  The form is proven equal to the expression by
`derive.calculus.index.means` and `grouping`; a test reads the text back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import sympy as sp

from derive.calculus.index.canonical import components
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Factor, Factors, Index, Tensor
from derive.calculus.index.grouping import PART, Grouped, Line, Piece, grouped
from derive.calculus.index.means import CENTRED, CENTRING, DIAGONAL, diagonals, shortest
from derive.calculus.index.slices import NOTHING, sliced, stacks_of
from derive.calculus.index.text import index_names
from derive.calculus.index.words import Word, word
from derive.calculus.written import symbols
from derive.calculus.written.dialect import TEXT, Dialect
from derive.calculus.written.products import Product, Products, Rows, transposes
from derive.calculus.written.spelling import (
    NAMES,
    OPERATOR,
    joined,
    names_in,
    split_sign,
    users_first,
)

WIDE = 100  # characters of a line with its bracket
WIDE_LATEX = 240
BRIEF = 3  # words of a product whose transpose is written out
LONG = 4  # letters from which a chain between two free indices gets a name


@dataclass(frozen=True)
class ShortForm:
    """`lines`: the right side, signed; `where`: definitions of its symbols; `count`: its terms.

    `is_matrix`: the right side is a matrix, not its entry.
    """

    lines: list[str]
    where: list[str]
    count: int
    is_matrix: bool = False


def short_form(
    expression: Expression,
    dialect: Dialect = TEXT,
    avoid: Iterable[str] = (),
    stacks: Collection[sp.Symbol] | None = None,
) -> ShortForm:
    """`avoid`: names that symbols may not take; `stacks`: dimensions that count matrices (heads,
    positions), None: sums over tokens, to be read as means.

    Raises CheckFailed where the form does not equal the expression.
    """
    parts = NOTHING if stacks is None else sliced(expression, stacks)
    found = _found(expression) if stacks is None else grouped(diagonals(parts.expression))
    writer = _Writer(dialect, {*avoid, *names_in(found)}, stacked=parts, found=found)
    lines = writer.rows(found.inside)
    if found.operator is not None:
        lines = writer.operated(lines)
    lines += writer.rows(writer.joint_lines())
    if lines:
        lines[0] = lines[0].removeprefix("+ ")
    return ShortForm(lines or ["0"], writer.definitions(), found.count, writer.as_matrix)


@lru_cache(maxsize=64)  # both dialects of a report
def _found(expression: Expression) -> Grouped:
    return grouped(shortest(expression))


@dataclass
class _Writer(Products):
    """Writes one grouped equation; names are given as they are first needed."""

    found: Grouped = field(kw_only=True)
    chains: dict[tuple[object, ...], tuple[str, Word]] = field(default_factory=dict)

    # lines

    def rows(self, lines: Iterable[Line]) -> list[str]:
        return [row for line in lines for row in self.line(line.coefficient, line.pieces)]

    def operated(self, lines: list[str]) -> list[str]:
        """The operator in front of the lines that it acts on."""
        rows = [lines[0].removeprefix("+ "), *lines[1:]]
        front, (left, right) = "+ " + self._acting(self.found.free), self.dialect.acting
        whole = f"{front}{left} {' '.join(rows)} {right}"
        wide = WIDE_LATEX if self.dialect.is_latex else WIDE
        if len(whole) < wide and not any(row[0] == " " for row in rows):
            return [whole]
        if self.dialect.is_latex:
            return [f"{front}{left} {rows[0]}", *rows[1:-1], f"{rows[-1]} {right}"]
        return [f"{front}{left}", *(f"    {row}" for row in rows), f"  {right}"]

    def _acting(self, free: Sequence[Index]) -> str:
        """P where the form is a matrix, P_ab P_cd where it has entries."""
        name = self.letter(Tensor("P", (), OPERATOR))
        if self.as_matrix:
            return name
        pairs = zip(free[::2], free[1::2], strict=True)
        return " ".join(self.dialect.acts.format(name, i.name, j.name) for i, j in pairs)

    def joint_lines(self) -> Sequence[Line]:
        """Lines of one product each as one, where they begin or end alike: V (J_1 m + J_2 S x).

        In slices alone: over tokens, what has other parameters in front is another effect.
        """
        pieces = [p for line in self.found.lines for p in line.pieces]
        single = len(pieces) == len(self.found.lines) > 1 and self.in_words
        if self.stacked is NOTHING or not single or any(p.exchanges for p in pieces):
            return self.found.lines
        wholes = [line.coefficient * line.pieces[0].coefficient for line in self.found.lines]
        shared = set.intersection(*(set(sp.Mul.make_args(c)) for c in wholes))
        front = sp.Mul(*(c for c in shared if c.free_symbols))
        inside = [replace(p, coefficient=c / front) for p, c in zip(pieces, wholes, strict=True)]
        rows = self.factored([self._product(p, self.found.free) for p in inside])
        return [Line(front, tuple(inside))] if len(rows) == 1 else self.found.lines

    def line(self, coefficient: sp.Expr, pieces: Sequence[Piece]) -> list[str]:
        """One line of the right side: its text in rows, the first one signed."""
        if self.in_words:
            coefficient, rows = self._in_words(coefficient, pieces)
        else:
            coefficient, rows = self._in_entries(coefficient, pieces)
        if coefficient == 1:
            return [f"{sign} {words}" for sign, words in rows]
        if len(rows) == 1 and rows[0][0] == "+" and self.in_words:
            return [" ".join(self.signed(coefficient, rows[0][1]))]
        return self._bracketed(coefficient, rows)

    def _in_entries(self, coefficient: sp.Expr, pieces: Sequence[Piece]) -> tuple[sp.Expr, Rows]:
        """What stands before the bracket, and the rows in it."""
        if len(pieces) == 1:
            whole = coefficient * pieces[0].coefficient  # nothing to put in brackets
            keep = bool(pieces[0].exchanges) and whole != 1
            coefficient, inner = (whole, sp.Integer(1)) if keep else (sp.Integer(1), whole)
            pieces = [replace(pieces[0], coefficient=inner)]
        rows = []
        for piece in pieces:
            sign, words = self.signed(piece.coefficient, self._indexed(piece.parts))
            words += "".join(f" + {self.exchange(self.found.free, way)}" for way in piece.exchanges)
            rows.append((sign, words))
        return coefficient, rows

    def _in_words(self, coefficient: sp.Expr, pieces: Sequence[Piece]) -> tuple[sp.Expr, Rows]:
        """Both of two transposes are written, or "transpose" for those of all long rows."""
        ways = [[self._product(p, way) for way in (self.found.free, *p.exchanges)] for p in pieces]
        if all(len(both) == 2 for both in ways):
            upright = [min(reversed(both), key=transposes) for both in ways]
            if max(len(p.words) for p in upright) > BRIEF:
                rows = [*self.factored(upright), ("+", self.dialect.partner)]
                if coefficient != 1:
                    return coefficient, rows
                several = len(self.found.lines) > 1
                return coefficient, [("+", self.closed(joined(rows), several))]
        products = [p for both in ways for p in both]
        if len(products) == 1:
            (one,) = products
            return sp.Integer(1), self.factored(
                [replace(one, coefficient=coefficient * one.coefficient)]
            )
        return coefficient, self.factored(products)

    def _product(self, piece: Piece, way: Sequence[Index]) -> Product:
        names = dict(zip(self.found.free, way, strict=True))
        words = (self._word(tuple(f.rename(names) for f in part)) for part in piece.parts)
        return self.product(piece.coefficient, [w for w in words if w], self.found.free)

    def _bracketed(self, coefficient: sp.Expr, rows: list[tuple[str, str]]) -> list[str]:
        sign, size = split_sign(coefficient)
        front = self.front(size) if size != 1 else ""
        inner = joined(rows)
        if self.dialect.is_latex and len(inner) < WIDE_LATEX:
            return [rf"{sign} {front}\left[ {inner} \right]"]
        if self.dialect.is_latex:
            first, *middle = (f"{s} {words}" for s, words in rows)
            first = first.removeprefix("+ ")
            out = [rf"{sign} {front}\Big[ {first}", *(rf"\quad {row}" for row in middle)]
            return [*out[:-1], rf"{out[-1]} \Big]"]
        exchanged = len(rows) > 1 and any(self.dialect.arrow in words for _, words in rows)
        if not exchanged and len(front) + len(inner) < WIDE:
            return [f"{sign} {front}[ {inner} ]"]
        inside = [f"    {s} {words}" for s, words in rows]
        inside[0] = inside[0].replace("+", " ", 1) if rows[0][0] == "+" else inside[0]
        return [f"{sign} {front}[", *inside, "  ]"]

    @property
    def as_matrix(self) -> bool:
        return len(self.found.free) == 2 and self.in_words

    @cached_property
    def in_words(self) -> bool:
        """One free index or two, and every product in words."""
        parts = [p for x in self.found.pieces for p in x.parts]
        return len(self.found.free) in (1, 2) and all(self._word(p) is not None for p in parts)

    def letter(self, tensor: Tensor) -> str:
        """A named part at the places of the stacks in it."""
        name = super().letter(tensor)
        return self.at(name, self._places(tensor)) if self._places(tensor) else name

    def _places(self, tensor: Tensor) -> list[str]:
        if tensor.kind != PART:
            return []
        inside = self.found.named[tensor].tensors()
        return list(dict.fromkeys(i.name for t in inside for i in stacks_of(t)))

    def _word(self, part: Factors) -> Word | None:
        if len(part) == 1 and not part[0].indices:
            return Word((), part[0].tensor, part[0].tensor, loop=True)
        return word(part, self.found.free)

    # products

    def _indexed(self, parts: Iterable[Factors]) -> str:
        scalars, entries, sums = [], [], []
        for part in parts:
            w = self._word(part)
            if w is None:
                sums.append(self._sum(part))
            elif not w.ends:
                scalars.append(self.scalar(w))
            else:
                entries.append(self._entry(part, w))
        if len(sums) > 1 or (sums and (entries or scalars)):
            sums = [self.dialect.brackets.format(s) if " " in s else s for s in sums]
        return " ".join(self.powers([*scalars, *entries, *sums]))

    def _entry(self, part: Factors, w: Word) -> str:
        names = [i.name for i in w.ends]
        if len(part) == 1 and set(part[0].indices) <= set(self.found.free):
            return self._factor(part[0], [i.name for i in part[0].indices])
        if len(w.ends) == 1:
            return self.at(self.closed(self.vector(w)), names)
        if len(w.letters) < LONG:
            return self.at(self.closed(self.chain(w)), names)
        return self.at(*self._chain_name(w, names))

    def _chain_name(self, w: Word, ends: list[str]) -> tuple[str, list[str]]:
        """The name of a chain and its indices: one that its transpose has serves too."""
        for name, other in self.chains.values():
            if w.letters in (other.letters, other.turned.letters):
                self.used.add(name)
                return name, ends if other.letters == w.letters else ends[::-1]
        name = self.fresh(NAMES[2])
        self.chains[w.letters] = (name, w)
        self.used.add(name)
        return name, ends

    def named_chain(self, w: Word) -> str:
        """A long chain that stands in several places has a name, another is written."""
        if len(w.letters) < LONG or self.stacked is not NOTHING:
            return self.chain(w)
        parts = [p for x in self.found.pieces for p in x.parts]
        words = [self._word(p) for p in parts]
        equal = [x for x in words if x and w.letters in (x.letters, x.turned.letters)]
        if len(equal) < 2:
            return self.chain(w)
        name, ends = self._chain_name(w, ["row", "column"])
        return name if ends[0] == "row" else self.transposed(name)

    def _sum(self, part: Factors) -> str:
        names = index_names(self.found.free, part)
        bound = [names[i] for i in names if i not in self.found.free]
        product = " ".join(self._factor(f, [names[i] for i in f.indices]) for f in part)
        if not bound:
            return product
        if self.dialect.is_latex:
            return rf"\sum_{{{' '.join(bound)}}} {product}"
        return f"sum_{{{','.join(bound)}}} {product}"

    def _factor(self, factor: Factor, names: list[str]) -> str:
        if factor.tensor.kind == DIAGONAL:
            return self.at(self.letter(factor.tensor.meaning), names * 2)
        return self.at(self.letter(factor.tensor), names)

    # what the symbols stand for

    def definitions(self) -> list[str]:
        """Each behind all that use its name."""
        found: dict[str, tuple[str, set[str]]] = {}  # by name: its definition, what that uses
        told: set[object] = set()
        while True:  # a definition may need further ones
            open_ = [(t, n) for t, n in self.names.items() if t not in told]
            chains = [c for c in self.chains.values() if c[0] not in told]
            if not open_ and not chains:
                return users_first(found)
            for name, w in chains:
                told.add(name)
                self.used.clear()
                found[name] = f"{name} = {self.chain(w)}", set(self.used)
            for tensor, name in open_:
                told.add(tensor)
                self.used.clear()
                if words := self._definition(tensor, name):
                    found[name] = words, self.used - {name}

    def _definition(self, tensor: Tensor, name: str) -> str:
        d = self.dialect
        if tensor.kind == PART:
            return self._part(self.letter(tensor), self.found.named[tensor])
        if tensor.kind == OPERATOR:
            return self._operator(name)
        if tensor.kind == DIAGONAL:
            return f"{name} = {d.diagonal.format(self.letter(tensor.meaning))}"
        if tensor.kind == CENTRING:
            ones = d.ones.format()
            size = tensor.dims[0]
            if d.is_latex:
                return rf"{name} = I - {ones} {self.transposed(ones)} / {symbols.number(size)}"
            return f"{name} = I - {ones} {self.transposed(ones)}/{size}"
        if tensor.kind == CENTRED:
            c = self.letter(tensor.meaning)
            delta = r"\delta" if d.is_latex else "delta"
            return (
                f"{self.at(name, 'rkl')} = {self.at(c, 'rk')} "
                f"({self.at(delta, 'kl')} - {self.at(c, 'rl')})"
            )
        if tensor.kind == "spread" and tensor.meaning[0] == 1:
            inner = d.diagonal.format(self.letter(tensor.meaning[1]))
            return rf"{name} = \sqrt{{{inner}}}" if d.is_latex else f"{name} = sqrt({inner})"
        return ""

    def _operator(self, name: str) -> str:
        """What the operator makes of any X, called Y as long as the name is free."""
        operator, d = self.found.operator, self.dialect
        assert operator is not None
        any_, given = self.fresh(("Y", "Z", "U")), self.letter(operator.tensor)
        if self.as_matrix:
            spread = d.diagonal.format(d.diagonal.format(any_))
            left, whole, off = name, any_, [f"{spread} {given}", f"{given} {spread}"]
        else:
            left, whole = d.acts.format(name, "a", "b"), self.at(any_, "ab")
            off = [f"{self.at(given, 'ab')} {self.at(any_, 2 * i)}" for i in "ab"]
        rows = [("+", whole), *(self.signed(operator.scale, words) for words in off)]
        return f"{left}{d.brackets.format(any_)} = {joined(rows)}"

    def _part(self, name: str, meaning: Expression) -> str:
        """A named part; a vector begins with the chain that all its terms begin with."""
        free = meaning.free
        words = [word(f, free) for _, f in meaning.terms]
        if self.stacked is not NOTHING and free and all(w is not None for w in words):
            inner = replace(self, found=replace(self.found, free=free))
            terms = [Piece(c, tuple(components(f, free))) for c, f in meaning.terms]
            return f"{name} = {joined(self.factored([inner._product(p, free) for p in terms]))}"
        if len(free) == 1 and all(w is not None for w in words):
            return f"{name} = {self._vectors([w for w in words if w is not None], meaning)}"
        scale = [self.signed(c, self._plain(f, free)) for c, f in meaning.terms]
        left = self.at(name, [f"{'abcd'[k]}" for k in range(len(free))]) if free else name
        return f"{left} = {joined(scale)}"

    def _plain(self, factors: Factors, free: Sequence[Index]) -> str:
        w = word(factors, free)
        if not free and w is not None:
            return self.scalar(w)
        names = {i: Index("abcd"[k], i.dim) for k, i in enumerate(free)}
        renamed = tuple(f.rename(names) for f in factors)
        inside = Grouped(tuple(names.values()), (), {})
        inner = replace(self, found=inside)
        return inner._sum(renamed)

    def _vectors(self, words: list[Word], meaning: Expression) -> str:
        words = [w if isinstance(w.left, Index) else w.turned for w in words]
        shared = 0
        while all(len(w.letters) > shared and w.left != w.right for w in words) and (
            len({w.letters[shared] for w in words}) == 1
        ):
            shared += 1
        head = self.chain(Word(words[0].letters[:shared]))
        rest = [
            self.signed(c, self.vector(Word(w.letters[shared:], w.left, w.right)))
            for w, (c, _) in zip(words, meaning.terms, strict=True)
        ]
        rest.sort(key=lambda item: item[0] == "-")
        return f"{head} {self.dialect.brackets.format(joined(rest))}".strip()

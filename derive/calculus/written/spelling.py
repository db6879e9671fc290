"""Words of linear algebra, coefficients and names in a dialect: text or LaTeX.

Input: words (`derive.calculus.index.words`) and scalars.  Output: their texts.  A tensor that
a derivation has no name for (a diagonal, the centring) gets one as it is first written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import sympy as sp

from derive.calculus.index.factors import Index, Tensor
from derive.calculus.index.grouping import PART, Grouped
from derive.calculus.index.means import CENTRED, CENTRING, DIAGONAL
from derive.calculus.index.readable import readable
from derive.calculus.index.slices import NOTHING, SLICE, Sliced
from derive.calculus.index.words import Word
from derive.calculus.written import symbols
from derive.calculus.written.dialect import Dialect

OPERATOR = "operator"  # kind of what stands for an operator's name
LETTERS = {DIAGONAL: "dvqe", "spread": "s", CENTRING: "HPI", CENTRED: "SZC", OPERATOR: "PQR"}
IMAGINARY = sp.Symbol("i")  # its own letter: I is the identity
NAMES = {0: ("c", "k", "l"), 1: ("u", "w", "x", "y"), 2: ("M", "N", "R", "U")}


@dataclass
class Words:
    """`taken`: names that stand for something; `names`: given so far; `stacked`: what symbols in
    coefficients stand for, where an expression is written in slices."""

    dialect: Dialect
    taken: set[str]
    names: dict[Tensor, str] = field(default_factory=dict)
    stacked: Sliced = NOTHING
    used: set[str] = field(default_factory=set)  # names that have been written

    def chain(self, w: Word) -> str:
        return " ".join(self.letters(w))

    def letters(self, w: Word) -> tuple[str, ...]:
        """Matrices one after the other; the delta of two free indices is the identity."""
        if all(x.tensor.kind == "delta" for x in w.letters):
            return ("I",) if w.letters else ()
        names = ((self.letter(x.tensor), x.transposed) for x in w.letters)
        return tuple(self.transposed(name) if turned else name for name, turned in names)

    def transposed(self, words: str) -> str:
        if self.dialect.is_latex and "^" in words and words[0] != "\\":
            words = f"{{{words}}}"  # LaTeX has one superscript
        return self.dialect.transpose.format(words)

    def vector(self, w: Word) -> str:
        """The word with its free end to the left."""
        w = w if isinstance(w.left, Index) else w.turned
        if isinstance(w.right, Index):  # the same one
            return self.dialect.diagonal.format(self.chain(w))
        return f"{self.chain(w)} {self.end(w.right)}".strip()

    def end(self, end: Index | Tensor | None) -> str:
        return self.dialect.ones.format() if end is None else self.letter(end)  # type: ignore[arg-type]

    def scalar(self, w: Word) -> str:
        d = self.dialect
        if w.loop and not w.letters:
            return self.end(w.left)
        if w.loop:
            half = self._half_loop(w)
            if w.letters[-1].tensor.kind == CENTRING != w.letters[0].tensor.kind:
                w = replace(w, letters=(w.letters[-1], *w.letters[:-1]))
            return d.norm.format(half) if half else d.trace.format(self.chain(w))
        ends = {w.left, w.right}
        if not w.letters and ends != {w.left}:
            end = next(e for e in (w.left, w.right) if e is not None)
            if None in ends and isinstance(end, Tensor) and end.kind == DIAGONAL:
                return d.trace.format(self.letter(end.meaning))
        if w.left == w.right and not w.letters:
            return d.norm.format(self.end(w.left))
        count = len(w.letters)
        inner = w.letters[count // 2].tensor.kind == CENTRING if count % 2 else True
        if w.left == w.right and w.turned.letters == w.letters and count and inner:
            second = Word(w.letters[count // 2 :], None, w.right)
            return d.norm.format(f"{self.chain(second)} {self.end(w.right)}")
        middle = f" {self.chain(w)}" if w.letters else ""
        return f"{self.transposed(self.end(w.left))}{middle} {self.end(w.right)}"

    def _half_loop(self, w: Word) -> str:
        """M where the loop is tr(M M^T): |M|^2 is shorter."""
        others = [x for x in w.letters if x.tensor.kind != CENTRING]
        if len(others) != 2 or others[0].tensor != others[1].tensor:
            return ""
        if not others[0].tensor.symmetric:
            return ""
        centring = next((x for x in w.letters if x.tensor.kind == CENTRING), None)
        sides = len(w.letters) - 2
        middle = self.letter(others[0].tensor)
        if centring is None:
            return middle
        h = self.letter(centring.tensor)
        return " ".join([h, middle, h][: sides + 1])

    def letter(self, tensor: Tensor) -> str:
        if tensor in self.names:
            self.used.add(self.names[tensor])
            return self.names[tensor]
        if tensor.kind == SLICE:
            base, places, _ = tensor.meaning
            return self.at(self.letter(base), [i.name for i in places])
        if tensor.kind == PART:
            name = self.fresh(NAMES[min(len(tensor.dims), 2)])
        elif tensor.kind in LETTERS and (tensor.kind != "spread" or tensor.meaning[0] == 1):
            name = self.fresh(tuple(LETTERS[tensor.kind]))
        else:
            name = symbols.word_name(tensor.name) if self.dialect.is_latex else tensor.name
        self.names[tensor] = name
        self.used.add(name)
        return name

    def fresh(self, wanted: Sequence[str]) -> str:
        numbered = (f"{wanted[0]}_{k}" for k in range(2, 99))
        name = next(n for n in (*wanted, *numbered) if n not in self.taken)
        self.taken.add(name)
        return name

    def at(self, name: str, indices: Sequence[str]) -> str:
        if self.dialect.is_latex:
            base = name if name.removeprefix("\\").isalnum() else f"{{{name}}}"
            return rf"{base}_{{{' '.join(map(symbols.index_name, indices))}}}"
        return f"{name}[{','.join(indices)}]"

    def powers(self, words: Sequence[str]) -> list[str]:
        """Equal factors as powers."""
        out = []
        for factor in dict.fromkeys(words):
            count = words.count(factor)
            if count == 1 or "^" in factor[-3:]:
                out += [factor] * count
                continue
            factor = self.closed(factor, _is_product(factor))
            if self.dialect.is_latex:
                out.append(f"{{{factor}}}^{{{count}}}")
            else:
                out.append(f"{factor}^{count}")
        return out

    def signed(self, coefficient: sp.Expr, product: str) -> tuple[str, str]:
        sign, size = split_sign(coefficient)
        if not product:
            return sign, self.number(size)
        if size == 1:
            return sign, product
        top, bottom = sp.fraction(size)
        if top == 1 and not self.dialect.is_latex:
            return sign, f"{product}/{tied(bottom)}"
        return sign, f"{self.front(size)}{product}"

    def front(self, size: sp.Expr) -> str:
        """A coefficient in front of what it multiplies; a sum over stacks begins its scope."""
        words = self.number(size)
        open_ = self.dialect.is_latex or words.isdigit() or re.search(r"sum_\{[^{}]*\}$", words)
        return f"{words} " if open_ else f"{words} * "

    def number(self, size: sp.Expr) -> str:
        size = readable(size)
        if size.free_symbols & {*self.stacked.sums}:
            return self._summed(size)
        size = size.xreplace({sp.I: IMAGINARY})
        if self.dialect.is_latex:
            names = {s: self._entry_name(s) for s in size.free_symbols & {*self.stacked.entries}}
            words = symbols.number(size, names)
            return self.dialect.brackets.format(words) if size.is_Add else words
        if size.is_Pow and size.exp.is_negative:
            return f"1/{tied(1 / size)}"
        return tied(size) if size.is_Add else sp.sstr(size)

    def _summed(self, size: sp.Expr) -> str:
        """A coefficient with sums over stacks: what they do not reach stands before them."""
        if size.is_Add:
            rows = (split_sign(part) for part in size.args)
            return self.dialect.brackets.format(joined([(s, self.number(c)) for s, c in rows]))
        stands: tuple[list[sp.Expr], ...] = ([], [], [])
        for part in sp.Mul.make_args(size):
            inside_ = part.free_symbols
            reached = any(self.stacked.bound(s) for s in inside_)
            stands[1 if part in self.stacked.sums else 2 if reached else 0].append(part)
        before, sums, inside = stands
        if len(sums) != 1:  # a sum inside of a factor: multiplied out
            return self._summed(sp.expand(size))
        over = [i.name for i in self.stacked.sums[sums[0]]]
        head = f"sum_{{{','.join(over)}}}"
        if self.dialect.is_latex:
            head = rf"\sum_{{{' '.join(map(symbols.index_name, over))}}}"
        words = self.front(sp.Mul(*before)) if before else ""
        return f"{words}{head} {self.number(sp.Mul(*inside)) if inside else ''}".strip()

    def _entry_name(self, symbol: sp.Symbol) -> str:
        factor = self.stacked.entries[symbol]
        name = self.letter(factor.tensor)
        return self.at(name, [i.name for i in factor.indices]) if factor.indices else name

    def closed(self, words: str, wanted: bool = True) -> str:
        return self.dialect.brackets.format(words) if wanted and " " in words else words


def _is_product(words: str) -> bool:
    """Whether words stand beside each other outside of every bracket."""
    while (bare := _BRACKETED.sub("", words)) != words:
        words = bare
    return " " in words


_BRACKETED = re.compile(r"\{[^{}]*\}|\([^()]*\)|\[[^\[\]]*\]")


def names_in(found: Grouped) -> set[str]:
    """Names that stand for something already."""
    out = {i.name for i in found.free}
    for line in (*found.inside, *found.lines):
        out |= {s.name for s in line.coefficient.free_symbols}
    for piece in found.pieces:
        out |= {s.name for s in piece.coefficient.free_symbols}
    factors = [f for p in found.pieces for part in p.parts for f in part]
    factors += [f for e in found.named.values() for _, fs in e.terms for f in fs]
    for f in factors:
        out |= {i.dim.name for i in f.indices}
        if f.tensor.kind not in (*LETTERS, PART):
            out.add(f.tensor.name)
    return out | ({found.operator.tensor.name} if found.operator else set())


def joined(rows: Sequence[tuple[str, str]]) -> str:
    return " ".join(f"{s} {w}" for s, w in rows).removeprefix("+ ")


def users_first(found: Mapping[str, tuple[str, set[str]]]) -> list[str]:
    """Definitions by name, with what they use: in order, but each behind all that use its name."""
    out, left = [], dict(found)
    while left:
        name = next(n for n in left if not any(n in used for _, used in left.values()))
        out.append(left.pop(name)[0])
    return out


def split_sign(coefficient: sp.Expr) -> tuple[str, sp.Expr]:
    coefficient = readable(coefficient)
    negative = bool(coefficient.could_extract_minus_sign())
    return ("-", -coefficient) if negative else ("+", coefficient)


def tied(number: sp.Expr) -> str:
    words = sp.sstr(number)
    return words if number.is_Atom or number.is_Pow and not number.exp.is_negative else f"({words})"

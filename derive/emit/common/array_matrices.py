"""The nodes of an array graph as words of matrices, in a dialect.

Vectors are columns.  What NumPy broadcasts is a diagonal matrix in a product, and a product with a
vector of ones in a sum.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import sympy as sp

from derive.calculus.arrays import broadcasting
from derive.calculus.arrays.broadcasting import Part, Product, Way, role
from derive.calculus.written import symbols
from derive.calculus.written.spelling import Words, joined, split_sign
from derive.emit.common.array_printer import Printer
from derive.notation.common.arrays import Array, arguments
from derive.notation.common.words.word import ATOM, POWER, PRODUCT, SCALED, SUM, Text, word_of

TURNED = 3  # letters of a product whose transpose is written out

Rows = list[tuple[str, str]]  # sign and words


def parts(array: Array) -> tuple[Array, ...]:
    """Arguments as they are written; both factors of a product whose entries are added up."""
    inner = _added_up(array)
    if inner is None:
        return arguments(array)
    paired = inner.op == "multiply" and all(a.shape == inner.shape for a in inner.args)
    if paired or inner.op == "function" and inner.data[0] == "abs":
        return tuple(dict.fromkeys(inner.args))
    return (inner,)


def symbol(name: str) -> str:
    """A name of the text as a symbol of LaTeX; a change has a delta."""
    if name.startswith("d_") and len(name) > 2:
        return rf"\delta {symbol(name[2:])}"
    return symbols.word_name(name)


def _added_up(array: Array) -> Array | None:
    """What a number is the sum of all entries of."""
    if array.op != "sum" or array.shape:
        return None
    inner = array
    while inner.op == "sum":
        inner = inner.args[0]
    return inner


@dataclass
class Matrices(Printer):
    """`unit`: the identity; `sums`: terms of those nodes that are sums; `weight`: letters."""

    w: Words
    symmetric: Collection[Array] = ()
    unit: str = "I"
    sums: dict[Array, Rows] = field(default_factory=dict)
    weight: dict[Array, int] = field(default_factory=dict)
    named: set[Array] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.brackets = self.w.dialect.brackets

    def write(self, array: Array) -> None:
        """Raises KeyError for what has no words of matrices."""
        if array.ndim > 2:
            raise KeyError(f"{array.op} of {array.ndim} axes")
        inside = sum(self.weight[a] for a in parts(array))
        word = array.op in ("function", "word", "composite")
        self.weight[array] = 1 if array.op in ("leaf", "constant") else inside + word
        self.text[array] = self.of(array)

    def call(self, array: Array, name: str) -> None:
        """Refer to a node by a name from here on."""
        self.sums.pop(array, None)
        self.named.add(array)
        self.text[array], self.weight[array] = (name, ATOM), 1

    def rows(self, array: Array, opposite: bool = False) -> Rows:
        """The terms of a node, or of its opposite."""
        rows = self.sums.get(array) or [("+", self.text[array][0])]
        return [("-" if sign == "+" else "+", w) for sign, w in rows] if opposite else rows

    def summed(self, array: Array, rows: Rows) -> Text:
        """The text of terms, which are kept."""
        if len(rows) == 1 and rows[0][0] == "+":
            return rows[0][1], SCALED
        self.sums[array] = rows
        return joined(rows), SUM

    # leaves

    def scalar(self, expression: sp.Expr) -> str:
        return str(sp.latex(expression) if self.w.dialect.is_latex else sp.sstr(expression))

    def op_leaf(self, array: Array) -> Text:
        return symbol(array.data) if self.w.dialect.is_latex else str(array.data), ATOM

    def op_constant(self, array: Array) -> Text:
        name = array.data.name
        return symbol(name) if self.w.dialect.is_latex else name, ATOM

    def op_eye(self, array: Array) -> Text:
        return self.unit, ATOM

    def op_full(self, array: Array) -> Text:
        if array.data == 0:
            return "0", ATOM
        ones = self.ones(role(array.shape, array.ndim))
        if array.data == 1 and ones:
            return ones, PRODUCT if " " in ones else ATOM
        text = self.summed(array, [self.w.signed(array.data, ones)])
        return (text[0], ATOM) if array.data.is_Atom and text[1] > SUM and not ones else text

    def ones(self, filled: str) -> str:
        """What a number is multiplied by to fill an array of a role."""
        return self.product(broadcasting.FILLED[filled])

    def product(self, parts: Product) -> str:
        return " ".join(self.part(p) for p in parts)

    def part(self, part: Part) -> str:
        way, array = part
        one = self.w.dialect.ones.format()
        if array is None:
            return one if way is Way.ONES else self.w.transposed(one)
        if way is Way.DIAGONAL:
            return self.diagonal(array)
        return (self.transposed if way is Way.TURNED else self.tied)(array, PRODUCT)

    # sums

    def op_add(self, array: Array) -> Text:
        first, second = (self.spread(a, array) for a in array.args)
        return self.summed(array, [*first, *second])

    def spread(self, array: Array, whole: Array) -> Rows:
        """The terms of an array that is repeated along the axes that it lacks."""
        parts = broadcasting.spread(array, whole.shape)
        if len(parts) == 1:
            return self.rows(array)
        wanted = role(whole.shape, whole.ndim)
        if array.op == "full" and role(array.shape, whole.ndim) == "number":
            return [self.w.signed(array.data, self.ones(wanted))]
        if (Way.PLAIN, array) not in parts:
            return [("+", self.product(parts))]
        sign, words = self.lone(array)
        return [(sign, " ".join(words if p[1] is array else self.part(p) for p in parts))]

    def lone(self, array: Array) -> tuple[str, str]:
        """A sign and words to stand in a product."""
        rows = self.rows(array)
        if len(rows) == 1 and rows[0][0] == "-":
            return "-", self.brackets.format(rows[0][1])
        return "+", self.tied(array, PRODUCT if array.shape else POWER)

    # products

    def op_multiply(self, array: Array) -> Text:
        first, second = sorted(array.args, key=lambda a: a.op != "full" or bool(a.shape))
        if first.op == "full" and not first.shape:
            return self.scaled(array, first.data, second)
        for one, other in (array.args, array.args[::-1]):
            if one.op == "full" and one.data == 1 and other.shape != array.shape:
                return self.summed(array, self.spread(other, array))
        roles = [role(a.shape, array.ndim) for a in array.args]
        if "number" in roles:
            return self.by_number(array, roles.index("number"))
        if roles[0] == roles[1]:
            left, right = self.bound(array, 0, SCALED), self.bound(array, 1, PRODUCT)
            return f"{left}{self.w.dialect.entrywise}{right}", SCALED
        parts = broadcasting.multiplied(array)
        assert parts is not None
        return self.product(parts), PRODUCT

    def scaled(self, array: Array, coefficient: sp.Expr, core: Array) -> Text:
        if coefficient in (1, -1) and (core in self.sums or self.text[core][1] > SUM):
            return self.summed(array, self.rows(core, coefficient == -1))
        number = self.divisor(core)
        if number:
            sign, size = split_sign(coefficient)
            return self.summed(array, [(sign, self.over(self.w.number(size), number))])
        return self.summed(array, [self.w.signed(coefficient, self.whole(core))])

    def by_number(self, array: Array, place: int) -> Text:
        number, other = array.args[place], array.args[1 - place]
        for one, below_ in ((other, number), (number, other)):
            if divisor := self.divisor(below_):
                return self.over(self.whole(one), divisor), SCALED
        words = [self.tied(number, POWER), self.tied(other, PRODUCT)]
        if other.shape == number.shape:
            return " ".join(self.w.powers(words)), PRODUCT
        return " ".join(words), PRODUCT

    def whole(self, array: Array) -> str:
        """What may be divided: behind a vector of ones 1/n would be read."""
        words = self.tied(array, SCALED)
        closed = words.endswith(" 1") and not self.w.dialect.is_latex
        return self.brackets.format(words) if closed else words

    def divisor(self, array: Array) -> str:
        """What a number divides by, if it is one over something."""
        over = array.op == "function" and array.data[0] == "reciprocal" and array not in self.named
        least = SUM if self.w.dialect.is_latex else ATOM
        return self.tied(array.args[0], least) if over and not array.shape else ""

    def over(self, above: str, divisor: str) -> str:
        return (
            rf"\frac{{{above}}}{{{divisor}}}" if self.w.dialect.is_latex else f"{above}/{divisor}"
        )

    def diagonal(self, vector: Array) -> str:
        """The diagonal matrix of a row or a column; of an entrywise reciprocal its inverse."""
        over = vector.op == "function" and vector.data[0] == "reciprocal"
        inner = vector.args[0] if over and vector not in self.named else vector
        row = inner.ndim == 2 and inner.shape[0] == 1
        words = self.transposed(inner, SUM) if row else self.text[inner][0]
        power = ("^{-1}" if self.w.dialect.is_latex else "^-1") if inner is not vector else ""
        return self.w.dialect.diagonal.format(words) + power

    def op_matmul(self, array: Array) -> Text:
        return self.product(broadcasting.contracted(array)), PRODUCT

    def op_transpose(self, array: Array) -> Text:
        return self.turned(array.args[0])

    def op_expand(self, array: Array) -> Text:
        (inner,) = array.args
        if inner.ndim == 1 and array.data == 0:
            return self.turned(inner)
        if inner in self.sums:
            self.sums[array] = self.sums[inner]
        return self.text[inner]

    def transposed(self, array: Array, least: int) -> str:
        words, strength = self.turned(array)
        return words if strength >= least else self.brackets.format(words)

    def turned(self, array: Array) -> Text:
        """The transpose; of a short product the product of transposes."""
        plain = array not in self.named
        if array in self.symmetric or role(array.shape, array.ndim) == "number":
            return self.text[array]
        if plain and array.op == "transpose":
            return self.text[array.args[0]]
        if plain and array.op == "expand" and array.data == 0:
            return self.text[array.args[0]]
        if plain and array.op == "matmul" and self.weight[array] <= TURNED:
            left, right = array.args
            if left.ndim == 1 and right.ndim == 2:
                left, right = right, left
                return f"{self.transposed(right, PRODUCT)} {self.tied(left, PRODUCT)}", PRODUCT
            return f"{self.transposed(right, PRODUCT)} {self.transposed(left, PRODUCT)}", PRODUCT
        return self.w.transposed(self.tied(array, ATOM)), POWER

    def op_sum(self, array: Array) -> Text:
        inner = _added_up(array)
        if inner is not None:
            return self.total(array, inner)
        parts = broadcasting.summed(array)
        if len(parts) > 1:
            return self.product(parts), PRODUCT
        ((way, summed),) = parts
        assert summed is not None
        return self.turned(summed) if way is Way.TURNED else self.text[summed]

    def total(self, array: Array, inner: Array) -> Text:
        """The sum of all entries."""
        d, factors = self.w.dialect, parts(array)
        if factors == (inner,):
            return self._of_ones(inner)
        if inner.op == "function":
            bars = r"\left\lVert {} \right\rVert_1" if d.is_latex else "|{}|_1"
            return bars.format(self.text[factors[0]][0]), ATOM
        if len(factors) == 1:
            return d.norm.format(self.text[factors[0]][0]), POWER
        left, right = factors
        for one, other in (factors, factors[::-1]):
            if one.op == "eye":
                return d.trace.format(self.text[other][0]), ATOM
        if role(inner.shape, inner.ndim) == "row":
            return f"{self.tied(left, PRODUCT)} {self.transposed(right, PRODUCT)}", PRODUCT
        product = f"{self.transposed(left, PRODUCT)} {self.tied(right, PRODUCT)}"
        if role(inner.shape, inner.ndim) == "column":
            return product, PRODUCT
        return d.trace.format(product), ATOM

    def _of_ones(self, inner: Array) -> Text:
        one = self.ones("column")
        row, words = self.w.transposed(one), self.tied(inner, PRODUCT)
        both = {
            "number": words,
            "column": f"{row} {words}",
            "row": f"{words} {one}",
            "matrix": f"{row} {words} {one}",
        }
        return both[role(inner.shape, inner.ndim)], PRODUCT

    # words

    def op_function(self, array: Array) -> Text:
        word = word_of(array)
        return (word.latex if self.w.dialect.is_latex else word.text)(self, array)

    op_word = op_composite = op_concatenate = op_function

"""Array expressions as LaTeX: products as juxtaposition, entrywise products with a dot."""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

from derive.emit.common.array_printer import Printer, users
from derive.notation.common.arrays import Array, visible
from derive.notation.common.words.word import ATOM, PRODUCT, SUM, Text, word_of


def equation(left: str, root: Array, names: Mapping[Array, str]) -> str:
    """`left` = root, with the parts that have a name written out before."""
    order = visible(root)
    used = users(order)
    printer = Tex()
    text = printer.text
    parts, taken, count = [], set(), 0
    for array in order:
        text[array] = printer.of(array)
        trivial = array.op in ("leaf", "full", "eye", "transpose", "expand")
        if array is not root and not trivial and (array in names or used[array] > 1):
            name = names.get(array)
            if name is None or name in taken:
                count += 1
                name = f"c_{count}"
            taken.add(name)
            parts.append(f"{symbol(name)} = {text[array][0]}")
            text[array] = (symbol(name), ATOM)
    return r",\quad ".join([*parts, f"{left} = {text[root][0]}"])


def symbol(name: str) -> str:
    """A name of the text as a symbol: bars over adjoints, subscripts kept together."""
    if name.endswith("_bar"):
        return rf"\bar{{{symbol(name[:-4])}}}"
    if name.startswith("d_") and len(name) > 2:
        return rf"\delta {symbol(name[2:])}"
    head, _, tail = name.partition("_")
    head = sp.latex(sp.Symbol(head))
    return (
        rf"{head}_{{\mathrm{{{tail.replace('_', ' ')}}}}}"
        if len(tail) > 1
        else (f"{head}_{{{tail}}}" if tail else head)
    )


_BETWEEN = {
    "squared_norm": r"\left\lVert {} \right\rVert^{{2}}",
    "inner": r"\left\langle {} \right\rangle",
}


class Tex(Printer):
    """LaTeX of array operations."""

    brackets = r"\left({}\right)"

    def scalar(self, expression: sp.Expr) -> str:
        return str(sp.latex(expression))

    def op_leaf(self, array: Array) -> Text:
        return symbol(array.data), ATOM

    def op_full(self, array: Array) -> Text:
        value = sp.latex(array.data)
        if array.shape == ():
            return value, ATOM if array.data.is_Symbol or array.data.is_Integer else SUM
        return (r"\mathbf{1}" if array.data == 1 else rf"{value}\,\mathbf{{1}}"), PRODUCT

    def op_eye(self, array: Array) -> Text:
        return "I", ATOM

    def op_constant(self, array: Array) -> Text:
        return rf"\operatorname{{{array.data.name}}}", ATOM

    def op_add(self, array: Array) -> Text:
        left, right = self.bound(array, 0, SUM), self.words(array, 1)
        if right.startswith("-"):
            return f"{left} {right}", SUM
        return f"{left} + {self.bound(array, 1, SUM)}", SUM

    def op_multiply(self, array: Array) -> Text:
        first, second = array.args
        if first.op == "full" and first.shape == ():
            factor = first.data
            words = "-" if factor == -1 else sp.latex(factor)
            if factor.is_Add:
                words = self.brackets.format(words)
            strength = PRODUCT if words[0] != "-" else SUM
            return rf"{words} {self.bound(array, 1, PRODUCT)}", strength
        if () in (first.shape, second.shape):
            return rf"{self.bound(array, 0, PRODUCT)}\, {self.bound(array, 1, PRODUCT)}", PRODUCT
        return rf"{self.bound(array, 0, PRODUCT)} \odot {self.bound(array, 1, ATOM)}", PRODUCT

    def op_matmul(self, array: Array) -> Text:
        left, right = self.bound(array, 0, PRODUCT), self.bound(array, 1, PRODUCT)
        if array.args[0].ndim == 1 and self.text[array.args[0]][1] == ATOM:
            left += r"^{\top}"
        return f"{left} {right}", PRODUCT

    def op_transpose(self, array: Array) -> Text:
        return rf"{self.bound(array, 0, ATOM)}^{{\top}}", ATOM

    def op_expand(self, array: Array) -> Text:
        return self.text[array.args[0]]

    def op_sum(self, array: Array) -> Text:
        inner = array.args[0]
        below = {0: "i", 1: "j"}[array.data[0]] if inner.ndim == 2 else "i"
        if inner.op == "sum" and array.shape == ():
            below, words = "", self.words(array)
            if words.startswith(r"\textstyle\sum_{i} "):
                return words.replace("_{i}", "_{ij}", 1), SUM
        return rf"\textstyle\sum_{{{below}}} {self.bound(array, 0, PRODUCT)}", SUM

    def op_function(self, array: Array) -> Text:
        if array.op == "word" and array.data[0] in _BETWEEN:
            return _BETWEEN[array.data[0]].format(self.listed(array)), ATOM
        return word_of(array).latex(self, array)

    op_word = op_composite = op_concatenate = op_function

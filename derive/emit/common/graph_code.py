"""A definition's graph as Python statements on arrays.

Input: a graph and the names of its parts.  Output: statements and the text of the result.  A part
becomes a statement if the definition names it or if it is used twice; everything else is written
where it is used, so that the kernel reads like the definition.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import sympy as sp

from derive.emit.common.array_printer import Printer, users
from derive.emit.common.names import fresh, local
from derive.emit.common.scalars import (
    factor_text,
    fraction,
    python,
    render,
    symbol_text,
)
from derive.notation.common.arrays import (
    Array,
    add,
    function,
    lift,
    matmul,
    multiply,
    node,
    scale,
    total,
    transpose,
    visible,
    walk,
)
from derive.notation.common.words.word import ATOM, PRODUCT, SUM, Text, word_of


def statements(
    root: Array,
    names: Mapping[Array, str],
    leaves: Mapping[Array, str],
    dtype: str,
    reserved: Iterable[str] = (),
    signed: bool = False,
    printer: type[Code] | None = None,
) -> tuple[list[tuple[str, str]], str]:
    """(name, text) pairs in order, and the text of the result; `dtype` is text for the dtype.

    `reserved`: names that a statement must not take.  `signed`:
    signs of scalars in front of their products are written as signs of the terms.  `printer`: what
    writes the nodes, by default `Code`.
    """
    order = visible(root)
    used = users(order)
    given = {a: (name, ATOM) for a, name in leaves.items()}
    writer = (printer or Code)(dtype, signed, text=given)
    text = writer.text
    taken = {*leaves.values(), *reserved}
    lines: list[tuple[str, str]] = []
    for array in order:
        if array in text:
            continue
        text[array] = writer.of(array)
        wish = names.get(array)
        trivial = array.op in ("full", "eye", "transpose", "over_nodes")
        if array.op == "constant" and array.data.given:
            continue
        if array is not root and (wish or (used[array] > 1 and not trivial)):
            name = fresh(wish or "part", taken)
            taken.add(name)
            lines.append((name, text[array][0]))
            text[array] = (name, ATOM)
    return lines, text[root][0]


@dataclass
class Code(Printer):
    """Python on arrays; `dtype` and `signed` as in `statements`."""

    dtype: str = ""
    signed: bool = False

    def bound(self, array: Array, position: int, least: int) -> str:
        arg = array.args[position]
        lacking = array.ndim - arg.ndim
        if array.ndim > 2 and array.op in ("add", "multiply") and 0 < lacking < array.ndim:
            return f"({self.text[arg][0]})[{', '.join(['None'] * lacking)}]"
        if array.op in ("add", "multiply") and lacking and _of_a_layer(arg):
            axes = ["..."] + ["None"] * lacking + [":"] * arg.ndim
            return f"{super().bound(array, position, ATOM)}[{', '.join(axes)}]"
        return super().bound(array, position, least)

    def scalar(self, expression: sp.Expr) -> str:
        return python(expression)

    def op_full(self, array: Array) -> Text:
        if array.shape == ():
            return render(array.data)
        shape = ", ".join(map(symbol_text, array.shape))
        return f"full(({shape},), {python(array.data)}, {self.dtype})", ATOM

    def op_eye(self, array: Array) -> Text:
        return f"eye({symbol_text(array.shape[0])}, {self.dtype})", ATOM

    def op_constant(self, array: Array) -> Text:
        if array.data.given:
            return local(array.data.name), ATOM
        return f"causal({symbol_text(array.shape[0])}, {self.dtype.partition('.')[0]})", ATOM

    def op_add(self, array: Array) -> Text:
        left, right = self.bound(array, 0, SUM), array.args[1]
        words, strength = self.text[right]
        if _is_minus(right):
            return f"{left} - {self.tied(right.args[1], SUM + 1)}", SUM
        if self.signed and right.op == "full" and not right.shape and _is_negative(right):
            return f"{left} - {factor_text(-right.data)}", SUM
        if self.signed and _is_scaled(right) and _is_negative(right.args[0]):
            opposite = self._scaled(-right.args[0].data, right.args[1])[0]
            if strength != ATOM:  # a part that has a name of its own is added by name
                return f"{left} - {opposite}", SUM
        if self.signed and right.op == "add" and right.shape != array.shape and strength == SUM:
            return f"{left} + ({words})", SUM  # added at its own size
        return f"{left} + {self.bound(array, 1, SUM)}", SUM

    def op_multiply(self, array: Array) -> Text:
        first, second = array.args
        if _is_scaled(array):
            if self.signed and first.data != -1 and _is_negative(first):
                return f"-{self._scaled(-first.data, second)[0]}", SUM
            return self._scaled(first.data, second)
        for above, below in ((first, second), (second, first)):
            if self._divides(below):
                under = self.text[below][0].removeprefix("1 / ")
                return f"{self.tied(above, PRODUCT)} / {under}", PRODUCT
        return f"{self.bound(array, 0, PRODUCT)} * {self.bound(array, 1, ATOM)}", PRODUCT

    def op_matmul(self, array: Array) -> Text:
        return f"{self.bound(array, 0, PRODUCT)} @ {self.bound(array, 1, ATOM)}", PRODUCT

    def op_transpose(self, array: Array) -> Text:
        return f"{self.bound(array, 0, ATOM)}.mT", ATOM

    def op_sum(self, array: Array) -> Text:
        axis, keepdims = array.data
        inner = array.args[0]
        kept = ", keepdims=True" if keepdims else ""
        before = self.words(array)
        if array.shape == () and before.endswith(".sum(-2)") and inner.op == "sum":
            return f"{before.removesuffix('.sum(-2)')}.sum((-2, -1))", ATOM
        return f"{self.bound(array, 0, ATOM)}.sum({axis - inner.ndim}{kept})", ATOM

    def op_expand(self, array: Array) -> Text:
        behind = ", :" * (array.ndim - 1 - array.data)
        return f"{self.bound(array, 0, ATOM)}[..., None{behind}]", ATOM

    def op_tuple(self, array: Array) -> Text:
        return self.listed(array), ATOM

    def op_psd_root(self, array: Array) -> Text:
        return f"psd_root({self.words(array)})", ATOM

    def op_over_nodes(self, array: Array) -> Text:
        return f"over_nodes({self.words(array)})", ATOM

    def op_normals(self, array: Array) -> Text:
        number, count = array.data
        return f"normal_nodes({self.words(array)}, {number}, {count})", ATOM

    def op_normal_mean(self, array: Array) -> Text:
        return f"normal_mean({self.words(array)})", ATOM

    def op_function(self, array: Array) -> Text:
        return word_of(array).code(self, array)

    op_word = op_composite = op_concatenate = op_function

    def _divides(self, array: Array) -> bool:
        """Whether a factor is written as 1 / ..., so that a product with it is a quotient."""
        reciprocal = array.op == "function" and array.data[0] == "reciprocal"
        return reciprocal and self.text[array][1] != ATOM

    def _scaled(self, coefficient: sp.Expr, array: Array) -> Text:
        if self._divides(array):
            under = self.text[array][0].removeprefix("1 / ")
            return f"{factor_text(coefficient)} / {under}", PRODUCT
        inner = self.tied(array, PRODUCT)
        if coefficient == -1:
            return f"-{inner}", SUM
        top, bottom = fraction(coefficient)
        if top == 1 and bottom != 1:
            below, binding = render(bottom)
            return f"{inner} / {below if binding == ATOM else f'({below})'}", PRODUCT
        return f"{factor_text(coefficient)} * {inner}", PRODUCT


def _of_a_layer(array: Array) -> bool:
    """Whether it comes with axes of its own in front, as states and weights of many paths do."""
    return any(a.op in ("state", "gaussian") for a in walk(array))


class Told(Code):
    """The same for readers: means over normals, not over nodes."""

    def op_psd_root(self, array: Array) -> Text:
        return f"root({self.words(array)})", ATOM

    def op_over_nodes(self, array: Array) -> Text:
        return self.text[array.args[0]]

    def op_normals(self, array: Array) -> Text:
        return f"G_{array.data[0] + 1}", ATOM

    def op_normal_mean(self, array: Array) -> Text:
        return f"E[{self.words(array)}]", ATOM


def _is_scaled(array: Array) -> bool:
    first = array.args[0] if array.op == "multiply" else None
    return first is not None and first.op == "full" and first.shape == ()


def _is_minus(array: Array) -> bool:
    return array.op == "multiply" and array.args[0].op == "full" and array.args[0].data == -1


def _is_negative(number: Array) -> bool:
    return bool(number.data.could_extract_minus_sign())


def gather(root: Array) -> Array:
    """The same graph with every scalar pulled to the front of its product.

    Scalars that belong to different factors meet and cancel, and each array is scaled once;
    numbers in a sum are added up.
    """
    done: dict[Array, tuple[sp.Expr, Array]] = {}
    one = sp.Integer(1)
    joins: dict[str, Callable[..., Array]] = {
        "multiply": multiply, "matmul": matmul, "transpose": transpose,
        "sum": lambda array, how: total(array, *how),
    }  # fmt: skip
    users = Counter(arg for array in walk(root) for arg in array.args)
    for array in walk(root):
        args = [done[a] for a in array.args]
        whole = [scale(c, a) for c, a in args]
        numbers = [a.op == "full" and not a.shape for a in array.args]
        if array.op == "multiply" and any(numbers):
            front = numbers.index(True)
            coefficient, core = args[1 - front]
            done[array] = (array.args[front].data * coefficient, core)
        elif array.op in joins:
            cores = [a for _, a in args] + [array.data] * (array.op == "sum")
            done[array] = (sp.Mul(*(c for c, _ in args)), joins[array.op](*cores))
        elif array.op == "add":
            done[array] = _sum([done[a] for a in _summands(array, users)])
        elif array.op == "function":
            name, body = array.data
            done[array] = (one, function(body, whole[0], name))
        elif array.op == "composite":
            done[array] = (one, node("composite", tuple(whole), array.shape, array.data))
        else:
            done[array] = (one, array)
    coefficient, core = done[root]
    return scale(sp.expand(coefficient), core)


def _summands(array: Array, users: Mapping[Array, int]) -> list[Array]:
    """Terms of a sum; a sum in it that is used elsewhere too stays whole."""
    out = []
    for arg in array.args:
        inner = arg.op == "add" and users[arg] == 1
        out += _summands(arg, users) if inner else [arg]
    return out


def _sum(terms: list[tuple[sp.Expr, Array]]) -> tuple[sp.Expr, Array]:
    """The sum of (coefficient, array), as one of those; its numbers are added up."""
    place = [p for p, (_, a) in enumerate(terms) if a.op == "full" and not a.shape]
    if len(place) > 1:
        number = sp.Add(*(terms[p][0] * terms[p][1].data for p in place))
        kept = [] if number == 0 else [(sp.Integer(1), lift(number))]
        others = [t for p, t in enumerate(terms) if p not in place]
        terms = [*others[: place[0]], *kept, *others[place[0] :]]
    common = terms[0][0]
    if any(c != common for c, _ in terms):
        common = sp.Integer(1)
    parts = [a if common != 1 else scale(c, a) for c, a in terms]
    return common, functools.reduce(add, parts)

"""A definition's graph as Python statements on arrays.

Input: a graph and the names of its parts.  Output: statements and the text of the result.  A part
becomes a statement if the definition names it or if it is used twice; everything else is written
where it is used, so that the kernel reads like the definition.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import sympy as sp

from derive.emit.common.names import fresh, local
from derive.emit.common.scalars import (
    ATOM,
    PRODUCT,
    SUM,
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
    walk,
)


def statements(
    root: Array,
    names: Mapping[Array, str],
    leaves: Mapping[Array, str],
    dtype: str,
    reserved: Iterable[str] = (),
    signed: bool = False,
) -> tuple[list[tuple[str, str]], str]:
    """(name, text) pairs in order, and the text of the result; `dtype` is text for the dtype.

    `reserved`: names that a statement must not take.  `signed`:
    signs of scalars in front of their products are written as signs of the terms.
    """
    order = _needed(root)
    users: dict[Array, int] = {}
    for array in order:
        for arg in _shown_args(array):
            users[arg] = users.get(arg, 0) + 1
    text: dict[Array, tuple[str, int]] = {a: (name, ATOM) for a, name in leaves.items()}
    taken = {*leaves.values(), *reserved}
    lines: list[tuple[str, str]] = []
    for array in order:
        if array in text:
            continue
        shown = _text(array, text, dtype, signed)
        wish = names.get(array)
        trivial = array.op in ("full", "eye", "transpose")
        if array.op == "constant" and array.data.given:
            text[array] = shown
            continue
        if array is not root and (wish or (users[array] > 1 and not trivial)):
            name = fresh(wish or "part", taken)
            taken.add(name)
            lines.append((name, shown[0]))
            shown = (name, ATOM)
        text[array] = shown
    return lines, text[root][0]


def _shown_args(array: Array) -> tuple[Array, ...]:
    return array.args[:-1] if array.op == "composite" else array.args


def _needed(root: Array) -> list[Array]:
    """Nodes that the text mentions: the meaning of a composite is not spelt out."""
    order: list[Array] = []
    seen: set[Array] = set()

    def visit(array: Array) -> None:
        if array in seen:
            return
        seen.add(array)
        for arg in _shown_args(array):
            visit(arg)
        order.append(array)

    visit(root)
    return order


def _text(
    array: Array, text: Mapping[Array, tuple[str, int]], dtype: str, signed: bool
) -> tuple[str, int]:
    def shown(position: int, least: int) -> str:
        words, strength = text[array.args[position]]
        lacking = array.ndim - array.args[position].ndim
        if array.ndim > 2 and array.op in ("add", "multiply") and 0 < lacking < array.ndim:
            return f"({words})[{', '.join(['None'] * lacking)}]"
        return words if strength >= least else f"({words})"

    if array.op == "full":
        if array.shape == ():
            return render(array.data)
        shape = ", ".join(map(symbol_text, array.shape))
        return f"full(({shape},), {python(array.data)}, {dtype})", ATOM
    if array.op == "eye":
        return f"eye({symbol_text(array.shape[0])}, {dtype})", ATOM
    if array.op == "constant":
        if array.data.given:
            return local(array.data.name), ATOM
        return f"causal({symbol_text(array.shape[0])}, {dtype.partition('.')[0]})", ATOM
    if array.op == "add":
        right = array.args[1]
        if _is_minus(right):
            words, strength = text[right.args[1]]
            return f"{shown(0, SUM)} - {words if strength > SUM else f'({words})'}", SUM
        number = signed and right.op == "full" and not right.shape
        if number and right.data.could_extract_minus_sign():
            return f"{shown(0, SUM)} - {factor_text(-right.data)}", SUM
        if signed and _is_scaled(right) and right.args[0].data.could_extract_minus_sign():
            words, _ = _scaled(-right.args[0].data, right.args[1], text)
            if text[right][1] != ATOM:  # a part that has a name of its own is added by name
                return f"{shown(0, SUM)} - {words}", SUM
        if signed and right.op == "add" and right.shape != array.shape and text[right][1] == SUM:
            return f"{shown(0, SUM)} + ({text[right][0]})", SUM  # added at its own size
        return f"{shown(0, SUM)} + {shown(1, SUM)}", SUM
    if array.op == "multiply":
        first = array.args[0]
        if first.op == "full" and first.shape == ():
            if signed and first.data != -1 and first.data.could_extract_minus_sign():
                return f"-{_scaled(-first.data, array.args[1], text)[0]}", SUM
            return _scaled(first.data, array.args[1], text)
        for above, below in (array.args, array.args[::-1]):
            if _is_reciprocal(below) and text[below][1] != ATOM:
                words, strength = text[above]
                top = words if strength >= PRODUCT else f"({words})"
                return f"{top} / {text[below][0].removeprefix('1 / ')}", PRODUCT
        return f"{shown(0, PRODUCT)} * {shown(1, ATOM)}", PRODUCT
    if array.op == "matmul":
        return f"{shown(0, PRODUCT)} @ {shown(1, ATOM)}", PRODUCT
    if array.op == "transpose":
        return f"{shown(0, ATOM)}.mT", ATOM
    if array.op == "sum":
        axis, keepdims = array.data
        inner = array.args[0]
        kept = ", keepdims=True" if keepdims else ""
        before = text[inner][0]
        if array.shape == () and before.endswith(".sum(-2)") and inner.op == "sum":
            return f"{before.removesuffix('.sum(-2)')}.sum((-2, -1))", ATOM
        return f"{shown(0, ATOM)}.sum({axis - inner.ndim}{kept})", ATOM
    if array.op == "concatenate":
        return f"concatenate({text[array.args[0]][0]})", ATOM
    if array.op == "expand":
        behind = ", :" * (array.ndim - 1 - array.data)
        return f"{shown(0, ATOM)}[..., None{behind}]", ATOM
    if array.op == "word":
        inside = [text[a][0] for a in array.args] + [str(d) for d in array.data[1:]]
        return f"{array.data[0]}({', '.join(inside)})", ATOM
    if array.op == "tuple":
        return ", ".join(text[a][0] for a in array.args), ATOM
    if array.op == "composite":
        return f"{array.data}({', '.join(text[a][0] for a in _shown_args(array))})", ATOM
    if array.op == "function":
        name, body = array.data
        if name == "reciprocal":
            return f"1 / {shown(0, ATOM)}", PRODUCT
        if name == "power":
            (x,) = body.variables
            base = shown(0, ATOM)
            return re.sub(rf"\b{x}\b", lambda _: base, python(body.expr)), PRODUCT
        if name == "formula":
            (x,) = body.variables
            mark = sp.Symbol("argument_", real=True)
            words = python(body.expr.xreplace({x: mark}))
            return f"({words})".replace(str(mark), shown(0, ATOM)), ATOM
        if name in ("at_least", "at_most"):
            (x,) = body.variables
            (limit,) = [a for a in body.expr.args if a != x]
            word = "maximum" if name == "at_least" else "minimum"
            return f"{word}({text[array.args[0]][0]}, {python(limit)})", ATOM
        return f"{name}({text[array.args[0]][0]})", ATOM
    raise KeyError(array.op)


def _is_scaled(array: Array) -> bool:
    first = array.args[0] if array.op == "multiply" else None
    return first is not None and first.op == "full" and first.shape == ()


def _is_minus(array: Array) -> bool:
    return array.op == "multiply" and array.args[0].op == "full" and array.args[0].data == -1


def _is_reciprocal(array: Array) -> bool:
    return array.op == "function" and array.data[0] == "reciprocal"


def _scaled(
    coefficient: sp.Expr, array: Array, text: Mapping[Array, tuple[str, int]]
) -> tuple[str, int]:
    words, strength = text[array]
    if _is_reciprocal(array) and strength != ATOM:
        return f"{factor_text(coefficient)} / {words.removeprefix('1 / ')}", PRODUCT
    inner = words if strength >= PRODUCT else f"({words})"
    if coefficient == -1:
        return f"-{inner}", SUM
    top, bottom = fraction(coefficient)
    if top == 1 and bottom != 1:
        below, binding = render(bottom)
        return f"{inner} / {below if binding == ATOM else f'({below})'}", PRODUCT
    return f"{factor_text(coefficient)} * {inner}", PRODUCT


def gather(root: Array) -> Array:
    """The same graph with every scalar pulled to the front of its product.

    Scalars that belong to different factors meet and cancel, and each array is scaled once;
    numbers in a sum are added up.
    """
    done: dict[Array, tuple[sp.Expr, Array]] = {}
    one = sp.Integer(1)
    users = Counter(arg for array in walk(root) for arg in array.args)
    for array in walk(root):
        args = [done[a] for a in array.args]
        whole = [scale(c, a) for c, a in args]
        if array.op == "multiply" and array.args[0].op == "full" and array.args[0].shape == ():
            done[array] = (array.args[0].data * args[1][0], args[1][1])
        elif array.op == "multiply" and array.args[1].op == "full" and array.args[1].shape == ():
            done[array] = (array.args[1].data * args[0][0], args[0][1])
        elif array.op == "multiply":
            done[array] = (args[0][0] * args[1][0], multiply(args[0][1], args[1][1]))
        elif array.op == "matmul":
            done[array] = (args[0][0] * args[1][0], matmul(args[0][1], args[1][1]))
        elif array.op == "transpose":
            done[array] = (args[0][0], transpose(args[0][1]))
        elif array.op == "sum":
            done[array] = (args[0][0], total(args[0][1], *array.data))
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

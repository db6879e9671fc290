"""Array expressions as LaTeX: products as juxtaposition, entrywise products with a dot."""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

from derive.notation.common.arrays import Array

SUM, PRODUCT, ATOM = 1, 2, 3


def equation(left: str, root: Array, names: Mapping[Array, str]) -> str:
    """`left` = root, with the parts that have a name written out before."""
    users: dict[Array, int] = {}
    order = [a for a in _needed(root)]
    for array in order:
        for arg in _shown(array):
            users[arg] = users.get(arg, 0) + 1
    text: dict[Array, tuple[str, int]] = {}
    parts, taken, count = [], set(), 0
    for array in order:
        shown = _tex(array, text)
        trivial = array.op in ("leaf", "full", "eye", "transpose", "expand")
        if array is not root and not trivial and (array in names or users[array] > 1):
            name = names.get(array)
            if name is None or name in taken:
                count += 1
                name = f"c_{count}"
            taken.add(name)
            parts.append(f"{symbol(name)} = {shown[0]}")
            shown = (symbol(name), ATOM)
        text[array] = shown
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


def _shown(array: Array) -> tuple[Array, ...]:
    return array.args[:-1] if array.op == "composite" else array.args


def _needed(root: Array) -> list[Array]:
    order: list[Array] = []
    seen: set[Array] = set()

    def visit(array: Array) -> None:
        if array not in seen:
            seen.add(array)
            for arg in _shown(array):
                visit(arg)
            order.append(array)

    visit(root)
    return order


def _tex(array: Array, text: Mapping[Array, tuple[str, int]]) -> tuple[str, int]:
    def shown(position: int, least: int) -> str:
        words, strength = text[array.args[position]]
        return words if strength >= least else rf"\left({words}\right)"

    op, args = array.op, array.args
    if op == "leaf":
        return symbol(array.data), ATOM
    if op == "full":
        value = sp.latex(array.data)
        if array.shape == ():
            return value, ATOM if array.data.is_Symbol or array.data.is_Integer else SUM
        return (r"\mathbf{1}" if array.data == 1 else rf"{value}\,\mathbf{{1}}"), PRODUCT
    if op == "eye":
        return "I", ATOM
    if op == "add":
        right = text[args[1]][0]
        if right.startswith("-"):
            return f"{shown(0, SUM)} {right}", SUM
        return f"{shown(0, SUM)} + {shown(1, SUM)}", SUM
    if op == "multiply":
        if args[0].op == "full" and args[0].shape == ():
            factor = args[0].data
            words = "-" if factor == -1 else sp.latex(factor)
            if factor.is_Add:
                words = rf"\left({words}\right)"
            return rf"{words} {shown(1, PRODUCT)}", PRODUCT if words[0] != "-" else SUM
        if () in (args[0].shape, args[1].shape):
            return rf"{shown(0, PRODUCT)}\, {shown(1, PRODUCT)}", PRODUCT
        return rf"{shown(0, PRODUCT)} \odot {shown(1, ATOM)}", PRODUCT
    if op == "matmul":
        left, right = shown(0, PRODUCT), shown(1, PRODUCT)
        if args[0].ndim == 1:
            left += r"^{\top}" if text[args[0]][1] == ATOM else ""
        return f"{left} {right}", PRODUCT
    if op == "transpose":
        return rf"{shown(0, ATOM)}^{{\top}}", ATOM
    if op == "constant":
        return rf"\operatorname{{{array.data.name}}}", ATOM
    if op == "expand":
        return text[args[0]]
    if op == "sum":
        below = {0: "i", 1: "j"}[array.data[0]] if args[0].ndim == 2 else "i"
        if args[0].op == "sum" and array.shape == ():
            below, inner = "", text[args[0]][0]
            if inner.startswith(r"\textstyle\sum_{i} "):
                return inner.replace("_{i}", "_{ij}", 1), SUM
        return rf"\textstyle\sum_{{{below}}} {shown(0, PRODUCT)}", SUM
    if op in ("composite", "word", "concatenate"):
        name = {"composite": array.data, "concatenate": op}.get(op) or array.data[0]
        inside = ", ".join(text[a][0] for a in _shown(array))
        if name == "linear_solve":
            return rf"{shown(0, ATOM)}^{{-1}} {shown(1, PRODUCT)}", PRODUCT
        if name == "inverse":
            words = shown(0, ATOM) if text[args[0]][1] == ATOM else rf"\left({inside}\right)"
            return rf"{words}^{{-1}}", ATOM
        if name == "inv_sqrt_det":
            return rf"\det\left({inside}\right)^{{-1/2}}", ATOM
        if name in ("tril", "triu"):
            return rf"\operatorname{{{name}}}_{{{array.data[1]}}}\left({inside}\right)", ATOM
        title = name.replace("_", r"\_")
        return rf"\operatorname{{{title}}}\left({inside}\right)", ATOM
    if op == "function":
        name, body = array.data
        if name == "reciprocal":
            return rf"\frac{{1}}{{{text[args[0]][0]}}}", ATOM
        if name == "sqrt":
            return rf"\sqrt{{{text[args[0]][0]}}}", ATOM
        if name in ("exp", "log", "tanh", "sin", "cos"):
            return rf"\{name}\left({text[args[0]][0]}\right)", ATOM
        if name in ("power", "at_least", "at_most"):
            hole = sp.Symbol("HOLE")
            words = sp.latex(body(hole)).replace(
                "HOLE", rf"\left({text[args[0]][0]}\right)" if name == "power" else text[args[0]][0]
            )
            return words, ATOM
        title = name.replace("_", r"\_")
        return rf"\operatorname{{{title}}}\left({text[args[0]][0]}\right)", ATOM
    raise KeyError(op)

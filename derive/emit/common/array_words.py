"""Named array words in code and in LaTeX: an entry for each that is not written NAME(arguments).

What else a word has (shape, value, derivative) follows from its SymPy body where it has one, see
`derive.notation.common.elementwise`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import sympy as sp

from derive.emit.common.array_printer import Printer, Text, title
from derive.emit.common.scalars import ATOM, PRODUCT, python
from derive.notation.common.arrays import Array

Rule = Callable[[Printer, Array], Text]


def called(printer: Printer, array: Array) -> Text:
    """NAME(arguments), then what else the word is given."""
    more = array.data[1:] if array.op == "word" else ()
    inside = ", ".join([printer.listed(array), *map(str, more)])
    return f"{title(array)}({inside})", ATOM


def operator(printer: Printer, array: Array) -> Text:
    r"""\operatorname{NAME}(arguments)."""
    name = title(array).replace("_", r"\_")
    return rf"\operatorname{{{name}}}\left({printer.listed(array)}\right)", ATOM


@dataclass(frozen=True)
class Word:
    """The rules that write a word."""

    code: Rule = called
    latex: Rule = operator


def _at_limit(word: str) -> Rule:
    """The larger or the smaller of an array and a limit."""

    def rule(printer: Printer, array: Array) -> Text:
        body = array.data[1]
        (x,) = body.variables
        (limit,) = [a for a in body.expr.args if a != x]
        return f"{word}({printer.words(array)}, {python(limit)})", ATOM

    return rule


def _power(printer: Printer, array: Array) -> Text:
    body = array.data[1]
    (x,) = body.variables
    base = printer.bound(array, 0, ATOM)
    return re.sub(rf"\b{x}\b", lambda _: base, python(body.expr)), PRODUCT


def _formula(printer: Printer, array: Array) -> Text:
    body = array.data[1]
    (x,) = body.variables
    mark = sp.Symbol("argument_", real=True)
    words = python(body.expr.xreplace({x: mark}))
    return f"({words})".replace(str(mark), printer.bound(array, 0, ATOM)), ATOM


def _filled(around: str) -> Rule:
    """LaTeX of a function's body, `around` its argument."""

    def rule(printer: Printer, array: Array) -> Text:
        words = sp.latex(array.data[1](sp.Symbol("HOLE")))
        return words.replace("HOLE", around.format(printer.words(array))), ATOM

    return rule


def _backslash(printer: Printer, array: Array) -> Text:
    return rf"\{title(array)}\left({printer.words(array)}\right)", ATOM


def _over(printer: Printer, array: Array) -> Text:
    return f"1 / {printer.bound(array, 0, ATOM)}", PRODUCT


def _fraction(printer: Printer, array: Array) -> Text:
    return rf"\frac{{1}}{{{printer.words(array)}}}", ATOM


def _root(printer: Printer, array: Array) -> Text:
    return rf"\sqrt{{{printer.words(array)}}}", ATOM


def _inverse(printer: Printer, array: Array) -> Text:
    return f"{printer.bound(array, 0, ATOM)}^{{-1}}", ATOM


def _solved(printer: Printer, array: Array) -> Text:
    return f"{printer.bound(array, 0, ATOM)}^{{-1}} {printer.bound(array, 1, PRODUCT)}", PRODUCT


def _determinant(printer: Printer, array: Array) -> Text:
    return rf"\det\left({printer.words(array)}\right)^{{-1/2}}", ATOM


def _triangle(printer: Printer, array: Array) -> Text:
    below = array.data[1]
    return rf"\operatorname{{{title(array)}}}_{{{below}}}\left({printer.listed(array)}\right)", ATOM


WORDS: dict[str, Word] = {
    "reciprocal": Word(_over, _fraction),
    "sqrt": Word(latex=_root),
    **dict.fromkeys(("exp", "log", "tanh", "sin", "cos"), Word(latex=_backslash)),
    "power": Word(_power, _filled(r"\left({}\right)")),
    "formula": Word(_formula),
    "at_least": Word(_at_limit("maximum"), _filled("{}")),
    "at_most": Word(_at_limit("minimum"), _filled("{}")),
    "inverse": Word(latex=_inverse),
    "inv_sqrt_det": Word(latex=_determinant),
    "linear_solve": Word(latex=_solved),
    "tril": Word(latex=_triangle),
    "triu": Word(latex=_triangle),
}


def word(array: Array) -> Word:
    """How the name of a function, a word or a composite is written."""
    return WORDS.get(title(array), Word())

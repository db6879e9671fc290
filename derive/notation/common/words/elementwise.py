"""Elementwise functions have one SymPy body for each name; derivative and series follow from it.

One body for one name, so that the same function of the same array is the same value wherever it
arises: in a definition or as somebody's derivative.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import sympy as sp

from derive.notation.common.arrays import Array, exact, function, x_symbol
from derive.notation.common.words.word import (
    ATOM,
    POWER,
    PRODUCT,
    SCALED,
    WORDS,
    Printer,
    Text,
    Word,
)

#: SymPy's functions that are not smooth
KINKED = (sp.Max, sp.Min, sp.Abs, sp.sign, sp.Heaviside, sp.Piecewise)


def named(name: str) -> sp.Lambda:
    """The function with this name, of one variable."""
    word = WORDS[name]
    assert isinstance(word, Elementwise), name
    return sp.Lambda(x_symbol, word.body)


def name_of(kind: type) -> str | None:
    """The word for one of SymPy's functions."""
    bodies = ((w.name, w.body) for w in WORDS.values() if isinstance(w, Elementwise))
    return next((n for n, b in bodies if isinstance(b, sp.Function) and b.func is kind), None)


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, of complex arguments too: complex steps are taken at large ones."""
    if not np.iscomplexobj(x):
        return np.vectorize(math.erf, otypes=[float])(x)
    from scipy.special import erf as whole  # comes with jax; its import takes long

    return np.asarray(whole(x))


def _log(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):  # the logarithm of a masked entry
        return np.log(x)


@cache
def compiled(x: sp.Symbol, body: sp.Expr) -> Callable[[np.ndarray], np.ndarray]:
    # complex steps see no slope in a sign, and that of the real axis in an absolute value
    own = {
        "erf": erf,
        "sign": lambda x: np.sign(np.real(x)),
        "abs": lambda x: np.maximum(x, -x),
    }
    return sp.lambdify(x, body, [own, "numpy"])


class Elementwise(Word):
    """A function of one variable, `reading` on NumPy arrays; `@` is its argument in `tex`."""

    def __init__(
        self,
        name: str,
        body: sp.Expr,
        doc: str = "",
        reading: Callable[..., Any] | None = None,
        tex: str = "",
    ) -> None:
        super().__init__(name)
        self.body, self.tex = body, tex
        self.reading = reading or compiled(x_symbol, body)
        self.runtime = "ops" if doc else "control"  # what users may write, every kernel may call
        self.__doc__ = f"{doc}, entry by entry."

    def value(self, x: Any) -> Any:
        return self.reading(x)

    def __call__(self, x: Any) -> Any:
        rule = named(self.name)
        return function(rule, x, self.name) if isinstance(x, Array) else rule(exact(x))

    def latex(self, p: Printer, array: Array) -> Text:
        if not self.tex:
            return super().latex(p, array)
        return self.tex.replace("@", p.words(array)), ATOM


def entrywise(array: Array, power: str, tex: bool) -> str:
    """An exponent; of what is no number it says that it is taken entry by entry."""
    if not array.ndim:
        return f"^{{{power}}}" if tex else f"^({power})"
    return rf"^{{\circ {power}}}" if tex else f"^(o {power})"


class Reciprocal(Elementwise):
    """1 / x, written as a quotient."""

    def __init__(self) -> None:
        super().__init__("reciprocal", 1 / x_symbol)
        self.calls = ""

    def text(self, p: Printer, array: Array) -> Text:
        base = p.bound(array, 0, ATOM)
        return (
            (f"{base}{entrywise(array, '-1', False)}", POWER)
            if array.ndim
            else (f"1/{base}", SCALED)
        )

    def latex(self, p: Printer, array: Array) -> Text:
        if not array.ndim:
            return rf"\frac{{1}}{{{p.words(array)}}}", ATOM
        return p.bound(array, 0, ATOM) + entrywise(array, "-1", True), POWER

    def code(self, p: Printer, array: Array) -> Text:
        return f"1 / {p.bound(array, 0, ATOM)}", PRODUCT


class Formula(Word):
    """A function that its node's body defines."""

    def _at(self, p: Printer, array: Array, to: str) -> Text:
        s = sp.Symbol("s")
        argument = p.words(array)
        return f"({p.scalar(s)} {to} {p.scalar(array.data[1](s))})({argument})", ATOM

    def text(self, p: Printer, array: Array) -> Text:
        return self._at(p, array, "->")

    def latex(self, p: Printer, array: Array) -> Text:
        return self._at(p, array, r"\mapsto")

    def code(self, p: Printer, array: Array) -> Text:
        body = array.data[1]
        mark = sp.Symbol("argument_", real=True)
        return f"({p.scalar(body(mark))})".replace(str(mark), p.bound(array, 0, ATOM)), ATOM


class Power(Formula):
    """A power that is not whole."""

    def _raised(self, p: Printer, array: Array, tex: bool) -> Text:
        power = p.scalar(array.data[1].expr.exp)
        return p.bound(array, 0, ATOM) + entrywise(array, power, tex), POWER

    def text(self, p: Printer, array: Array) -> Text:
        return self._raised(p, array, False)

    def code(self, p: Printer, array: Array) -> Text:
        body, base = array.data[1], p.bound(array, 0, ATOM)
        (x,) = body.variables
        return re.sub(rf"\b{x}\b", lambda _: base, p.scalar(body.expr)), PRODUCT

    def latex(self, p: Printer, array: Array) -> Text:
        return self._raised(p, array, True)


class Limited(Formula):
    """The larger or the smaller of an array and a limit."""

    def _of(self, p: Printer, array: Array) -> str:
        body = array.data[1]
        (limit,) = [a for a in body.expr.args if a not in body.variables]
        return f"({p.words(array)}, {p.scalar(limit)})"

    def code(self, p: Printer, array: Array) -> Text:
        return self.calls + self._of(p, array), ATOM

    def text(self, p: Printer, array: Array) -> Text:
        return self.calls[:3] + self._of(p, array), ATOM

    def latex(self, p: Printer, array: Array) -> Text:
        return rf"\{self.calls[:3]}{self._of(p, array)}", ATOM


def _register() -> None:
    x = x_symbol

    def called(name: str) -> str:
        return rf"\{name}\left(@\right)"

    for word in (
        Elementwise("exp", sp.exp(x), "The exponential", np.exp, called("exp")),
        Elementwise("log", sp.log(x), "The natural logarithm", _log, called("log")),
        Elementwise("sqrt", sp.sqrt(x), "The square root", np.sqrt, r"\sqrt{@}"),
        Elementwise("tanh", sp.tanh(x), "The hyperbolic tangent", np.tanh, called("tanh")),
        Elementwise("sin", sp.sin(x), "The sine", np.sin, called("sin")),
        Elementwise("cos", sp.cos(x), "The cosine", np.cos, called("cos")),
        Elementwise("arctan", sp.atan(x), "The inverse tangent", np.arctan, called("arctan")),
        Elementwise("erf", sp.erf(x), "The error function", erf),
        Elementwise(
            "sigmoid", 1 / (1 + sp.exp(-x)), "1/(1 + exp(-x))", lambda x: 1 / (1 + np.exp(-x))
        ),
        Elementwise("relu", sp.Max(x, 0), "max(x, 0)", lambda x: np.maximum(x, 0)),
        Elementwise(
            "gelu",
            x * (1 + sp.erf(x / sp.sqrt(2))) / 2,
            "x Phi(x), Phi the normal law",
            lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
        ),
        Elementwise(
            "silu", x / (1 + sp.exp(-x)), "x / (1 + exp(-x))", lambda x: x / (1 + np.exp(-x))
        ),
        # what derivatives and norms are written in
        Reciprocal(),
        Elementwise("abs", sp.Abs(x)),
        Elementwise("sign", sp.sign(x)),
        Elementwise("heaviside", sp.Heaviside(x, 0)),
        Power("power", ""),
        Formula("formula", ""),
        Limited("at_least", "maximum"),
        Limited("at_most", "minimum"),
    ):
        word.register()


_register()

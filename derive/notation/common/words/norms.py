"""Norms of all entries of several arrays together, and the directions in which they grow.

`l1_norm` and `l2_norm` stand in definitions; the others in control laws, where the norm that is
dual to a price or to a bound gives the size of a control.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import sympy as sp

from derive.notation.common.arrays import Array, Shape, add, arguments, function, multiply, total
from derive.notation.common.words.elementwise import named
from derive.notation.common.words.word import (
    ATOM,
    PRODUCT,
    SCALED,
    SUM,
    Operations,
    Printer,
    Text,
    Word,
    given,
)


def _flat(arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.concatenate([np.ravel(a) for a in arrays])


def _bars(p: Printer, array: Array, tex: bool, behind: str) -> list[str]:
    """The arguments between the bars of a norm."""
    left, right = (r"\left\lVert ", r" \right\rVert") if tex else ("|", "|")
    places = range(len(arguments(array)))
    return [f"{left}{p.words(array, k)}{right}{behind}" for k in places]


class L1Norm(Word):
    """The sum of absolute values of all entries."""

    def value(self, *arrays: np.ndarray) -> Any:
        # |a| continued to complex numbers near the real axis: complex steps differentiate it
        return sum((a * np.sign(np.real(a))).sum() for a in arrays)

    def text(self, p: Printer, array: Array, tex: bool = False) -> Text:
        norms = _bars(p, array, tex, "_1")
        return " + ".join(norms), SUM if norms[1:] else ATOM

    def latex(self, p: Printer, array: Array) -> Text:
        return self.text(p, array, True)

    def meaning(self, *arrays: Array) -> Array:
        return reduce(add, [total(function(named("abs"), a, "abs"), None, False) for a in arrays])


class Euclidean(Word):
    """What is written with the Euclidean norm of all entries together."""

    def text(self, p: Printer, array: Array, tex: bool = False) -> Text:
        squares = " + ".join(_bars(p, array, tex, "^2"))
        return rf"\sqrt{{{squares}}}" if tex else f"sqrt({squares})", ATOM

    def latex(self, p: Printer, array: Array) -> Text:
        return self.text(p, array, True)


class L2Norm(Euclidean):
    """The Euclidean norm of all entries together."""

    def value(self, *arrays: np.ndarray) -> Any:
        return np.sqrt(sum((a * a).sum() for a in arrays))

    def meaning(self, *arrays: Array) -> Array:
        squares = reduce(add, [total(multiply(a, a), None, False) for a in arrays])
        return function(named("sqrt"), squares, "sqrt")


class DualNorm(Euclidean):
    """linf_norm, the largest absolute value, or l2_norm_of, the Euclidean norm."""

    def text(self, p: Printer, array: Array, tex: bool = False) -> Text:
        return super().text(p, array, tex) if self.order == 2 else (_largest(p, array, tex), ATOM)

    def __init__(self, name: str, direction: str, order: float) -> None:
        super().__init__(name)
        self.direction, self.order = direction, order

    def value(self, *arrays: np.ndarray) -> Any:
        return np.linalg.norm(_flat(arrays), self.order)

    def exact(self, *arrays: np.ndarray) -> Any:
        entries = [v for a in arrays for v in np.ravel(a)]
        if self.order == 2:
            return sp.sqrt(sp.Add(*(v**2 for v in entries)))
        return sp.Max(*map(sp.Abs, entries))

    def shape(self, *arrays: Array) -> Shape:
        return ()

    def adjoint(self, g: Operations, array: Array, position: int, bar: Array) -> Array:
        return g.multiply(bar, g.word(self.direction, *array.args, position))

    def tangent(self, g: Operations, array: Array, position: int, move: Array) -> Array:
        return g.sum_all(g.multiply(g.word(self.direction, *array.args, position), move))


def _largest(p: Printer, array: Array, tex: bool) -> str:
    norms = _bars(p, array, tex, r"_\infty" if tex else "_inf")
    if len(norms) == 1:
        return norms[0]
    return (r"\max\left({}\right)" if tex else "max({})").format(", ".join(norms))


class L1Vertex(Word):
    """The share of the array at a position in the subgradient of the largest absolute value."""

    def value(self, *arguments: Any) -> np.ndarray:
        *arrays, position = arguments
        top = np.abs(_flat(tuple(arrays))).max()
        ties = sum(np.sum(np.abs(a) == top) for a in arrays)
        own = arrays[int(position)]
        return np.sign(own) * (np.abs(own) == top) / ties

    def text(self, p: Printer, array: Array) -> Text:
        return f"grad_{given(array)[0] + 1} {_largest(p, array, False)}", PRODUCT

    def latex(self, p: Printer, array: Array) -> Text:
        return rf"\nabla_{{{given(array)[0] + 1}}} {_largest(p, array, True)}", PRODUCT

    def shape(self, *arguments: Any) -> Shape:
        return arguments[arguments[-1]].shape


class L2Direction(Euclidean):
    """The array at a position over the Euclidean norm of all; zero where that is zero."""

    def value(self, *arguments: Any) -> np.ndarray:
        *arrays, position = arguments
        norm = np.linalg.norm(_flat(tuple(arrays)))
        return arrays[int(position)] / (norm if norm > 0 else 1.0)

    def text(self, p: Printer, array: Array, tex: bool = False) -> Text:
        own, norm = p.bound(array, given(array)[0], ATOM), super().text(p, array, tex)[0]
        return rf"\frac{{1}}{{{norm}}} {own}" if tex else f"{own}/{norm}", SCALED

    def shape(self, *arguments: Any) -> Shape:
        return arguments[arguments[-1]].shape


L1Norm("l1_norm").register()
L2Norm("l2_norm").register()
DualNorm("linf_norm", "l1_vertex", np.inf).register()
DualNorm("l2_norm_of", "l2_direction", 2).register()
L1Vertex("l1_vertex").register()
L2Direction("l2_direction").register()

"""A word is written in code, in text and in LaTeX; the code means what the word says."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from derive.calculus.written.dialect import LATEX, TEXT
from derive.emit.common.array_written import written
from derive.emit.common.graph_code import Code, statements
from derive.notation.common.arrays import Array, function, node, x_symbol
from derive.notation.common.words.elementwise import Elementwise, named
from derive.notation.common.words.word import WORDS
from derive.runtime.common import ops
from derive.runtime.control import words

m = sp.Symbol("m", integer=True, positive=True)
X, Y = (node("leaf", (), (m, m), name) for name in "XY")
LIMIT = sp.Rational(1, 2)
BODIES = [name for name, word in WORDS.items() if isinstance(word, Elementwise)]
OTHERS = {
    "power": x_symbol ** sp.Rational(1, 3),
    "formula": x_symbol**2 / (1 + x_symbol),
    "at_least": sp.Max(x_symbol, LIMIT),
    "at_most": sp.Min(x_symbol, LIMIT),
}


def _code(array: Array) -> str:
    lines, text = statements(array, {}, {X: "X", Y: "Y"}, "X.dtype")
    assert not lines
    return text


@pytest.mark.parametrize("name", sorted([*BODIES, *OTHERS]))
def test_an_elementwise_word_means_its_body(name: str) -> None:
    body = sp.Lambda(x_symbol, OTHERS[name]) if name in OTHERS else named(name)
    at = np.array([[0.25, 0.5], [1.5, 2.0]])
    found = eval(_code(function(body, X, name)), {**vars(words), **vars(ops), "X": at})
    expected = [[float(body(sp.nsimplify(v))) for v in row] for row in at]
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "array, code, text, latex",
    [
        (node("word", (X,), (m, m), ("inverse",)), "inverse(X)", "X^-1", "X^{-1}"),
        (
            node("word", (X,), (m, m), ("tril", -1)),
            "tril(X, -1)",
            "tril(X, -1)",
            r"\operatorname{tril}_{-1}\left(X\right)",
        ),
        (
            node("word", (X, Y), (m, m), ("linear_solve",)),
            "linear_solve(X, Y)",
            "X^-1 Y",
            "X^{-1} Y",
        ),
        (
            node("word", (X, Y), (), ("linf_norm",)),
            "linf_norm(X, Y)",
            "max(|X|_inf, |Y|_inf)",
            r"\max\left(\left\lVert X \right\rVert_\infty, "
            r"\left\lVert Y \right\rVert_\infty\right)",
        ),
        (
            node("composite", (X, Y), (m, m), "softmax"),  # its meaning is not spelt out
            "softmax(X)",
            "softmax(X)",
            r"\operatorname{softmax}\left(X\right)",
        ),
    ],
)
def test_a_structural_word_is_written_by_its_entry(
    array: Array, code: str, text: str, latex: str
) -> None:
    assert _code(array) == code
    assert written("L", array, {}, TEXT).text == f"L = {text}"
    assert written("L", array, {}, LATEX).latex == f"L = {latex}"


def test_an_operation_that_no_printer_knows_is_an_error() -> None:
    with pytest.raises(KeyError, match="gather"):
        Code(text={X: ("X", 4)}).of(node("gather", (X,), (m,)))

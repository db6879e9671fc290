"""An expression as a finding says it: in one line, with what its tensors stand for."""

from __future__ import annotations

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.calculus.index.text import show
from derive.methods.gaussian_closure.definitions import definition_texts
from derive.methods.token_flow.names import Names


def told(expression: Expression, names: Names, book: Book) -> str:
    stand = "; ".join(definition_texts(names.stacks, book, expression))
    return " + ".join(show(expression).split("\n")) + (f" (where {stand})" if stand else "")

"""The tensors that a derivation defines (exponentials, gates, ridge functions), in words too."""

from __future__ import annotations

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Tensor
from derive.calculus.written.meanings import meaning
from derive.methods.gaussian_closure.names import Names


def definition_texts(names: Names, book: Book, *expressions: Expression) -> list[str]:
    """What the defined tensors of some expressions mean, in words of matrices."""
    return [" = ".join(meaning(t, book, names.stacks)) for t in defined_in(book, *expressions)]


def defined_in(book: Book, *expressions: Expression) -> list[Tensor]:
    """Defined tensors that expressions use, those inside definitions first."""
    order: list[Tensor] = []

    def visit(expression: Expression) -> None:
        for tensor in expression.tensors():
            if tensor in book.of and tensor not in order:
                for body in book.of[tensor].bodies:
                    visit(body)
                order.append(tensor)

    for expression in expressions:
        visit(expression)
    return order

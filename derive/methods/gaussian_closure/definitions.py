"""The tensors that a derivation defines (exponentials, gates, ridge functions), in words too."""

from __future__ import annotations

from collections.abc import Collection

import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Tensor
from derive.calculus.written.meanings import meaning


def definition_texts(
    stacks: Collection[sp.Symbol], book: Book, *expressions: Expression
) -> list[str]:
    """What the defined tensors of some expressions mean, in words of matrices.

    `stacks`: dimensions that count, as of `short_form`.
    """
    return [" = ".join(meaning(t, book, stacks)) for t in defined_in(book, *expressions)]


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

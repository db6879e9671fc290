"""Array graphs as text: what the printers of code and of LaTeX have in common.

A printer writes one node after the other, arguments before users, and knows of each text how
strongly its outermost operation binds.  A method `op_NAME` writes the operation NAME; named words
stand in `derive.emit.common.array_words`, one entry a word with all its texts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from derive.notation.common.arrays import Array

Text = tuple[str, int]  # words, and the binding strength of the outermost operation


def visible(array: Array) -> tuple[Array, ...]:
    """Arguments that a text mentions: the meaning of a composite is not spelt out."""
    return array.args[:-1] if array.op == "composite" else array.args


def needed(root: Array) -> list[Array]:
    """Nodes that the text mentions, arguments before users."""
    order: list[Array] = []
    seen: set[Array] = set()

    def visit(array: Array) -> None:
        if array in seen:
            return
        seen.add(array)
        for arg in visible(array):
            visit(arg)
        order.append(array)

    visit(root)
    return order


def users(order: Iterable[Array]) -> dict[Array, int]:
    """How often each node is an argument."""
    out: dict[Array, int] = {}
    for array in order:
        for arg in visible(array):
            out[arg] = out.get(arg, 0) + 1
    return out


def title(array: Array) -> str:
    """The name of a function, a word or a composite."""
    if array.op in ("function", "word"):
        return str(array.data[0])
    return str(array.data) if array.op == "composite" else array.op


@dataclass
class Printer:
    """`text` holds what has been written, by node; `brackets` goes around a weaker operation."""

    text: dict[Array, Text] = field(default_factory=dict)
    brackets: ClassVar[str] = "({})"

    def of(self, array: Array) -> Text:
        """The text of a node whose arguments have theirs.  Raises KeyError for an unknown one."""
        rule = getattr(self, f"op_{array.op}", None)
        if rule is None:
            raise KeyError(array.op)
        text: Text = rule(array)
        return text

    def words(self, array: Array, position: int = 0) -> str:
        """The text of an argument as it is."""
        return self.text[array.args[position]][0]

    def bound(self, array: Array, position: int, least: int) -> str:
        """The text of an argument, in brackets if it binds more weakly than `least`."""
        return self.tied(array.args[position], least)

    def tied(self, array: Array, least: int) -> str:
        words, strength = self.text[array]
        return words if strength >= least else self.brackets.format(words)

    def listed(self, array: Array) -> str:
        """The texts of all arguments that are shown."""
        return ", ".join(self.text[a][0] for a in visible(array))

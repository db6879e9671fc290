"""Array graphs as text: what the printers of code and of mathematics have in common.

A printer writes one node after the other, arguments before users, and knows of each text how
strongly its outermost operation binds.  A method `op_NAME` writes the operation NAME; a named word
is written as its file in `derive.notation.common.words` says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from derive.notation.common.arrays import Array, arguments
from derive.notation.common.visitor import Visitor
from derive.notation.common.words.word import Text


def users(order: Iterable[Array]) -> Counter[Array]:
    """How often each node is an argument."""
    return Counter(arg for array in order for arg in arguments(array))


@dataclass
class Printer(Visitor):
    """`text` holds what has been written, by node; `brackets` goes around a weaker operation."""

    text: dict[Array, Text] = field(default_factory=dict, kw_only=True)
    brackets: str = field(default="({})", kw_only=True)

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
        return ", ".join(self.text[a][0] for a in arguments(array))

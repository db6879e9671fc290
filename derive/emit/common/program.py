"""Array statements as they grow: named values, what is known of them, what they cost."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from derive.emit.common.merging import Placed, Recipe

Term = tuple[sp.Expr, tuple[Placed, ...]]


LONGEST = 22  # characters of a name that says how a value was made


RANKS = ("scalar", "vector", "matrix", "array")


@dataclass(frozen=True)
class Statement:
    name: str
    text: str
    cost: int = 0


@dataclass
class Program:
    """Statements shared by all expressions that are lowered into it.

    `words`: products of matrices as their (factor, transposed) in order; `recipes`: their last
    two factors; `column_sums`: of which matrix; `uses`: how often a named array stands in the
    terms of the results; `shared`: matrices without an axis over paths.
    """

    statements: list[Statement] = field(default_factory=list)
    known: dict[object, str] = field(default_factory=dict)
    symmetric: set[str] = field(default_factory=set)
    words: dict[str, tuple[tuple[str, bool], ...]] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    column_sums: dict[str, str] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)
    uses: Counter[str] = field(default_factory=Counter)
    taken: set[str] = field(default_factory=set)
    operations: dict[str, int] = field(default_factory=dict)
    like: str = "V"  # an array of the kernel's own representation
    given: frozenset[str] = frozenset()  # names that were taken at the start

    def __post_init__(self) -> None:
        self.given = frozenset(self.taken)

    def rebind(self, key: object, name: str, text: str) -> str:
        """A name of the definition read in the kernel's own representation, once."""
        if key not in self.known:
            self.known[key] = name
            self.statements.append(Statement(name, text, 2))
            self.operations["m^2"] = self.operations.get("m^2", 0) + 1
        return self.known[key]

    def assign(self, key: object, wish: str, text: str, cost: int) -> str:
        """Name a value; the same key is computed once.  `cost` is its exponent of m."""
        if key not in self.known:
            name, number = wish, 1
            while name in self.taken:
                number += 1
                name = f"{wish}_{number}"
            self.taken.add(name)
            self.known[key] = name
            self.statements.append(Statement(name, text, cost))
            label = f"m^{cost}"
            self.operations[label] = self.operations.get(label, 0) + 1
        return self.known[key]

    def alone(self, name: str) -> bool:
        """Whether one term uses the value and no statement does."""
        return self.uses[name] == 1 and not self.quoted(name)

    def needed(self, name: str) -> bool:
        return self.uses[name] > 0 or self.quoted(name)

    def quoted(self, name: str) -> bool:
        """Whether a statement uses the value."""
        return any(re.search(rf"\b{name}\b", s.text) for s in self.statements)

    def forget(self, name: str) -> None:
        """Take a statement back that nothing uses any more."""
        (statement,) = [s for s in self.statements if s.name == name]
        self.statements.remove(statement)
        self.taken.discard(name)
        self.symmetric.discard(name)
        self.words.pop(name, None)
        self.recipes.pop(name, None)
        self.column_sums.pop(name, None)
        self.known = {k: n for k, n in self.known.items() if n != name}
        label = f"m^{statement.cost}"
        self.operations[label] -= 1

    def word(self, name: str, flipped: bool = False) -> tuple[tuple[str, bool], ...]:
        """A matrix as a product of factors, or its transpose."""
        found = self.words.get(name, ((name, False),))
        if flipped:
            found = tuple((n, n not in self.symmetric and not f) for n, f in reversed(found))
        return found


def in_order(placed: Placed) -> tuple[Any, ...]:
    return (-len(placed[1]), placed[0], tuple(i.name for i in placed[1]))

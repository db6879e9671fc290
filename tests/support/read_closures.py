"""Reads the text of a closure's equation back: stacks as subscripts, sums over them as loops."""

from __future__ import annotations

import numpy as np
from read_equations import Reader  # type: ignore[import-not-found]


class ClosureReader(Reader):
    """`known`: arrays with the axes of their stacks first; `at`: the stacks' places by name."""

    def __init__(self, text, known, at, sizes):
        super().__init__(text, known, sizes["d"])
        self.at, self.sizes = at, sizes

    def atom(self):
        if self.peek().startswith("sum_"):
            names = self.take()[5:-1].split(",")
            start, total = self.place, 0
            for place in np.ndindex(*(self.sizes[n] for n in names)):
                self.place, before = start, dict(self.at)
                self.at.update(zip(names, place, strict=True))
                total = total + self.scaled()
                self.at.clear()
                self.at.update(before)
            return total
        if self.peek() == "transpose":
            self.take()
            return self.before.T
        return super().atom()

    def sum(self):
        """Terms; "transpose" is that of all before it in the same brackets."""
        total = None
        while True:
            sign = -1 if self.peek() == "-" else 1
            if self.peek() in ("+", "-"):
                self.take()
            outer, self.before = getattr(self, "before", None), total
            term = sign * self.scaled()
            self.before = outer
            total = term if total is None else total + term
            if self.peek() not in ("+", "-"):
                return total

    def entries(self, value):
        """A tensor at its stacks; a vector is a column."""
        if self.peek() == "[" and self.peek(1) in self.at:
            self.take()
            places = [self.at[self.take()]]
            while self.take() == ",":
                places.append(self.at[self.take()])
            value = value[tuple(places)]
        if np.ndim(value) == 0:
            return np.asarray(value).item()
        return value[:, None] if np.ndim(value) == 1 else value

    @staticmethod
    def is_one(value):
        return False


def read_closure(text, known, at, sizes, where=()):
    """`where`: definitions of symbols, each behind all that use it."""
    for row in reversed(where):
        name, _, right = row.partition(" = ")
        known = known | {name: read_closure(right, known, at, sizes)}
    reader = ClosureReader(
        text, {"i": np.array(1j), "I": np.eye(sizes["d"]), **known}, dict(at), sizes
    )
    value = reader.sum()
    assert not reader.peek(), reader.tokens[reader.place :]
    return value

"""Reads the text of an equation back and evaluates it on arrays.

Shares nothing with what wrote it: a recursive descent over the words that a reader sees.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

TOKEN = re.compile(r"\s*(sum_\{[^}]*\}|\d+|[A-Za-z]\w*'?|\*\*|<->|->|\^T|\^\d+|[-+*/()\[\],|])")


@dataclass
class Entries:
    """Entries of an array by the names of its indices."""

    array: np.ndarray
    names: tuple[str, ...]

    def at(self, names):
        """The same entries over more names."""
        order = [self.names.index(n) for n in names if n in self.names]
        shape = iter(self.array.transpose(order).shape)
        return self.array.transpose(order).reshape(
            [next(shape) if n in self.names else 1 for n in names]
        )


def together(one, two, rule):
    if not isinstance(one, Entries) and not isinstance(two, Entries):
        return rule(one, two)
    one, two = (x if isinstance(x, Entries) else Entries(np.asarray(x), ()) for x in (one, two))
    names = tuple(dict.fromkeys((*one.names, *two.names)))
    return Entries(rule(one.at(names), two.at(names)), names)


class Reader:
    """`known`: arrays, vectors and numbers by name; a vector is a column."""

    def __init__(self, text, known, size):
        self.tokens = TOKEN.findall(text.replace("E|h||h|", "Ehh"))
        assert "".join(self.tokens) == re.sub(r"\s", "", text.replace("E|h||h|", "Ehh")), text
        self.known, self.size, self.place = known, size, 0

    def peek(self, ahead=0):
        place = self.place + ahead
        return self.tokens[place] if place < len(self.tokens) else ""

    def take(self, wanted=None):
        token = self.peek()
        assert wanted is None or token == wanted, (token, wanted, self.tokens[self.place :][:9])
        self.place += 1
        return token

    def sum(self):
        total, last = None, None
        while True:
            sign = -1 if self.peek() == "-" else 1
            if self.peek() in ("+", "-"):
                self.take()
            if self.is_exchange():
                term = self.exchanged(last)
            else:
                term = together(self.scaled(), sign, lambda x, y: x * y)
                last = term
            total = term if total is None else together(total, term, lambda x, y: x + y)
            if self.peek() not in ("+", "-"):
                return total

    def is_exchange(self):
        return self.peek() == "(" and self.peek(2) in ("<->", "->")

    def exchanged(self, term):
        goes = {}
        self.take("(")
        while True:
            cycle = [self.take()]
            while self.peek() in ("<->", "->"):
                arrow = self.take()
                cycle.append(self.take())
            if arrow == "<->":
                cycle.append(cycle[0])
            goes |= dict(zip(cycle[:-1], cycle[1:], strict=True))
            if self.take() == ")":
                return Entries(term.array, tuple(goes.get(n, n) for n in term.names))

    def scaled(self):
        """Factors and numbers: a * b, a / b, o the entrywise product."""
        value = self.product()
        while self.peek() in ("*", "/", "o"):
            if self.take() == "/":
                value = together(value, self.power(), lambda x, y: x / y)
            else:
                value = together(value, self.product(), lambda x, y: x * y)
        return value

    def product(self):
        """Juxtaposition: matrices are multiplied, entries too."""
        chain = [self.power()]
        while self.peek() not in ("", "+", "-", "*", "/", ")", "]", ",", "o", "**") and not (
            self.peek() == "|" and self.inside_norm
        ):
            chain.append(self.power())
        if len(chain) > 1:
            chain = [np.ones((self.size, 1)) if self.is_one(x) else x for x in chain]
        value = chain[0]
        for factor in chain[1:]:
            matrices = all(np.ndim(x) == 2 for x in (value, factor) if not isinstance(x, Entries))
            if matrices and not isinstance(value, Entries) and not isinstance(factor, Entries):
                value = value @ factor
                value = value.item() if value.shape == (1, 1) else value
            else:
                value = together(value, factor, lambda x, y: x * y)
        return value

    inside_norm = False

    @staticmethod
    def is_one(value):
        return isinstance(value, int) and value == 1

    def power(self):
        value = self.atom()
        while self.peek() == "**" or self.peek().startswith("^"):
            token = self.take()
            if token == "^T":
                value = np.ones((1, self.size)) if self.is_one(value) else value.T
            else:
                if token == "**":
                    power = self.take()
                    power = -int(self.take()) if power == "-" else int(power)
                else:
                    power = int(token[1:])
                value = together(value, power, lambda x, y: x**y)
        return value

    def atom(self):
        token = self.take()
        if token.isdigit():
            return int(token)
        if token.startswith("sum_"):
            bound = token[5:-1].split(",")
            inner = self.product()
            kept = tuple(n for n in inner.names if n not in bound)
            over = tuple(inner.names.index(n) for n in bound)
            total = inner.array.sum(over)
            return Entries(total, kept) if kept else float(total)
        if token in ("(", "["):
            value = self.sum()
            self.take({"(": ")", "[": "]"}[token])
            return self.entries(value)
        if token == "|":
            before, self.inside_norm = self.inside_norm, True
            value = self.sum()
            self.inside_norm = before
            self.take("|")
            assert self.take() == "^2"
            return float((value**2).sum())
        if self.peek() == "(" and token in FUNCTIONS:
            self.take("(")
            value = FUNCTIONS[token](self.sum())
            self.take(")")
            return value
        head, _, pair = token.partition("_")
        if isinstance(self.known.get(head), Operator):
            if self.peek() == "(":
                self.take("(")
                value = self.sum()
                self.take(")")
            else:
                value = self.atom()  # P_ab P_cd(...)
            return self.known[head].on(value, pair, self.known, self.size)
        return self.entries(self.known[token])

    def entries(self, value):
        if isinstance(value, Lifted):
            self.take("[")
            one, _, two = self.take(), self.take(","), self.take()
            self.take("]")
            # indices of the rest are apart from those of the definition
            rest = tuple(f"{n}'" for n in value.rest)
            if one == two:
                return Entries(np.moveaxis(np.diagonal(value.array), -1, 0), (one, *rest))
            return Entries(value.array, (one, two, *rest))
        if self.peek() != "[" or np.ndim(value) == 0 or isinstance(value, Entries):
            return value
        self.take("[")
        names = [self.take()]
        while self.take() == ",":
            names.append(self.take())
        if value.shape[-1] == 1 and value.ndim == 2 and len(names) == 1:
            value = value[:, 0]
        if len(set(names)) < len(names):
            value, names = np.diagonal(value), names[:1]
        return Entries(value, tuple(names))


@dataclass
class Operator:
    """What a definition P(Y) = ... or P_ab(Y) = ... says; `pair`: the indices in it."""

    given: str
    pair: str
    text: str

    def on(self, value, pair, known, size):
        bare = {n: v for n, v in known.items() if not isinstance(v, Operator)}
        if not self.pair:
            return _value(self.text, bare | {self.given: value}, size)
        rest = tuple(n for n in value.names if n not in pair)
        lifted = {self.given: Lifted(value.at((*pair, *rest)), rest)}
        found = _value(self.text, bare | lifted, size)
        moved = tuple(
            n[:-1] if n[-1] == "'" else dict(zip(self.pair, pair, strict=True))[n]
            for n in found.names
        )
        return Entries(found.array, moved)


@dataclass
class Lifted:
    """An array with two axes to be indexed, and others that keep their names."""

    array: np.ndarray
    rest: tuple[str, ...]


def _diag(value):
    return np.diag(value[:, 0]) if value.shape[1] == 1 else np.diagonal(value)[:, None]


FUNCTIONS = {"tr": np.trace, "diag": _diag, "sqrt": np.sqrt}


def read(lines, where, known, size):
    """The value of an equation's text; in `where` a name stands behind all that use it."""
    known = {"pi": np.pi, "I": np.eye(size), "delta": np.eye(size), **known}
    for row in reversed(where):
        left, _, right = row.partition(" = ")
        if found := re.fullmatch(r"(\w)(?:_(\w\w))?\((\w)\)", left):
            known[found[1]] = Operator(found[3], found[2] or "", right)
            continue
        name, _, slots = left.partition("[")
        value = _value(right, known, size)
        if slots:
            names = slots.rstrip("]").split(",")
            value = np.broadcast_to(value.at(names), (size,) * len(names))
            value = value[:, None] if len(names) == 1 else value  # a vector is a column
        known[name] = value
    return _value(" ".join(lines), known, size)


def _value(text, known, size):
    reader = Reader(text, known, size)
    value = reader.sum()
    assert not reader.peek(), reader.tokens[reader.place :]
    return value

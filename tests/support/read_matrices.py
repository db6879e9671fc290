"""Reads the text of a control problem's equation back and evaluates it on arrays.

Shares nothing with what wrote it: a recursive descent over the words that a reader sees.  Vectors
are columns; 1 beside a matrix is the vector of ones.
"""

from __future__ import annotations

import math
import re

import numpy as np

TOKEN = re.compile(
    r"\s*(\^\(o|\^T|\^-1|\^\(|\^\d+|\|_inf|\|_1|\|\^2|\d+|[A-Za-z]\w*'?|->|\*\*|[-+*/(),|])"
)
ONE, ROW = "the vector of ones", "its transpose"


class Loose(np.ndarray):
    """What has ones on one side: it takes the size of what it is added to."""


def loose(array):
    return np.atleast_2d(np.asarray(array, float)).view(Loose)


def number(value):
    """A number, or 1 that stands alone."""
    assert np.ndim(value) == 0 or isinstance(value, Loose) and value.shape == (1, 1)
    return float(np.ravel(value)[0])


def _erf(x):
    return np.vectorize(math.erf, otypes=[float])(x)


def _softmax(x):
    weight = np.exp(x - x.max(axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True)


def _diag(x):
    assert x.shape[1] == 1, x.shape
    return np.diag(x[:, 0])


def _trace(x):
    assert x.shape[0] == x.shape[1] and not isinstance(x, Loose)
    return float(np.trace(x))


FUNCTIONS = {
    "softmax": _softmax, "diag": _diag, "tr": _trace, "det": np.linalg.det, "erf": _erf,
    "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "tanh": np.tanh, "sin": np.sin, "cos": np.cos,
    "relu": lambda x: np.maximum(x, 0), "abs": np.abs, "sign": np.sign,
    "heaviside": lambda x: np.heaviside(x, 0), "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2, "silu": lambda x: x / (1 + np.exp(-x)),
    "max": np.maximum, "min": np.minimum, "tril": lambda x, k: np.tril(x, int(k)),
    "triu": lambda x, k: np.triu(x, int(k)),
}  # fmt: skip


class MatrixReader:
    """`known`: matrices, columns and numbers by name."""

    def __init__(self, text, known):
        self.tokens, self.known, self.place = TOKEN.findall(text), known, 0
        assert "".join(self.tokens) == re.sub(r"\s", "", text), text

    def peek(self, ahead=0):
        place = self.place + ahead
        return self.tokens[place] if place < len(self.tokens) else ""

    def take(self, wanted=None):
        token = self.peek()
        assert wanted is None or token == wanted, (token, wanted, self.tokens[self.place :][:9])
        self.place += 1
        return token

    def sum(self):
        total = None
        while True:
            sign = -1 if self.peek() == "-" else 1
            if self.peek() in ("+", "-"):
                self.take()
            term = sign * self.scaled()
            total = term if total is None else self.added(total, term)
            if self.peek() not in ("+", "-"):
                return total

    @staticmethod
    def added(one, two):
        if 0 in (np.ndim(one), np.ndim(two)):  # a number is added to numbers alone
            return number(one) + number(two)
        loosely = isinstance(one, Loose), isinstance(two, Loose)
        assert any(loosely) or one.shape == two.shape, (one.shape, two.shape)
        return one + two if all(loosely) else np.asarray(one + two)

    def scaled(self):
        value = self.product()
        while self.peek() in ("*", "/", "o"):
            sign = self.take()
            other = self.power() if sign == "/" else self.product()
            value, other = (1.0 if x is ONE else x for x in (value, other))
            if sign == "/" and isinstance(value, Loose) and value.shape == (1, 1):
                value = number(value)
            if sign == "o":
                exact = not isinstance(value, Loose) and not isinstance(other, Loose)
                ones = np.ndim(value) == 0 or np.ndim(other) == 0
                assert ones or not exact or value.shape == other.shape
                value = value * other
            else:
                assert np.ndim(other) == 0 or sign == "*" and np.ndim(value) == 0
                value = value / other if sign == "/" else value * other
        return loose(1.0) if value is ONE else value

    def product(self):
        chain = [self.power()]
        while re.match(r"[\w(|]", self.peek()) and self.peek() != "o" and not self.closes():
            chain.append(self.power())
        return self.multiplied(chain) if len(chain) > 1 else chain[0]

    inside_norm = False

    def closes(self):
        return self.inside_norm and self.peek().startswith("|")

    @staticmethod
    def multiplied(chain):
        number = 1.0
        for item in chain:
            if item is not ONE and item is not ROW and np.ndim(item) == 0:
                number = number * item
        chain = [x for x in chain if x is ONE or x is ROW or np.ndim(x)]
        k = 0
        while k < len(chain) - 1:  # sums along rows and columns
            left, right = chain[k], chain[k + 1]
            if left is ROW and right is not ROW and right is not ONE:
                chain[k : k + 2], k = [right.sum(0, keepdims=True)], max(k - 1, 0)
            elif right is ONE and left is not ROW and left is not ONE:
                chain[k : k + 2], k = [left.sum(1, keepdims=True)], max(k - 1, 0)
            elif left is not ROW and right is not ROW and left is not ONE and right is not ONE:
                assert left.shape[1] == right.shape[0], (left.shape, right.shape)
                chain[k : k + 2], k = [left @ right], max(k - 1, 0)
            else:
                k += 1
        if not chain:
            return number
        if all(x is ONE or x is ROW for x in chain):
            return loose(number)
        if chain[0] is ONE:
            (_, row) = chain
            assert row.shape[0] == 1
            return loose(number * row)
        if chain[-1] is ROW:
            (column, _) = chain
            assert column.shape[1] == 1
            return loose(number * column)
        (value,) = chain
        return number * (value.item() if value.shape == (1, 1) else value)

    def power(self):
        value = self.atom()
        while self.peek().startswith("^"):
            token = self.take()
            if token == "^T":
                value = ROW if value is ONE else value.T
            elif token == "^-1":
                value = np.linalg.inv(value)
            elif token in ("^(", "^(o"):
                assert (np.ndim(value) > 0) == (token == "^(o"), token
                value = value ** self.sum()
                self.take(")")
            else:
                assert np.ndim(value) == 0
                value = value ** int(token[1:])
        return value

    def atom(self):
        token = self.take()
        if token == "1" and self.peek() != "/" and self.tokens[self.place - 2] != "/":
            return ONE
        if token.isdigit():
            return float(token)
        if token == "(":
            before, self.inside_norm = self.inside_norm, False
            value = self.sum()
            self.inside_norm = before
            self.take(")")
            return value
        if token == "|":
            value, kind = self.normed()
            assert not isinstance(value, Loose)
            return {
                "|^2": lambda: float((value**2).sum()),
                "|_1": lambda: float(np.abs(value).sum()),
                "|_inf": lambda: float(np.abs(value).max()),
            }[kind]()
        if token.startswith("grad_"):
            return self.subgradient(int(token[5:]))
        if self.peek() == "(" and token in FUNCTIONS and token not in self.known:
            return self.called(token)
        return self.known[token]

    def normed(self):
        before, self.inside_norm = self.inside_norm, True
        value = self.sum()
        self.inside_norm = before
        return value, self.take()

    def called(self, name):
        before, self.inside_norm = self.inside_norm, False
        self.take("(")
        arguments = [self.sum()]
        while self.peek() == ",":
            self.take()
            arguments.append(self.sum())
        self.take(")")
        self.inside_norm = before
        return FUNCTIONS[name](*arguments)

    def subgradient(self, position):
        """Of the largest absolute value by the array at a position, shared where it is not one."""
        arrays, several = [], self.peek() == "max"
        if several:
            self.take(), self.take("(")
        while True:
            self.take("|")
            value, kind = self.normed()
            assert kind == "|_inf"
            arrays.append(value)
            if self.peek() != ",":
                break
            self.take()
        if several:
            self.take(")")
        top = max(np.abs(a).max() for a in arrays)
        ties = sum((np.abs(a) == top).sum() for a in arrays)
        own = arrays[position - 1]
        return np.sign(own) * (np.abs(own) == top) / ties


def read_matrices(right, where, known):
    """The value of a right side; a definition uses what stands behind it alone."""
    known = {n: np.reshape(a, (-1, 1)) if np.ndim(a) == 1 else a for n, a in known.items()}
    known = {"pi": math.pi, **known}
    for row in reversed(where):
        name, _, words = row.partition(" = ")
        assert name not in known, name
        known[name] = _value(words, known)
    return _value(" ".join(right), known)


def _value(text, known):
    reader = MatrixReader(text, known)
    value = reader.sum()
    assert not reader.peek(), reader.tokens[reader.place :]
    return value

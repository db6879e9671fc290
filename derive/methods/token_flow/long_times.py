"""Tokens of the text in space over long times: M and S measured, systems integrated.

Input: a definition.  M is the velocity of the text's tokens at one point, S the mixed difference
of the logarithm of the weights that it normalises; the calculus takes no part.  The text itself
overflows where scores do, so that the way is that of M and S, with weights as they are kept finite.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from derive.methods.token_flow.instances import FlowInstance, at_tokens, instance, text_velocity
from derive.notation.closures.numeric import Cloud, weights_of_averages
from derive.notation.flows.model import FlowDefinition

DRAWS = 96  # of parameters, until one has the spectrum that is looked for
TOLERANCE = 1e-6  # of a step


def text_frame(one: FlowInstance) -> np.ndarray:
    """M (d, d), column by column."""
    d = one.x.shape[1]
    units = [np.tile(e, (len(one.x), 1)) for e in np.eye(d)]
    return np.stack([text_velocity(at_tokens(one, x))[0] for x in units], axis=1)


def text_score(one: FlowInstance) -> np.ndarray:
    """S (d, d): log w(e_i, e_j) - log w(e_i, 0) - log w(0, e_j) + log w(0, 0)."""
    d = one.x.shape[1]
    logs = np.log(text_weights(at_tokens(one, np.eye(d + 1, d), np.ones(d + 1))))
    return np.asarray((logs - logs[:, -1:] - logs[-1:] + logs[-1, -1])[:d, :d])


def text_weights(one: FlowInstance) -> np.ndarray:
    """What the text's one average normalises, (n, n), with the masses of the keys."""
    clouds = (Cloud(one.x, one.mass),) * 2
    (found,) = weights_of_averages(one.model, *clouds, arrays=one.arrays, params=one.params)
    return np.asarray(np.broadcast_to(found, (len(one.x),) * 2) * one.mass)


@dataclass(frozen=True)
class Measured:
    """Tokens and parameters, and the text's M and S there."""

    one: FlowInstance
    M: np.ndarray
    S: np.ndarray


@dataclass(frozen=True)
class Led(Measured):
    """M has a leading eigenvalue: `across` (k, d), its left eigenvectors; `form`: S among them."""

    eigenvalue: float
    along: np.ndarray
    across: np.ndarray

    @property
    def form(self) -> np.ndarray:
        return np.asarray(self.along.T @ self.S @ self.along)

    @property
    def coordinates(self) -> np.ndarray:
        return np.asarray(self.one.x @ self.across.T)


def led(found: Measured) -> Led | None:
    """If M has one, real, semisimple, and twice as large as the modulus of all others."""
    values, right = np.linalg.eig(found.M)
    top = float(np.max(values.real))
    same = np.abs(values - top) < 1e-9 * abs(top)
    if top <= 0 or np.any(2 * np.abs(values[~same]) > top):
        return None
    along = right[:, same].real
    if np.linalg.matrix_rank(along, 1e-6) < same.sum():
        return None
    across = np.linalg.inv(right)[same].real
    return Led(found.one, found.M, found.S, top, along, across)


class Starts:
    """Tokens of equal mass with matrices that are +-1, then with drawn parameters, by dimension."""

    def __init__(self, model: FlowDefinition, tokens: int = 7) -> None:
        self.model, self.tokens = model, tokens
        self._known: dict[int, list[Measured]] = {}
        self._left: dict[int, Iterator[FlowInstance]] = {}

    def of(self, d: int) -> Iterator[Measured]:
        """One by one; measured when they are asked for, once."""
        known = self._known.setdefault(d, [])
        left = self._left.setdefault(d, itertools.chain(self._units(d), self._drawn(d)))
        for place in itertools.count():
            if place == len(known):
                one = next(left, None)
                if one is None:
                    return
                known.append(Measured(one, text_frame(one), text_score(one)))
            yield known[place]

    def first_led(self, d: int, wanted: Callable[[Led], bool]) -> Led | None:
        """The first that is led and is wanted."""
        found = (led(m) for m in self.of(d))
        return next((f for f in found if f is not None and wanted(f)), None)

    def _drawn(self, d: int) -> Iterator[FlowInstance]:
        for seed in range(DRAWS if self.model.matrices else DRAWS // 8):
            one = instance(self.model, 300 + seed, self.tokens, d, equal=True)
            turned = {
                p.name: -one.params[p.name]  # in turn, where the other sign is in range too
                for place, p in enumerate(self.model.params)
                if seed >> place & 1 and -one.params[p.name] in p.range
            }
            yield replace(one, params=one.params | turned)

    def _units(self, d: int) -> Iterator[FlowInstance]:
        size = {s.name: d for m in self.model.matrices for s in m.shape}
        one = instance(self.model, 299, self.tokens, d, equal=True, given=size)
        square = [n for n, a in one.arrays.items() if a.shape == (d, d)]
        for signs in itertools.product((1.0, -1.0), repeat=len(square) if d > 1 else 0):
            units = {name: s * np.eye(d) for name, s in zip(square, signs, strict=False)}
            yield replace(one, arrays=one.arrays | units)


def shares(x: np.ndarray, S: np.ndarray) -> np.ndarray:
    """Softmax of x_a^T S x_b over b."""
    scores = x @ S @ x.T
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def later(x: np.ndarray, M: np.ndarray, S: np.ndarray, time: float) -> np.ndarray:
    """Tokens at the time, by steps of order three whose error is controlled."""

    def rate(y: np.ndarray) -> np.ndarray:
        return shares(y, S) @ y @ M.T

    t, h, one = 0.0, 0.01 / float(np.linalg.norm(M, 2)), rate(x)
    while t < time:
        h = min(h, time - t)
        two = rate(x + h / 2 * one)
        three = rate(x + 0.75 * h * two)
        new = x + h / 9 * (2 * one + 3 * two + 4 * three)
        four = rate(new)
        error = h / 72 * np.abs(6 * two + 8 * three - 5 * one - 9 * four)
        ratio = float(np.max(error)) / (TOLERANCE * float(np.max(np.abs(new))))
        if ratio <= 1:
            t, x, one = t + h, new, four
        h *= min(4.0, max(0.2, 0.9 * (ratio + 1e-12) ** (-1 / 3)))
    return x

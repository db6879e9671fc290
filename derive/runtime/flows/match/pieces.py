"""The pieces of a plan: parameters that stay for a time, and what they do to which law."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from derive.runtime.flows.match.carrying import Hop
from derive.runtime.flows.match.laws import Laws
from derive.runtime.flows.match.moving import advance
from derive.runtime.flows.specification import FlowModel


class Closed(Exception):
    """A pull that does not take all tokens there."""


class Piece(NamedTuple):
    """`kind`: "split" and "unsplit" act on all tokens of a law alike, "pull" and "push"
    (its reverse) on a cap alone.

    `params`: the model's parameters.  `duration`: how long.  `law`: whose piece it is, -1 for all.
    `words`: what it is for.
    """

    kind: str
    params: Any
    duration: float
    law: int
    words: str


class Run:
    """Laws on their way, and the pieces that have moved them so far.

    A piece that would take longer than `longest` is as much stronger as it is shorter.
    """

    def __init__(self, spec: FlowModel, laws: Laws, longest: float = np.inf) -> None:
        self.spec, self.laws, self.longest = spec, laws, longest
        self.pieces: list[Piece] = []
        self.owed = 0.0  # largest mass that an atom got too little or too much of
        self.restored = 0.0  # largest distance of a token that a split backwards left off

    def split(self, a: np.ndarray, c: float, t: float, law: int, words: str, sign: int = 1) -> None:
        """x' = sign (<m, a> - c) P_x a for a time t."""
        spec = self.spec
        assert spec.split is not None and spec.reversed_piece is not None
        params = spec.split(a, c)
        if sign < 0:
            params = spec.reversed_piece(params)
        self._go("split" if sign > 0 else "unsplit", params, t, law, words)

    def pull(
        self,
        end: np.ndarray,
        gate: tuple[np.ndarray, float],
        t: float,
        law: int,
        words: str,
        sign: int = 1,
    ) -> None:
        """x' = sign relu(<z, x> - h) P_x end for a time t, (z, h) the gate."""
        spec = self.spec
        assert spec.pull is not None and spec.reversed_piece is not None
        params = spec.pull(end, *gate)
        if sign < 0:
            params = spec.reversed_piece(params)
        self._go("pull" if sign > 0 else "push", params, t, law, words)

    def gather(
        self,
        tokens: np.ndarray,
        end: np.ndarray,
        gate: tuple[np.ndarray, float],
        radius: float,
        law: int,
        words: str,
    ) -> None:
        """Pull until all of `tokens` (n, d), which the gate is open on, are that near to `end`."""
        self.pull(end, gate, longest(self.spec, tokens, end, gate, radius), law, words)

    def pass_to(self, here: np.ndarray, end: np.ndarray, hop: Hop, law: int, words: str) -> None:
        """Pull a law at `here` towards `end` until it is where the hop ends, on the way there."""
        assert self.spec.pull_time is not None
        first, last = (np.arctanh(float(p @ end)) for p in (here, hop.to))
        k, g, s = float(hop.z @ end), float(hop.z @ here), float(here @ end)
        constant = (g - k * s) / np.sqrt(1 - s * s)
        t = float(np.max(self.spec.pull_time(first, last, k, constant, hop.h)))
        self.pull(end, (hop.z, hop.h), t, law, words)

    def _go(self, kind: str, params: Any, t: float, law: int, words: str) -> None:
        strength = max(1.0, t / self.longest)
        piece = Piece(kind, scaled(self.spec, params, strength), t / strength, law, words)
        self.laws = advance(self.spec, self.laws, piece.params, piece.duration)
        self.pieces.append(piece)


def longest(
    spec: FlowModel,
    tokens: np.ndarray,
    end: np.ndarray,
    gate: tuple[np.ndarray, float],
    radius: float,
) -> float:
    """The time after which a pull has all of `tokens` (n, d) within `radius` of `end`.

    u = artanh <x, end> grows at the gate's rate k tanh u + C / cosh u - h, in closed form.
    """
    assert spec.pull_time is not None
    z, h = gate
    s, g, k = tokens @ end, tokens @ z, float(z @ end)
    across = np.linalg.norm(tokens - s[:, None] * end, axis=1)
    far = across > radius
    if not far.any() and np.all(s > 0):
        return 0.0
    s, g, across = s[far], g[far], across[far]
    # atanh s by the distance from the axis, which keeps its digits at the poles
    first, last = np.sign(s) * np.arcsinh(np.abs(s) / across), np.log(2 / radius)
    time = float(np.max(spec.pull_time(first, last, k, (g - k * s) / across, h)))
    if not np.isfinite(time):
        raise Closed("a gate is closed on a token's way")
    return time


def scaled(spec: FlowModel, params: Any, factor: float) -> Any:
    """Parameters of `factor` times the velocity, by those arrays that `reversed_piece` turns."""
    if factor == 1:
        return params
    assert spec.reversed_piece is not None
    turned = spec.reversed_piece(params)
    return type(params)(
        *(
            np.asarray(p) * (factor if np.any(np.asarray(q) != np.asarray(p)) else 1)
            for p, q in zip(params, turned, strict=True)
        )
    )

"""What is said of orders in the width, compared with exact moments and with layers that are drawn.

Input: the words of a finding, a block's trace and its exact moments.  Output: `Check`s.  Exponents
are read off the words and measured: of exact moments at two huge widths, of the graph (equal to
the text, see the first step) at literal widths, the same weights on both sides of a comparison.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import sympy as sp

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import UNIT
from derive.calculus.limit.order import Law
from derive.calculus.limit.scaling import ratio
from derive.draws import generator
from derive.methods.common import parameters
from derive.methods.common.record import Check
from derive.methods.covariance_sde import instances
from derive.methods.covariance_sde.powers import power
from derive.notation.common.graph import value
from derive.notation.common.scalars import Param, number, size
from derive.notation.layers.model import Trace

_SEED = 4021
WIDTHS = (16, 64, 256)
# finer powers than a tenth do not occur: clocks and branches are scaled by 1/2, 1/3, 1/4, ...
_NEAR = 0.05
_DRAWS = 48


@dataclass(frozen=True)
class BlockMoments:
    """The exact mean and covariance of one increment times the layers in a unit of time."""

    law: Law
    drift: Expression
    diffusion: Expression

    def at(self, digits: float, changes: dict[sp.Symbol, float]) -> tuple[np.ndarray, np.ndarray]:
        """Both at the width 10^digits, at a generic covariance of two tokens."""
        rng = generator(_SEED)
        law, both = self.law, (self.drift, self.diffusion)
        values = instances.generic(law, both, rng)
        for dim in (law.scaling.width, *law.scaling.proportional):
            values[dim] = 10.0**digits * values.get(ratio(dim), 1.0)
        root = rng.standard_normal((2, 3))
        if law.gram.meaning == UNIT:
            root /= np.linalg.norm(root, axis=1, keepdims=True)
        V = root @ root.T
        drift, diffusion = (evaluate(e, {"V": V}, values | changes) for e in both)
        return drift, diffusion


def clock(words: str, moments: BlockMoments) -> Check:
    """Orders of one layer's mean and fluctuation, as the words say them, at widths up to 1e16."""
    law = moments.law
    width, pace = law.scaling.width, float(law.scaling.pace)
    digits = (12 / pace, 16 / pace) if pace > 1 else (12.0, 16.0)
    sizes = []
    for d in digits:
        drift, diffusion = moments.at(d, {})
        sizes.append((np.max(np.abs(drift)), np.sqrt(np.max(np.abs(diffusion)))))
    span = digits[1] - digits[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, spread = np.diff(np.log10(np.array(sizes)), axis=0)[0] / span
    # per unit of time to per layer; what vanishes is of every order
    mean = mean - pace if sizes[1][0] > 0 else -np.inf
    spread = spread - pace / 2 if sizes[1][1] > 0 else -np.inf
    moved, said_mean = (float(e) for e in exponents(words, width))
    noisy = "an SDE" in words
    worst = max(mean - said_mean, spread + pace / 2)
    if noisy:  # the noise counts
        worst = max(worst, abs(spread - moved))
    else:
        worst = max(worst, abs(mean - said_mean), abs(max(mean, spread) - moved))
        worst = max(worst, 2 * _NEAR if spread > -pace / 2 - _NEAR else 0.0)
    if words.partition("clock depth / ")[2] != power(width, law.scaling.pace):
        worst = np.inf
    return Check(
        f"exponents of the exact moments at widths 1e{digits[0]:g} and 1e{digits[1]:g}",
        float(max(worst, 0.0)),
        _NEAR,
    )


def exponents(words: str, width: sp.Symbol) -> list[Fraction]:
    """Every order that the words name, as a power of the width."""
    n = re.escape(str(width))
    out = []
    for found in re.finditer(rf"order (1/{n}\b|{n}\^\(([^)]*)\)|{n}\^(\d+)|{n}\b|one\b)", words):
        whole, inside, plain = found.groups()
        if inside or plain:
            out.append(Fraction(inside or plain))
        else:
            out.append(Fraction({"1": -1, "o": 0}.get(whole[0], 1) if whole != str(width) else 1))
    return out


def independent(symbol: sp.Symbol, moments: BlockMoments) -> Check:
    """The exact moments at a huge width and different values of what is said to drop out."""
    digits = 16.0 if moments.law.scaling.pace == 1 else 18 / float(moments.law.scaling.pace)
    if isinstance(symbol, Param):
        rng = generator(_SEED + 1)
        values = [parameters.sample(symbol, rng) for _ in range(3)]
    else:  # a dimension: held, or growing with the width
        values = [1.0, 7.0, 10.0**digits]
    found = [moments.at(digits, {symbol: v}) for v in values]
    worst = 0.0
    for drift, diffusion in found[1:]:
        for one, first in ((drift, found[0][0]), (diffusion, found[0][1])):
            scale = max(float(np.max(np.abs(first))), 1e-3)
            worst = max(worst, float(np.max(np.abs(one - first))) / scale)
    # what is left over may be as large as n^(-1/4)
    tolerance = 1e-6 if moments.law.scaling.pace == 1 else 1e-2
    return Check(f"exact moments at width 1e{digits:g} and three values of it", worst, tolerance)


def quiet_parameter(symbol: Param, traced: Trace, law: Law) -> Check:
    """One layer at two values of a parameter, the same weights: less apart than the noise."""
    rng = generator(_SEED + 2)
    low, high = (parameters.sample(symbol, rng) for _ in range(2))
    return _falling(
        traced, law, lambda draw: (draw({symbol: low}, ()), draw({symbol: high}, ())), "two values"
    )


def same_in_law(symbol: Param, traced: Trace, law: Law) -> Check:
    """E |V' - V|^2 at two values of a parameter, over draws: apart by their noise alone.

    Beyond five standard errors, one false alarm in a million.
    """
    rng = generator(_SEED + 2)
    low, high = (parameters.sample(symbol, rng) for _ in range(2))
    draw = Draws(traced, law, WIDTHS[1], 8 * _DRAWS)
    one, other = (np.sum(np.square(draw({symbol: v}, ())), axis=(-2, -1)) for v in (low, high))
    gap = one - other
    off = abs(float(np.mean(gap))) - 5 * float(np.std(gap)) / np.sqrt(len(gap))
    # what is left over at width 64 is allowed a third
    return Check("second moment of a layer drawn at two values", max(off, 0.0) / one.mean(), 0.3)


def quiet_weight(name: str, traced: Trace, law: Law) -> Check:
    """One layer with one weight drawn anew: it moves V by less than the noise of the clock."""
    return _falling(traced, law, lambda draw: (draw({}, ()), draw({}, (name,))), "two draws")


def quiet_layer(traced: Trace, law: Law) -> Check:
    """One layer moves V by less than the noise of the clock."""
    return _falling(traced, law, lambda draw: (draw({}, ()), 0.0), "one layer")


def _falling(traced: Trace, law: Law, pair, what: str) -> Check:  # type: ignore[no-untyped-def]
    """width^(pace / 2) times the root mean square of a difference, and by which power it falls."""
    sizes = []
    for width in WIDTHS:
        draw = Draws(traced, law, width)
        left, right = pair(draw)
        sizes.append(float(np.sqrt(np.mean(np.square(left - right)))))
    if max(sizes) < 1e-13:
        return Check(f"{what}: no difference at all", 0.0, _NEAR)
    slope = float(np.polyfit(np.log(WIDTHS), np.log(sizes), 1)[0]) + float(law.scaling.pace) / 2
    return Check(
        f"{what} at widths {WIDTHS[0]} to {WIDTHS[-1]}: exponent beside that of the noise, + 0.15",
        max(slope + 0.15, 0.0),
        _NEAR,
    )


class Draws:
    """Increments of one block at a literal width, for weights that are drawn once."""

    def __init__(self, traced: Trace, law: Law, width: int, draws: int = _DRAWS) -> None:
        self.traced, self.law = traced, law
        rng = generator(_SEED, width)
        self.values = instances.numbers(traced.model, generator(_SEED + 3))
        for dim in (law.scaling.width, *law.scaling.proportional):
            self.values[dim] = float(width)
        token, own = law.state.dims
        self.values[token] = 2.0
        instances.divisible(traced, self.values)
        columns = size(own, self.values)
        root = np.array([[1.1, 0.3], [0.2, 0.8]])
        if law.gram.meaning == UNIT:
            root /= np.linalg.norm(root, axis=1, keepdims=True)
        frame = np.linalg.qr(rng.standard_normal((columns, 2)))[0].T
        weight = number(sp.sympify(law.gram_weight), self.values)
        self.weight, self.gram = weight, root @ root.T
        self.state = np.sqrt(weight) * root @ frame
        count = max(12, draws * 16 // width) if columns > 64 else draws
        self.weights = {
            n: rng.standard_normal((count, *(size(d, self.values) for d in a.shape)))
            for n, a in traced.weights
        }
        self.rng = rng

    def __call__(self, changes: dict[sp.Symbol, float], anew: tuple[str, ...]) -> np.ndarray:
        """V' - V of every draw, some symbols changed and some weights drawn anew."""
        leaves = {self.traced.state: self.state}
        for name, array in self.traced.weights:
            drawn = self.weights[name]
            leaves[array] = self.rng.standard_normal(drawn.shape) if name in anew else drawn
        out = value(self.traced.output, leaves, self.values | changes)
        out = np.broadcast_to(out, (*out.shape[:-2], *self.state.shape))
        return out @ out.swapaxes(-1, -2) / self.weight - self.gram

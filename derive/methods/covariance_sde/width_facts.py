"""What may be said in words of the expansion in the width, and the check of each.

Input: words, a block's trace and the derived parts.  Output: `Fact`s.  A parity in sqrt(n) is tried
on the graph: every scalar of the layer with sqrt(n) -> -sqrt(n), the named weights with the other
sign, and the same new covariance.
"""

from __future__ import annotations

import re

import numpy as np
import sympy as sp

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression
from derive.calculus.limit.order import Law
from derive.draws import generator
from derive.methods.common.record import Check, Fact
from derive.methods.covariance_sde import instances
from derive.methods.covariance_sde.clock_checks import WIDTHS, Draws
from derive.methods.covariance_sde.facts import LIMITS_OF_DERIVE
from derive.notation.common.arrays import Array, walk
from derive.notation.common.graph import value
from derive.notation.common.scalars import GaussianMean, number
from derive.notation.layers.model import Trace

BY_SECOND_ROUTE = (
    "verify compares the coefficients of n^(-1/2) with a second route (L2), where there is one"
)


def parity(words: str, traced: Trace, law: Law) -> Fact:
    """Whether the layer is unchanged under sqrt(n) -> -sqrt(n) and other signs of some weights."""
    flipped = re.findall(r"(\w+) -> -\1", words.partition(" with ")[2])
    draw = Draws(traced, law, WIDTHS[0], 8)
    width = law.scaling.width
    scalars = [a for a in walk(traced.output) if a.op == "full"]
    if any(a.data.has(GaussianMean) for a in scalars):
        return Fact(words, "parity", None, "a normaliser's mean is no number with two roots of n")
    leaves: dict[Array, np.ndarray] = {traced.state: draw.state}
    leaves |= {a: draw.weights[n] for n, a in traced.weights}
    here = _new(traced, leaves, draw)
    for name, array in traced.weights:
        if name in flipped:
            leaves[array] = -leaves[array]
    for array in scalars:
        other = _other_root(array.data, width)
        if other != array.data:
            shape = [int(number(sp.sympify(s), draw.values)) for s in array.shape]
            leaves[array] = np.full(shape, number(other, draw.values))
    there = _new(traced, leaves, draw)
    off = float(np.max(np.abs(here - there)) / np.max(np.abs(here)))
    return Fact(words, "parity", Check("V' of the graph with the other root of n", off, 1e-10))


def _other_root(scalar: sp.Expr, width: sp.Symbol) -> sp.Expr:
    """sqrt(width) -> -sqrt(width)."""

    def root(p: sp.Pow) -> bool:
        return p.base == width and p.exp.is_Rational and p.exp.q == 2

    found = {p: -p for p in scalar.atoms(sp.Pow) if root(p)}
    # products such as sqrt(n n_k) hold the root as well
    expanded = sp.expand_power_base(scalar, force=True)
    found |= {p: -p for p in expanded.atoms(sp.Pow) if root(p)}
    return expanded.xreplace(found)


def _new(traced: Trace, leaves: dict[Array, np.ndarray], draw: Draws) -> np.ndarray:
    out = value(traced.output, leaves, draw.values)
    out = np.broadcast_to(out, (*out.shape[:-2], *draw.state.shape))
    return np.asarray(out @ out.swapaxes(-1, -2) / draw.weight)


def finding(words: str) -> Fact:
    """One part of L_1, where no parity of the whole layer decides."""
    return Fact(words, "L_1", None, BY_SECOND_ROUTE)


def information(words: str) -> Fact:
    return Fact(words, "reach", None, LIMITS_OF_DERIVE)


def enters(words: str, law: Law, moments: tuple[Expression | None, ...]) -> Fact:
    """A dimension on which the parts of order 1/n depend, in numbers."""
    name = words.partition(" ")[0]
    parts = tuple(e for e in moments if e is not None)
    values = instances.generic(law, parts, generator(77))
    (symbol,) = [d for d in law.scaling.free if d.name == name]
    V = np.array([[1.3, 0.4], [0.4, 0.9]])
    apart = 0.0
    for part in parts:
        low, high = (evaluate(part, {"V": V}, values | {symbol: v}) for v in (1.0, 4.0))
        apart = max(apart, float(np.max(np.abs(high - low)) / max(np.max(np.abs(low)), 1e-300)))
    what = "the parts of order 1/n at two values of it (1e-6 / difference)"
    return Fact(words, "enters", Check(what, 1e-6 / max(apart, 1e-300), 1.0))


def weak_error(words: str, parts: tuple[Expression, ...], facts: tuple[Fact, ...]) -> Fact:
    """L_1 = 0 or not: by the parity of every block, else by what the parts are in numbers."""
    whole = [f.check for f in facts if f.kind == "parity" and f.check is not None]
    if words.startswith("L_1 = 0"):
        if whole and not any(f.kind == "L_1" for f in facts):
            worst = max(whole, key=lambda c: c.residual)
            return Fact(words, "L_1", Check(worst.what, worst.residual, worst.tolerance))
        return Fact(words, "L_1", None, BY_SECOND_ROUTE)
    V = np.array([[1.3, 0.4], [0.4, 0.9]])
    symbols = instances.symbols_of(parts) | {i.dim for e in parts for i in e.free}
    rng = generator(78)
    values = {s: float(rng.uniform(0.4, 0.9)) for s in sorted(symbols, key=str)}
    values |= {i.dim: 2.0 for e in parts for i in e.free}
    size = max(float(np.max(np.abs(evaluate(e, {"V": V}, values)))) for e in parts)
    return Fact(
        words, "L_1", Check("L_1 at a covariance (1e-9 / size)", 1e-9 / max(size, 1e-300), 1)
    )

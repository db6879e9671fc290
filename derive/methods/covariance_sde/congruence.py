"""A step that keeps V positive semi-definite, built from drift and noise alone.

Input: drift b and noise map N of an SDE.  Output: U, D and J with

    V' = (L + sqrt(h) U + h D) (L + sqrt(h) U + h D)^T + h J,      L L^T = V.

U is linear in the normals with U L^T + L U^T = N; D and J hold what is left of the drift once
E[U U^T], which the square brings with it, is taken off: b - E[U U^T] = D L^T + L D^T + J.  So the
mean of a step is V + b h + O(h^2), its covariance that of N times h + O(h^2); nothing is inverted,
and V' >= 0 wherever J >= 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from derive.calculus.gaussian.expectation import contract_gram, expectation
from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import UNIT, Factors, Index, Tensor
from derive.calculus.limit.order import Law
from derive.draws import generator
from derive.errors import Refusal
from derive.methods.common.record import Check, Step
from derive.methods.covariance_sde.fields import NoiseMap, written_out
from derive.methods.covariance_sde.instances import symbols_of
from derive.methods.covariance_sde.project import RowScaling
from derive.notation.common.scalars import Param

HALF = sp.Rational(1, 2)


@dataclass(frozen=True)
class Congruence:
    """`push` U and `pull` D, free (a, q), in L, V and the normals; `lift` J, free (a, b), in V."""

    push: Expression
    pull: Expression
    lift: Expression
    noise: NoiseMap
    scaling: RowScaling | None = None  # rows are scaled after the step
    blocks: tuple[str, ...] = ()  # iid normals that a step draws beside those of the noise

    def mean(self) -> Expression:
        """E[U U^T] + D L^T + L D^T + J: the drift, if the step is consistent."""
        factor, gram = self.noise.factor, self.noise.gram
        pull = _times_factor(self.pull, factor, gram)
        return _square_mean(self.push, self.noise) + pull + _flipped(pull) + self.lift


def congruence(
    drift: Expression, noise: NoiseMap, law: Law, scaling: RowScaling | None = None
) -> Congruence:
    """The step; raises `Refusal` if the noise is not of the form U L^T + L U^T."""
    q = Index("q", drift.free[0].dim)
    push = root_of_noise(noise, ("field", "covariance"))
    rest = drift - _square_mean(push, noise)
    own: list[tuple[sp.Expr, Factors]] = []
    lift: list[tuple[sp.Expr, Factors]] = []
    for coefficient, factors in _halves(rest, ("covariance",), symmetric=lift):
        own.append((coefficient, factors))
    pull = _strip(collect(drift.free, own), q, noise)
    return Congruence(push, pull, collect(drift.free, lift), noise, scaling)


def root_of_noise(noise: NoiseMap, order: tuple[str, ...]) -> Expression:
    """U, free (a, q), with U L^T + L U^T = N; the leg is taken off the last kind of `order` first.

    Off V: E[U U^T] is the part of the drift that the mixing brings.  Off a field, "field" last:
    fewer products of matrices.
    """
    a, _ = noise.compact.free
    q = Index("q", a.dim)
    out = collect((a, q), [])
    for coefficient, factors in _halves(noise.compact, order):
        product = collect(noise.compact.free, [(coefficient, factors)])
        product = written_out(product, noise.fields)
        out = out + _strip(product, q, noise)
    return out


def _halves(  # type: ignore[no-untyped-def]
    whole: Expression, order: tuple[str, ...], symmetric: list[Any] | None = None
):
    """Terms T with T + T^T = whole, the last leg of each on a tensor of the kind that stands
    last in `order` where that can be had.

    Terms of which neither leg can be taken off go to `symmetric` whole.
    """
    a, b = whole.free
    place = {f: p for p, (_, f) in enumerate(whole.terms)}
    done: set[int] = set()
    for position, (coefficient, factors) in enumerate(whole.terms):
        if position in done:
            continue
        swapped = collect(
            whole.free, [(sp.Integer(1), tuple(f.rename({a: b, b: a}) for f in factors))]
        ).terms[0][1]
        partner = place[swapped]
        done |= {position, partner}
        ends = [_grip(factors, b, order), _grip(swapped, b, order)]
        if symmetric is not None and not max(ends):
            symmetric += [(coefficient, factors)] + (
                [(coefficient, swapped)] if partner != position else []
            )
        elif partner == position:
            yield coefficient * HALF, factors
        elif ends[0] == ends[1]:
            yield coefficient * HALF, factors
            yield coefficient * HALF, swapped
        else:
            yield coefficient, factors if ends[0] > ends[1] else swapped


def _grip(factors: Factors, leg: Index, order: tuple[str, ...]) -> int:
    """0: the leg cannot be taken off; else the place in `order` of the one kind it sits on."""
    holding = [f for f in factors if leg in f.indices]
    if len(holding) != 1 or holding[0].indices.count(leg) != 1:
        return 0
    kind = holding[0].tensor.kind
    return order.index(kind) + 1 if kind in order else 0


def _strip(expression: Expression, q: Index, noise: NoiseMap) -> Expression:
    """T with T L^T = expression: the last leg is taken off L, or off V = L L^T."""
    a, b = expression.free
    products = []
    for coefficient, factors in expression.terms:
        (held,) = [f for f in factors if b in f.indices]
        rest = tuple(f for f in factors if f is not held)
        other = held.indices[0] if held.indices[1] == b else held.indices[1]
        if held.tensor == noise.gram:
            products.append((coefficient, (*rest, noise.factor[other, q])))
        elif held.tensor == noise.factor and held.indices[0] == b:
            products.append((coefficient, tuple(f.rename({other: q}) for f in rest)))
        else:
            raise Refusal(f"the noise ends on {held.tensor.name}, which is no factor of V")
    return collect((a, q), products)


def _times_factor(expression: Expression, factor: Tensor, gram: Tensor) -> Expression:
    a, q = expression.free
    b = Index("b", a.dim)
    product = expression * collect((b, q), [(sp.Integer(1), (factor[b, q],))])
    return collect((a, b), contract_gram(product.summed(q), factor, gram, sp.Integer(1)).terms)


def _square_mean(push: Expression, noise: NoiseMap) -> Expression:
    a, q = push.free
    b = Index("b", a.dim)
    product = (push * push.renamed({a: b})).summed(q)
    averaged = expectation(product, tuple(f.drawn for f in noise.fields))
    return contract_gram(averaged, noise.factor, noise.gram, sp.Integer(1))


def _flipped(expression: Expression) -> Expression:
    a, b = expression.free
    return collect((a, b), expression.renamed({a: b, b: a}).terms)


def step_record(step: Congruence, drift: Expression) -> Step:
    """The record: mean of the step against the drift, and J >= 0 where J is there."""
    left = step.mean() - drift
    if not left.is_zero:
        raise Refusal(f"the mean of the step misses the drift by {len(left.terms)} terms")
    return Step(
        "shape the step",
        "V' = (L + sqrt(h) U + h D)(L + sqrt(h) U + h D)^T + h J: mean V + b h and covariance "
        "Sigma h to o(h), 0 terms left; V' >= 0 because J >= 0",
        {"U": step.push, "D": step.pull, "J": step.lift},
        (),
        Check("least eigenvalue of J on random V, singular ones too", _negative(step), 1e-10),
    )


def _negative(step: Congruence) -> float:
    """How negative J gets, relative to its size, over random covariances."""
    rng = generator(20239)
    worst = 0.0
    dim = step.noise.gram.dims[0]
    symbols = symbols_of((step.lift,))
    for trial in range(24):
        m = 2 + trial % 4
        root = rng.standard_normal((m, 1 + trial % (m + 1))) * np.exp(rng.normal(0, 1, (m, 1)))
        numbers = {s: _value(s, rng) for s in sorted(symbols, key=str)} | {dim: float(m)}
        V = root @ root.T
        if step.noise.gram.meaning == UNIT:
            size = np.sqrt(np.diag(V))
            V = V / np.outer(size, size)
        # terms may cancel to zero (equal tokens): what is left of them is rounding
        parts = [collect(step.lift.free, [t]) for t in step.lift.terms]
        terms = [evaluate(p, {step.noise.gram.name: V}, numbers) for p in parts]
        least = 1e-3 * sum(float(np.abs(t).max()) for t in terms)
        values = np.linalg.eigvalsh(np.sum([np.zeros_like(V), *terms], axis=0))
        worst = max(worst, -values[0] / max(abs(values[-1]), least, 1e-300))
    return max(worst, 0.0)


def _value(symbol: sp.Symbol, rng: np.random.Generator) -> float:
    if not isinstance(symbol, Param):
        return float(rng.integers(6, 12))  # a width, at least the number of tokens
    low, high = symbol.range.low, symbol.range.high
    low = max(low, -3.0)
    return float(rng.uniform(low, min(high, low + 6.0)))

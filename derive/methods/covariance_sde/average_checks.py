"""The check of expectations: Isserlis against exact product quadrature at small dimensions."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import sympy as sp

from derive.calculus.gaussian.cubature import (
    TooLarge,
    joint_rule,
    kinked_rule,
    product_rule,
    require_few,
)
from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factor, Factors, Tensor
from derive.calculus.limit.order import Law
from derive.draws import generator
from derive.methods.common.record import Check
from derive.methods.covariance_sde.instances import SEED, admissible, generic, gram_of, relative
from derive.notation.common.scalars import number, size


def average(
    law: Law, increment: Expression, drift: Expression, first: Expression, diffusion: Expression
) -> Check:
    """Expectations against exact product quadrature at small literal dimensions."""
    sizes = {d: 1.0 for d in law.scaling.proportional if d not in law.state.dims}
    try:
        return _average_at({}, law, increment, drift, first, diffusion)
    except TooLarge:
        if not sizes:
            raise
    return _average_at(sizes, law, increment, drift, first, diffusion)


def _average_at(
    sizes: dict[sp.Symbol, float],
    law: Law,
    increment: Expression,
    drift: Expression,
    first: Expression,
    diffusion: Expression,
) -> Check:
    """The check with some dimensions of these sizes, else of two."""
    rng = generator(SEED + 2)
    token, width = law.state.dims
    values = generic(law, (increment, drift, diffusion), rng) | sizes
    state = admissible(law, rng.standard_normal((int(values[token]), int(values[width]))))
    gram = gram_of(law, state, values)
    n = number(law.scaling.clock, values)
    worst = 0.0
    arrays = {"V": gram, law.state.name: state}
    increment, moments = _settled(law, increment, values, state)
    parts, of_first = _by_weights(increment, law), _by_weights(first, law)
    for one, other in itertools.product(of_first, repeat=2):  # before any is taken
        if one & other:
            require_few(*_needed(law, (of_first[one], of_first[other]), values)[:2])
    mean = sum(_mean(part, law, values, arrays | moments) for part in parts.values())
    ours = evaluate(drift, {"V": gram}, values)
    worst = max(worst, relative(ours - n * mean, np.maximum(np.abs(n * mean), np.abs(gram))))
    second = np.zeros((int(values[token]),) * 4)
    for one, other in itertools.product(of_first, repeat=2):
        if one & other:  # else independent
            second = second + _second(of_first[one], of_first[other], law, values, arrays)
    ours = evaluate(diffusion, {"V": gram}, values)
    worst = max(worst, relative(ours - n * second, np.maximum(np.abs(n * second), 1e-3)))
    return Check("Isserlis against exact product quadrature", worst, 1e-10)


def _settled(
    law: Law, increment: Expression, values: dict[sp.Symbol, float], state: np.ndarray
) -> tuple[Expression, dict[str, np.ndarray]]:
    """The increment with every |Y| of a normal Y as an array, its mean.

    The variance of Y is averaged at the literal dimensions; that Y is normal holds in the limit.
    """
    found = sorted({t for t in increment.tensors() if t.kind == "envelope"}, key=lambda t: t.name)
    plain, arrays = {}, {}
    for number_, tensor in enumerate(found):
        square = tensor.meaning[0] * tensor.meaning[0]
        nodes, weights = _rule(law, (square,), values, state)
        sample_ = evaluate(square, {**nodes, law.state.name: state, "V": np.eye(2)}, values)
        plain[tensor] = Tensor(f"mean{number_}", tensor.dims, "given")
        mean = np.tensordot(weights, np.broadcast_to(sample_, (len(weights), 2, 2)), axes=1)
        arrays[plain[tensor].name] = np.sqrt(2 / np.pi * mean)
    if not found:
        return increment, {}

    def given(c: sp.Expr, factors: Factors) -> list[tuple[sp.Expr, Factors]]:
        return [(c, tuple(replace(f, tensor=plain.get(f.tensor, f.tensor)) for f in factors))]

    return increment.map_terms(given), arrays


def _drawn(factor: Factor, law: Law) -> list[Tensor]:
    """The weights in a factor."""
    if factor.tensor.kind == "magnitude":
        return [factor.tensor.meaning[1]]
    if factor.tensor.kind == "envelope":
        return list(law.gaussian)
    return [factor.tensor] if factor.tensor in law.gaussian else []


def _by_weights(expression: Expression, law: Law) -> dict[frozenset[Tensor], Expression]:
    """The terms by the weights that they hold: each kind is averaged by a small rule of its own."""
    groups: dict[frozenset[Tensor], list[tuple[sp.Expr, Factors]]] = {}
    for c, factors in expression.terms:
        key = frozenset(t for f in factors for t in _drawn(f, law))
        groups.setdefault(key, []).append((c, factors))
    return {key: collect(expression.free, terms) for key, terms in groups.items()}


def _mean(
    part: Expression, law: Law, values: dict[sp.Symbol, float], arrays: dict[str, np.ndarray]
) -> np.ndarray:
    nodes, weights = _rule(law, (part,), values, arrays[law.state.name])
    return _average(evaluate(part, {**nodes, **arrays}, values), weights)


def _second(
    one: Expression,
    other: Expression,
    law: Law,
    values: dict[sp.Symbol, float],
    arrays: dict[str, np.ndarray],
) -> np.ndarray:
    """Cov(one, other) by a rule that is exact for their product."""
    nodes, weights = _rule(law, (one, other), values, arrays[law.state.name])
    centred = []
    for part in (one, other):
        sample = evaluate(part, {**nodes, **arrays}, values)
        sample = np.broadcast_to(sample, (len(weights), *sample.shape[-2:]))
        centred.append(sample - _average(sample, weights))
    return np.einsum("k,kab,kcd->abcd", weights, *centred, optimize="greedy")


def _rule(
    law: Law, factors: tuple[Expression, ...], values: dict[sp.Symbol, float], state: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Nodes and weights, exact for the product of expressions."""
    shapes, degrees, kinked = _needed(law, factors, values)
    special = {
        t.name: kinked_rule(state, size(t.dims[1], values), degree) for t, degree in kinked.items()
    }
    return joint_rule(product_rule(shapes, degrees), special)


def _needed(
    law: Law, factors: tuple[Expression, ...], values: dict[sp.Symbol, float]
) -> tuple[dict[str, tuple[int, ...]], dict[str, int], dict[Tensor, int]]:
    """Shapes and degrees of the arrays of a product, and the degrees of those with kinks."""
    shapes, degrees, special = {}, {}, {}
    tensors = {t for e in factors for t in e.tensors()}
    kinked = {t.meaning[1] for t in tensors if t.kind == "magnitude"}
    for tensor in law.gaussian:
        degree = sum(
            max((sum(tensor in _drawn(f, law) for f in fs) for _, fs in e.terms), default=0)
            for e in factors
        )
        if tensor in kinked:
            special[tensor] = degree
        elif degree:
            shapes[tensor.name] = tuple(size(d, values) for d in tensor.dims)
            degrees[tensor.name] = degree
    return shapes, degrees, special


def _average(sample: np.ndarray, weights: np.ndarray) -> np.ndarray:
    if sample.ndim == 2:
        return sample
    return np.tensordot(weights, sample, axes=1)

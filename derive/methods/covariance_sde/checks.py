"""Numeric checks of the steps of a derivation: both sides at random instances.

Each check takes a route that the step does not: the text run on arrays for the trace, Cauchy's
integral for power series, exact product quadrature for Gaussian expectations, large numbers for
limits, matrix products for the noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import sympy as sp

from derive.calculus.gaussian.cubature import star_rule
from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression
from derive.calculus.limit.order import Law
from derive.calculus.limit.scaling import ratio
from derive.draws import generator
from derive.methods.common.parameters import sample
from derive.methods.common.record import Check
from derive.methods.covariance_sde.fields import NoiseMap
from derive.methods.covariance_sde.instances import (
    SEED,
    by_name,
    divisible,
    drawn_arrays,
    generic,
    numbers,
    relative,
    spherical,
    symbols_of,
)
from derive.methods.covariance_sde.reduce import Chain
from derive.notation.common import numeric
from derive.notation.common.arrays import walk
from derive.notation.common.graph import value
from derive.notation.common.scalars import Opaque, Param, number
from derive.notation.layers.blocks import BlockLaw, root_shift
from derive.notation.layers.model import Trace


def trace(traced: Trace) -> Check:
    """The graph and the text give one array."""
    rng = generator(SEED)
    worst = 0.0
    for sizes in (2, 3, 5):
        values = numbers(traced.model, rng)
        for position, dim in enumerate(traced.model.dims):
            values[dim] = float(sizes + position)
        divisible(traced, values)
        state, weights = drawn_arrays(traced, values, rng)
        text = numeric.run(
            traced.model.function,
            state,
            dims=by_name(values),
            params=by_name(values),
            weights=weights,
        )
        leaves = {traced.state: state}
        leaves.update({a: w for (_, a), w in zip(traced.weights, weights, strict=True)})
        worst = max(worst, relative(value(traced.output, leaves, values) - text, text))
    return Check("graph against the text, run on arrays", worst, 1e-12)


def limit(law: Law, pairs: list[tuple[Expression, Expression]]) -> Check:
    """Exact expectations at a width of 1e16 against their limits.

    Where finer powers than n^(-1/2) are left over, the width is as much larger.
    """
    rng = generator(SEED + 3)
    values = generic(law, tuple(e for pair in pairs for e in pair), rng)
    width = law.scaling.width
    root = rng.standard_normal((2, 2))
    gram = spherical(law.gram, root @ root.T)
    digits, floor = 8 * _finest(law, [exact for exact, _ in pairs]), 1e-8
    if law.scaling.pace != 1:  # what is left over may be as large as n^(-1/q)
        digits, floor = min(digits * 9 // 8, int(40 / law.scaling.pace)), 0.1
    large = {**values, width: 10.0**digits}
    for dim in law.scaling.proportional:
        large[dim] = 10.0**digits * values.get(ratio(dim), 1.0)
    worst = 0.0
    for exact, limited in pairs:
        far = evaluate(exact, {"V": gram}, large)
        near = evaluate(limited, {"V": gram}, values)
        worst = max(worst, relative(far - near, np.maximum(np.abs(near), floor)))
    return Check(f"exact expectation at width 1e{digits}", worst, 1e-6)


def _finest(law: Law, expressions: list[Expression]) -> int:
    """q, where the powers of the width are whole ones of n^(1/q), at least the square root."""
    coefficients = [c for e in expressions for c, _ in e.terms]
    return finest_of(coefficients, law.scaling.width)


def finest_of(scalars: Iterable[sp.Expr], width: sp.Symbol) -> int:
    found = [sp.Rational(1, 2)]
    for c in scalars:
        values = [c, *(s.value for s in c.atoms(Opaque))]
        found += [
            p.exp for v in values for p in v.atoms(sp.Pow) if p.base == width and p.exp.is_Rational
        ]
    return math.lcm(*(int(e.q) for e in found))


def noise(noise: NoiseMap, diffusion: Expression) -> Check:
    """Covariance of the map, as J J^T of the linear map G -> N, against the diffusion."""
    rng = generator(SEED + 4)
    size = 3
    values: dict[sp.Symbol, float] = {}
    for symbol in sorted(symbols_of((noise.compact, diffusion)), key=str):
        values[symbol] = sample(symbol, rng) if isinstance(symbol, Param) else 0.7
    for dim in noise.gram.dims:
        values[dim] = float(size)
    root = np.tril(rng.standard_normal((size, size)))
    root = np.linalg.cholesky(spherical(noise.gram, root @ root.T))
    arrays = {"V": root @ root.T, "L": root}
    total = np.zeros((size,) * 4)
    for one in noise.fields:
        shape = (size,) * len(one.drawn.dims)
        basis = np.eye(math.prod(shape)).reshape(-1, *shape)
        if one.drawn.symmetric:
            basis = np.array([(b + b.T) / np.sqrt(2) for b in basis])
        zero = {f.drawn.name: np.zeros((size,) * len(f.drawn.dims)) for f in noise.fields}
        columns = np.array(
            [evaluate(noise.expanded, {**arrays, **zero, one.drawn.name: b}, values) for b in basis]
        )
        total += np.einsum("kab,kcd->abcd", columns, columns)
    target = evaluate(diffusion, {"V": arrays["V"]}, values)
    return Check(
        "J J^T of the noise map against the diffusion", relative(total - target, target), 1e-12
    )


def step(chain: Chain, law: Law, drift: Expression, diffusion: Expression) -> Check:
    """Mean of the step, by exact quadrature at m = 2, against the drift as dt goes to zero.

    Richardson extrapolation in the powers of dt that the definition's own powers of the width
    bring, up to dt^2; a singular V (equal tokens) is one of the instances.
    """
    rng = generator(SEED + 5)
    token, width = law.gram.dims[0], law.scaling.width
    values = generic(law, (drift, diffusion), rng)
    scalars = [a.data for a in walk(chain.output) if a.op == "full"]
    finest = finest_of(scalars, width)
    for symbol in sorted({s for c in scalars for s in c.free_symbols} - set(values), key=str):
        if isinstance(symbol, Param):  # one that drops out of the limit
            values[symbol] = sample(symbol, rng)
    for dim in law.scaling.free:
        values[dim] = 3.0
    shapes = {name: (2, 2) for name, _ in chain.blocks}
    # terms of fourth order in the normals are of order dt^2: the extrapolation removes them
    nodes, weights = star_rule(shapes)
    widths = 4e3 * 4.0 ** np.arange(2 * finest + 1)
    powers = widths[:, None] ** (-np.arange(2 * finest + 1) / finest)
    to_limit = np.linalg.inv(powers)[0]
    worst = 0.0
    for root in (np.array([[1.1, 0.0], [0.4, 0.8]]), np.array([[0.9, 0.0], [0.9, 0.0]])):
        gram = root @ root.T
        means = []
        for n in widths:
            numbers = {**values, width: n, token: 2.0}
            for dim in law.scaling.proportional:
                numbers[dim] = n * values.get(ratio(dim), 1.0)
            leaves = {chain.factor: root}
            for name, block in chain.blocks:
                leaves[block] = _block_value(block.data, nodes[name], numbers, token)
            out = value(chain.output, leaves, numbers)
            means.append(n * (np.tensordot(weights, out, axes=1) - gram))
        rate = np.tensordot(to_limit, means, axes=1)
        target = evaluate(drift, {"V": gram}, values)
        worst = max(worst, relative(rate - target, np.maximum(np.abs(target), np.abs(gram))))
    return Check("mean of the step by quadrature, V regular and singular", worst, 1e-5)


def _block_value(
    law: BlockLaw, drawn: np.ndarray, numbers: dict[sp.Symbol, float], token: sp.Symbol
) -> np.ndarray:
    if law.kind == "gaussian":
        return drawn
    shift = number(root_shift(law, token), numbers)
    symmetric = (drawn + drawn.swapaxes(-1, -2)) / np.sqrt(2)
    return np.sqrt(shift) * np.eye(2) + symmetric / 2

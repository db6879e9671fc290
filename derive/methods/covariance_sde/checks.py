"""Numeric checks of the steps of a derivation: both sides at random instances.

Each check takes a route that the step does not: the text run on arrays for the trace, Cauchy's
integral for power series, exact product quadrature for Gaussian expectations, large numbers for
limits, matrix products for the noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import sympy as sp

from derive.calculus.gaussian.cubature import joint_rule, kinked_rule, product_rule, star_rule
from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import UNIT, Expression, Factor, Factors, Tensor, collect
from derive.calculus.limit.centred import opened
from derive.calculus.limit.order import Law, ratio
from derive.draws import generator
from derive.methods.common.parameters import sample
from derive.methods.common.record import Check
from derive.methods.covariance_sde.fields import NoiseMap
from derive.methods.covariance_sde.reduce import Chain
from derive.notation.common import numeric
from derive.notation.common.arrays import shares, walk
from derive.notation.common.graph import value
from derive.notation.common.scalars import Opaque, Param, Share, number, size
from derive.notation.layers.blocks import BlockLaw, root_shift
from derive.notation.layers.model import Model, Trace

_SEED = 20231


def numbers(model: Model, rng: np.random.Generator, **sizes: int) -> dict[sp.Symbol, float]:
    """Values for every symbol of a model: given sizes, parameters inside their ranges."""
    out: dict[sp.Symbol, float] = {}
    for dim in model.dims:
        out[dim] = float(sizes.get(dim.name, 2))
    for parameter in model.params:
        out[parameter] = sample(parameter, rng)
    for dim in model.dims:
        out[ratio(dim)] = 0.75
    return out


def _named(values: dict[sp.Symbol, float]) -> dict[str, float]:
    return {s.name: v for s, v in values.items()}


def _draw(traced: Trace, values: dict[sp.Symbol, float], rng: np.random.Generator):  # type: ignore[no-untyped-def]
    def sizes(shape: tuple[sp.Expr, ...]) -> list[int]:
        return [size(d, values) for d in shape]

    state = rng.standard_normal(sizes(traced.state.shape))
    return state, [rng.standard_normal(sizes(a.shape)) for _, a in traced.weights]


def divisible(traced: Trace, values: dict[sp.Symbol, float]) -> None:
    """Enlarge dimensions that are divided by others until they are multiples of them."""
    for share in shares(traced.output):
        values[share.whole] = values[share.count] * -(-values[share.whole] // values[share.count])


def _relative(difference: np.ndarray, reference: np.ndarray) -> float:
    return float(np.max(np.abs(difference)) / max(np.max(np.abs(reference)), 1e-300))


def trace(traced: Trace) -> Check:
    """The graph and the text give one array."""
    rng = generator(_SEED)
    worst = 0.0
    for sizes in (2, 3, 5):
        values = numbers(traced.model, rng)
        for position, dim in enumerate(traced.model.dims):
            values[dim] = float(sizes + position)
        divisible(traced, values)
        state, weights = _draw(traced, values, rng)
        text = numeric.run(
            traced.model.function,
            state,
            dims=_named(values),
            params=_named(values),
            weights=weights,
        )
        leaves = {traced.state: state}
        leaves.update({a: w for (_, a), w in zip(traced.weights, weights, strict=True)})
        worst = max(worst, _relative(value(traced.output, leaves, values) - text, text))
    return Check("graph against the text, run on arrays", worst, 1e-12)


def series(traced: Trace, law: Law, layer: Expression, longer: Expression) -> Check:
    """Homogeneous parts of the expansion against Cauchy's integral over the graph.

    Scaling all weights by h makes the layer a power series in h; its coefficients are read off
    the graph at complex h, or, where functions have kinks, interpolated at h > 0.  Only degrees
    that a longer expansion leaves alone are complete.
    """
    if law.centred:
        return _about_means(traced, law, layer)
    rng = generator(_SEED + 1)
    values = numbers(traced.model, rng)
    for position, dim in enumerate(traced.model.dims):
        values[dim] = float(3 + position)
    divisible(traced, values)
    state, weights = _draw(traced, values, rng)
    state = _admissible(law, state)
    kinked = any(t.kind in ("magnitude", "envelope") for t in layer.tensors())
    radius = 0.3
    if kinked:
        points = 10
        angles = (1 - np.cos(np.pi * (np.arange(points) + 0.5) / points)) / 2
        # rows: the coefficient of z^k from the values at the points, through Chebyshev
        rows = np.linalg.pinv(np.polynomial.chebyshev.chebvander(2 * angles - 1, points - 1))
        change = np.array([_shifted_chebyshev(k, points) for k in range(points)]).T
        coefficients = change @ rows
    else:
        points = 64
        angles = np.exp(2j * np.pi * np.arange(points) / points)
        coefficients = np.array([angles ** (-k) / points for k in range(points)])
    # the graph is the text (checked first), and unlike the text it can be run in part
    leaves = {traced.state: state if kinked else state.astype(complex)}
    for (_, array), w in zip(traced.weights, weights, strict=True):
        leaves[array] = radius * np.multiply.outer(angles, w)
    runs = np.broadcast_to(value(traced.output, leaves, values), (points, *state.shape))
    arrays = {law.state.name: state, law.gram.name: _gram(law, state, values)}
    arrays.update({t.name: w for t, w in zip(law.gaussian, weights, strict=True)})
    worst, compared = 0.0, []
    scale = max(float(np.max(np.abs(r))) for r in runs)
    for degree in sorted({_degree(f, law) for _, f in layer.terms}):
        part, whole = _part(layer, law, degree), _part(longer, law, degree)
        if part != whole:
            continue
        coefficient = np.tensordot(coefficients[degree], runs, axes=1)
        ours = evaluate(part, arrays, values) * radius**degree
        worst = max(worst, float(np.max(np.abs(ours - coefficient))) / scale)
        compared.append(degree)
    route = "interpolation of" if kinked else "Cauchy's integral over"
    # interpolation on the half-line loses digits to the change of basis
    tolerance = 1e-5 if kinked else 1e-12
    return Check(f"weight degrees {compared} against {route} the graph", worst, tolerance)


def _about_means(traced: Trace, law: Law, layer: Expression) -> Check:
    """The layer less its expansion, at three widths: a remainder of order eps^3, not eps^2.

    Expansions about means are no power series in the weights; the remainder's size must fall like
    width^(-3/2), by 8 from one width to its fourfold (by 4, if a term of order eps^2 were wrong).
    """
    rng = generator(_SEED + 1)
    parameters = numbers(traced.model, rng)
    token, width = law.state.dims
    opened_layer = opened(layer)
    sizes = []
    for size_ in (64, 256, 1024):
        squares, count = 0.0, 8192 // size_
        for _ in range(count):
            values = {**parameters, token: 2.0}
            for dim in (width, *law.scaling.proportional):
                values[dim] = float(size_)
            values |= {d: 1.0 for d in law.scaling.free}
            values |= {ratio(d): 1.0 for d in law.scaling.proportional}
            divisible(traced, values)
            state, weights = _draw(traced, values, rng)
            state = _admissible(law, state)
            leaves = {traced.state: state}
            leaves.update({a: w for (_, a), w in zip(traced.weights, weights, strict=True)})
            arrays = {law.state.name: state, law.gram.name: _gram(law, state, values)}
            arrays.update({t.name: w for t, w in zip(law.gaussian, weights, strict=True)})
            out = value(traced.output, leaves, values)
            squares += float(np.mean((out - evaluate(opened_layer, arrays, values)) ** 2)) / count
        sizes.append(math.sqrt(squares))
    fall = math.sqrt(sizes[2] / sizes[0]) if sizes[0] > 1e-14 else 0.0
    return Check(f"remainder {sizes[2]:.1e} at width 1024, its fall by width", fall, 0.2)


def _shifted_chebyshev(degree: int, count: int) -> np.ndarray:
    """Monomial coefficients of T_k(2 z - 1)."""
    basis = np.polynomial.Chebyshev.basis(degree, domain=[0, 1])
    found = basis.convert(kind=np.polynomial.Polynomial).coef
    return np.pad(found, (0, count - len(found)))


def _degree(factors: Factors, law: Law) -> int:
    drawn = sum(f.tensor in law.gaussian or f.tensor.kind == "magnitude" for f in factors)
    return drawn + sum(len(f.tensor.meaning[1]) for f in factors if f.tensor.kind == "envelope")


def _part(expression: Expression, law: Law, degree: int) -> Expression:
    return expression.map_terms(lambda c, f: [(c, f)] if _degree(f, law) == degree else [])


def _spherical(gram: Tensor, V: np.ndarray) -> np.ndarray:
    """A covariance, with unit diagonal where the tokens live on the sphere."""
    if gram.meaning != UNIT:
        return V
    root = np.sqrt(np.diag(V))
    return V / np.outer(root, root)


def _admissible(law: Law, state: np.ndarray) -> np.ndarray:
    """A state whose rows are as the definition promises."""
    if law.gram.meaning != UNIT:
        return state
    size = np.sqrt(state.shape[1]) if law.gram_weight != 1 else 1.0
    return size * state / np.linalg.norm(state, axis=1, keepdims=True)


def _gram(law: Law, state: np.ndarray, values: dict[sp.Symbol, float]) -> np.ndarray:
    return state @ state.T / number(sp.sympify(law.gram_weight), values)


def average(
    law: Law, increment: Expression, drift: Expression, first: Expression, diffusion: Expression
) -> Check:
    """Expectations against exact product quadrature at small literal dimensions."""
    rng = generator(_SEED + 2)
    token, width = law.state.dims
    values = generic(law, (increment, drift, diffusion), rng)
    state = _admissible(law, rng.standard_normal((int(values[token]), int(values[width]))))
    gram = _gram(law, state, values)
    n = number(law.scaling.clock, values)
    worst = 0.0
    arrays = {"V": gram, law.state.name: state}
    increment, moments = _settled(law, increment, values, state)
    parts = _by_weights(increment, law)
    mean = sum(_mean(part, law, values, arrays | moments) for part in parts.values())
    ours = evaluate(drift, {"V": gram}, values)
    worst = max(worst, _relative(ours - n * mean, np.maximum(np.abs(n * mean), np.abs(gram))))
    second = np.zeros((int(values[token]),) * 4)
    parts = _by_weights(first, law)
    for one, other in itertools.product(parts, repeat=2):
        if one & other:  # else independent
            second = second + _second(parts[one], parts[other], law, values, arrays)
    ours = evaluate(diffusion, {"V": gram}, values)
    worst = max(worst, _relative(ours - n * second, np.maximum(np.abs(n * second), 1e-3)))
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


def symbols_of(expressions: tuple[Expression, ...]) -> set[sp.Symbol]:
    """Every symbol on which the value of the expressions depends, besides tensors."""
    found = {s for e in expressions for c, _ in e.terms for s in c.free_symbols}
    for hidden in [s for s in found if isinstance(s, Opaque)]:
        found = (found | hidden.value.free_symbols) - {hidden}
    for tensor in {t for e in expressions for t in e.tensors() if t.kind == "response"}:
        for array in walk(tensor.meaning.root):
            found |= array.data.free_symbols if array.op == "full" else set()
            found |= set(array.shape)
    return {s for s in found if s.is_Symbol}


def generic(
    law: Law, expressions: tuple[Expression, ...], rng: np.random.Generator
) -> dict[sp.Symbol, float]:
    """Dimensions of two (one for a free dimension) and generic values for all other symbols."""
    out: dict[sp.Symbol, float] = {}
    symbols = symbols_of(expressions)
    dims = {law.scaling.width, *law.state.dims} | {d for t in law.gaussian for d in t.dims}
    dims = {d for d in dims if not isinstance(d, Share)}
    for symbol in sorted(symbols | dims, key=lambda s: s.name):
        if symbol in dims:
            out[symbol] = 1.0 if symbol in law.scaling.free else 2.0
        elif isinstance(symbol, Param):
            out[symbol] = sample(symbol, rng)
        else:
            out[symbol] = rng.uniform(0.4, 0.9)
    return out


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
    shapes, degrees = {}, {}
    tensors = {t for e in factors for t in e.tensors()}
    kinked = {t.meaning[1] for t in tensors if t.kind == "magnitude"}
    special = {}
    for tensor in law.gaussian:
        degree = sum(
            max((sum(tensor in _drawn(f, law) for f in fs) for _, fs in e.terms), default=0)
            for e in factors
        )
        if tensor in kinked:
            special[tensor.name] = kinked_rule(state, size(tensor.dims[1], values), degree)
        elif degree:
            shapes[tensor.name] = tuple(size(d, values) for d in tensor.dims)
            degrees[tensor.name] = degree
    return joint_rule(product_rule(shapes, degrees), special)


def _average(sample: np.ndarray, weights: np.ndarray) -> np.ndarray:
    if sample.ndim == 2:
        return sample
    return np.tensordot(weights, sample, axes=1)


def limit(law: Law, pairs: list[tuple[Expression, Expression]]) -> Check:
    """Exact expectations at a width of 1e16 against their limits.

    Where finer powers than n^(-1/2) are left over, the width is as much larger.
    """
    rng = generator(_SEED + 3)
    values = generic(law, tuple(e for pair in pairs for e in pair), rng)
    width = law.scaling.width
    root = rng.standard_normal((2, 2))
    gram = _spherical(law.gram, root @ root.T)
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
        worst = max(worst, _relative(far - near, np.maximum(np.abs(near), floor)))
    return Check(f"exact expectation at width 1e{digits}", worst, 1e-6)


def _finest(law: Law, expressions: list[Expression]) -> int:
    """q, where the powers of the width are whole ones of n^(1/q), at least the square root."""
    coefficients = [c for e in expressions for c, _ in e.terms]
    return _finest_of(coefficients, law.scaling.width)


def _finest_of(scalars: Iterable[sp.Expr], width: sp.Symbol) -> int:
    found = [sp.Rational(1, 2)]
    for c in scalars:
        values = [c, *(s.value for s in c.atoms(Opaque))]
        found += [
            p.exp for v in values for p in v.atoms(sp.Pow) if p.base == width and p.exp.is_Rational
        ]
    return math.lcm(*(int(e.q) for e in found))


def noise(noise: NoiseMap, diffusion: Expression) -> Check:
    """Covariance of the map, as J J^T of the linear map G -> N, against the diffusion."""
    rng = generator(_SEED + 4)
    size = 3
    values: dict[sp.Symbol, float] = {}
    for symbol in sorted(symbols_of((noise.compact, diffusion)), key=str):
        values[symbol] = sample(symbol, rng) if isinstance(symbol, Param) else 0.7
    for dim in noise.gram.dims:
        values[dim] = float(size)
    root = np.tril(rng.standard_normal((size, size)))
    root = np.linalg.cholesky(_spherical(noise.gram, root @ root.T))
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
        "J J^T of the noise map against the diffusion", _relative(total - target, target), 1e-12
    )


def step(chain: Chain, law: Law, drift: Expression, diffusion: Expression) -> Check:
    """Mean of the step, by exact quadrature at m = 2, against the drift as dt goes to zero.

    Richardson extrapolation in the powers of dt that the definition's own powers of the width
    bring, up to dt^2; a singular V (equal tokens) is one of the instances.
    """
    rng = generator(_SEED + 5)
    token, width = law.gram.dims[0], law.scaling.width
    values = generic(law, (drift, diffusion), rng)
    scalars = [a.data for a in walk(chain.output) if a.op == "full"]
    finest = _finest_of(scalars, width)
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
        worst = max(worst, _relative(rate - target, np.maximum(np.abs(target), np.abs(gram))))
    return Check("mean of the step by quadrature, V regular and singular", worst, 1e-5)


def _block_value(
    law: BlockLaw, drawn: np.ndarray, numbers: dict[sp.Symbol, float], token: sp.Symbol
) -> np.ndarray:
    if law.kind == "gaussian":
        return drawn
    shift = number(root_shift(law, token), numbers)
    symmetric = (drawn + drawn.swapaxes(-1, -2)) / np.sqrt(2)
    return np.sqrt(shift) * np.eye(2) + symmetric / 2

"""The check of an expansion: power series in the weights by Cauchy, or the fall of a remainder."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression
from derive.calculus.limit.order import Law
from derive.calculus.limit.remainders import opened
from derive.calculus.limit.scaling import ratio
from derive.draws import generator
from derive.methods.common.record import Check
from derive.methods.covariance_sde.instances import (
    SEED,
    admissible,
    divisible,
    drawn_arrays,
    gram_of,
    numbers,
)
from derive.notation.common.arrays import Array
from derive.notation.common.graph import value
from derive.notation.layers.model import Trace


def series(traced: Trace, law: Law, layer: Expression, wider: Callable[[], Expression]) -> Check:
    """Homogeneous parts of the expansion against Cauchy's integral over the graph.

    Scaling all weights by h makes the layer a power series in h; its coefficients are read off
    the graph at complex h, or, where functions have kinks, interpolated at h > 0.  Only degrees
    that a longer expansion leaves alone are complete.
    """
    if law.centred:
        return _about_means(traced, law, layer)
    longer, rng = wider(), generator(SEED + 1)
    values = numbers(traced.model, rng)
    for position, dim in enumerate(traced.model.dims):
        values[dim] = float(3 + position)
    divisible(traced, values)
    state, weights = drawn_arrays(traced, values, rng)
    state = admissible(law, state)
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
        held = array in _of_scores(layer)  # no power series in these: functions of them stay whole
        leaves[array] = w if held else radius * np.multiply.outer(angles, w)
    runs = np.broadcast_to(value(traced.output, leaves, values), (points, *state.shape))
    arrays = {law.state.name: state, law.gram.name: gram_of(law, state, values)}
    arrays.update({t.name: w for t, w in zip(law.gaussian, weights, strict=True)})
    worst, compared = 0.0, []
    scale = max(float(np.max(np.abs(r))) for r in runs)
    for degree in sorted({law.weights_in(f) for _, f in layer.terms}):
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


def _of_scores(layer: Expression) -> set[Array]:
    """Weights of random scores of order one."""
    mixtures = [t for t in layer.tensors() if t.kind == "mixture"]
    return {a for t in mixtures for _, a in t.meaning.weights}


def _about_means(traced: Trace, law: Law, layer: Expression) -> Check:
    """The layer less its expansion, at three widths: a remainder of order eps^3, not eps^2.

    Expansions about means are no power series in the weights; the remainder's size must fall like
    width^(-3/2), by 8 from one width to its fourfold (by 4, if a term of order eps^2 were wrong).
    """
    rng = generator(SEED + 1)
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
            state, weights = drawn_arrays(traced, values, rng)
            state = admissible(law, state)
            leaves = {traced.state: state}
            leaves.update({a: w for (_, a), w in zip(traced.weights, weights, strict=True)})
            arrays = {law.state.name: state, law.gram.name: gram_of(law, state, values)}
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


def _part(expression: Expression, law: Law, degree: int) -> Expression:
    return expression.only(lambda _, f: law.weights_in(f) == degree)

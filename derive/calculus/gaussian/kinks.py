"""Takes Gaussian expectations of kinked functions exactly: |h| of a pre-activation h.

A piecewise-linear function is a x + b |x|; its linear part is expanded like any other, so |h| is
the one kinked object.  `magnitude` is |h| for h = X W / sqrt(n), whose entries are normal given X,
with covariance V between tokens and independent between units.

Explicit entries of W are removed by Gaussian integration by parts; what is left, products of |h|
and sign(h) at one unit, comes from Price's rule d^2/dc^2 E f(x) g(y) = E f''(x) g''(y).

Not supported: more than two kinked factors at one unit, kinked factors at several units at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import sympy as sp

from derive.calculus.gaussian.pairings import covariance
from derive.calculus.index.factors import Factor, Factors, Index, Tensor, delta_tensor, indices_of
from derive.errors import Refusal
from derive.notation.common.scalars import extent


def split(body: sp.Lambda) -> tuple[sp.Expr, sp.Expr] | None:
    """(a, b) if the function is a x + b |x|, else None."""
    (x,) = body.variables
    y = sp.Dummy("y", real=True)
    whole = sp.expand(body.expr.rewrite(sp.Abs)).subs(sp.Abs(x), y)
    if whole.has(sp.Abs, sp.Max, sp.Min, sp.Piecewise) or whole.subs({x: 0, y: 0}) != 0:
        return None
    a, b = sp.diff(whole, x), sp.diff(whole, y)
    if a.has(x, y) or b.has(x, y):
        return None
    return sp.expand(a), sp.expand(b)


CORRELATION = sp.Symbol("r", real=True)
Products = Iterable[tuple[sp.Expr, Factors]]


def magnitude(state: Tensor, weight: Tensor, gram: Tensor) -> Tensor:
    """|X W| / sqrt(n), entry by entry (tokens, units)."""
    dims = (state.dims[0], weight.dims[1])
    return Tensor(f"|{state.name} {weight.name}|", dims, "magnitude", meaning=(state, weight, gram))


def average_kinks(coefficient: sp.Expr, factors: Factors, weight: Tensor) -> Products:
    """E over `weight` of a product that holds magnitudes of it."""
    for position, factor in enumerate(factors):
        if factor.tensor == weight:
            rest = factors[:position] + factors[position + 1 :]
            for c, product in _by_parts(factor, rest, weight):
                yield from average_kinks(coefficient * c, product, weight)
            return
    yield from _by_price(coefficient, factors, weight)


def _by_parts(entry: Factor, rest: Factors, weight: Tensor) -> Products:
    """E[W_ji F] = sum E[dF/dW_ji]."""
    row, unit = entry.indices
    for position, factor in enumerate(rest):
        others = rest[:position] + rest[position + 1 :]
        if factor.tensor == weight:
            for deltas in covariance(entry, factor):
                yield sp.Integer(1), others + deltas
        elif _is_kinked(factor, weight):
            # d|h_bk|/dW_ji = sign(h_bk) X_bj delta_ki / sqrt(n), d sign = 2 delta(h)
            state = factor.tensor.meaning[0]
            token, own = factor.indices
            moved = Factor(_derivative(factor.tensor), factor.indices)
            joined = (moved, state[token, row], delta_tensor(own.dim)[own, unit])
            yield 1 / sp.sqrt(state.dims[1]), others + joined


def _derivative(tensor: Tensor) -> Tensor:
    if tensor.kind != "magnitude":
        raise Refusal(
            "the average needs the density of a pre-activation at its kink; this product of "
            "piecewise-linear functions is beyond Price's rule as it is used here"
        )
    state, weight, _ = tensor.meaning
    return Tensor(f"sign({state.name} {weight.name})", tensor.dims, "sign", meaning=tensor.meaning)


def _is_kinked(factor: Factor, weight: Tensor) -> bool:
    return factor.tensor.kind in ("magnitude", "sign") and factor.tensor.meaning[1] == weight


def _by_price(coefficient: sp.Expr, factors: Factors, weight: Tensor) -> Products:
    """Products of |h| and sign(h), with no explicit weight left."""
    kinked = [f for f in factors if _is_kinked(f, weight)]
    rest = tuple(f for f in factors if not _is_kinked(f, weight))
    units = _units(kinked, rest)
    if len(units) > 1:
        raise Refusal(
            "the average joins piecewise-linear functions at several units; only sums over one "
            "unit are derived"
        )
    for unit, group in units.items():
        if sum(f.tensor.kind == "sign" for f in group) % 2:
            return  # odd in h
        gram = group[0].tensor.meaning[2]
        names = [f.tensor.kind for f in group]
        tokens = tuple(f.indices[0] for f in group)
        rest = (*rest, _moment(names, gram)[tokens])
        if unit not in indices_of(rest):
            coefficient = coefficient * extent(unit.dim)
    yield coefficient, rest


def _units(kinked: list[Factor], rest: Factors) -> dict[Index, list[Factor]]:
    """Kinked factors by unit, units joined by deltas identified."""
    same: dict[Index, Index] = {}
    for factor in rest:
        if factor.tensor.kind == "delta":
            a, b = factor.indices
            same[a] = same.get(b, b)
    out: dict[Index, list[Factor]] = {}
    for factor in kinked:
        unit = factor.indices[1]
        while unit in same and same[unit] != unit:
            unit = same[unit]
        out.setdefault(unit, []).append(factor)
    return out


def _moment(kinds: list[str], gram: Tensor) -> Tensor:
    if kinds == ["magnitude"]:
        return Tensor("E|h|", gram.dims[:1], "spread", meaning=(sp.sqrt(2 / sp.pi), gram))
    if kinds == ["magnitude", "magnitude"]:
        return kernel("E|h||h|", price(2), 1, gram)
    if kinds == ["sign", "sign"]:
        return kernel("E[sgn sgn]", price(1), 0, gram)
    raise Refusal(
        f"the expectation of {len(kinds)} kinked functions of one unit ({', '.join(kinds)}) is "
        "not derived; at most two are"
    )


def kernel(name: str, shape: sp.Expr, degree: int, gram: Tensor) -> Tensor:
    """A function of pairs of tokens: (V_aa V_bb)^(degree/2) shape(correlation)."""
    return Tensor(name, gram.dims, "kernel", symmetric=True, meaning=(shape, degree, gram))


@cache
def price(order: int) -> sp.Expr:
    """E f(x) f(y) for unit normals of correlation r, where f^(order) = 2 delta.

    order = 2: f = |x|; order = 1: f = sign.  d^order/dr^order of it is E 2 delta(x) 2 delta(y), and
    at r = 0 it is (E f)^2, with slope (E f')^2 = 0.
    """
    r, s = CORRELATION, sp.Symbol("s", real=True)
    value = 4 / (2 * sp.pi * sp.sqrt(1 - s**2))
    for _ in range(order):
        inner = sp.integrate(value, s)
        value = inner - inner.subs(s, 0)
    x = sp.Symbol("x", positive=True)
    mean = sp.sqrt(2 / sp.pi) * sp.integrate(x * sp.exp(-(x**2) / 2), (x, 0, sp.oo))
    return sp.expand((mean**2 if order == 2 else 0) + value.subs(s, r))

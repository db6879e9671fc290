"""What a step must resolve: how fast the mixing coefficients and the diagonal of V move."""

from __future__ import annotations

import sympy as sp

from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Index
from derive.calculus.limit.order import Law
from derive.calculus.limit.series import Expansion
from derive.methods.covariance_sde.powers import limit
from derive.notation.common.arrays import Array, scale, walk
from derive.notation.common.scalars import Param
from derive.notation.layers.model import Trace


def volatility(diffusion: Expression, law: Law) -> tuple[Expression, Expression]:
    """sum_a d<V_aa>/dt and sum_a V_aa^2."""
    a = Index("a", law.gram.dims[0])
    variance = diffusion.renamed({i: a for i in diffusion.free}).summed(a)
    entry = law.gram[a, a]
    return variance, collect((a,), [(sp.Integer(1), (entry, entry))]).summed(a)


def total(law: Law) -> Expression:
    a = Index("a", law.gram.dims[0])
    return collect((a,), [(sp.Integer(1), (law.gram[a, a],))]).summed(a)


def mixing(expansion: Expansion, traced: Trace, law: Law) -> tuple[Expression, Expression]:
    """Variance per unit time of the random mixing coefficients, and what it does to the tokens.

    The coefficients are the random token-by-token parts B of the matrices that multiply the
    tokens: the sum of E B_an^2, and the trace of E B V B^T.
    """
    token = law.gram.dims[0]
    rate = effect = collect((), [])
    users = [a for a in walk(traced.output) if a.op == "matmul"]
    parts = [p for a in users for x in a.args for p in _summands(x, law, sp.Integer(1))]
    for part, factor in dict.fromkeys(parts):
        array = scale(factor, part)
        if array.shape != (token, token):
            continue
        random = expansion.of(array).map_terms(
            lambda c, f: [(c, f)] if any(law.is_random(x.tensor) for x in f) else []
        )
        small = law.up_to(random, law.scaling.pace)
        row, column = small.free
        other = Index("@k", token)
        square = (small * small).summed(row, column)
        between = collect((column, other), [(sp.Integer(1), (law.gram[column, other],))])
        moved = (small * between * small.renamed({column: other})).summed(row, column, other)
        clock = law.scaling.clock
        rate = rate + limit(law.mean(square).scaled(clock), law, traced.model)
        effect = effect + limit(law.mean(moved).scaled(clock), law, traced.model)
    return rate, effect


def _summands(array: Array, law: Law, factor: sp.Expr) -> list[tuple[Array, sp.Expr]]:
    """The terms of a sum, freed of parameters in front of it (they weigh a branch, they do not
    make its coefficients)."""
    if array.op == "add":
        return [p for a in array.args for p in _summands(a, law, factor)]
    if array.op == "multiply" and array.args[0].op == "full" and array.args[0].shape == ():
        weight = array.args[0].data
        degree = law.scaling.degree(weight)
        if degree is not None and max(degree) == min(degree) == 0:
            weight = weight.as_independent(*(s for s in weight.free_symbols if _is_param(s)))[0]
        return _summands(array.args[1], law, factor * weight)
    return [(array, factor)]


def _is_param(symbol: sp.Symbol) -> bool:
    return isinstance(symbol, Param)

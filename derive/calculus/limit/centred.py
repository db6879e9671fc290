"""Expands functions of something random about its mean, near which it stays: |x_a W|^2.

Such a monomial M is large but fluctuates little, so a function of it is expanded about E M.  What
is left, M - E M, is one tensor C until all truncation is done: its two parts are each as large as
M, and only together are they small.  Where E M depends on the state, the derivatives of the
function there are functions of V, kept whole (see `derive.calculus.limit.response`).

Not supported: entries along growing dimensions, means that are no functions of V_aa and V_ab.
"""

from __future__ import annotations

import sympy as sp

from derive.calculus.index.expressions import collect
from derive.calculus.index.factors import Factor, Factors, Index, Tensor, Terms, indices_of
from derive.calculus.limit.order import Law
from derive.calculus.limit.remainders import opened
from derive.calculus.limit.response import Response, leaf, number_of, sizes
from derive.notation.common.arrays import (
    Array,
    add,
    function,
    lift,
    multiply,
    node,
    total,
    transpose,
    x_symbol,
)


def centred(factors: Factors, free: tuple[Index, ...], law: Law) -> Factor:
    """C = M - E M of a monomial, as one factor over its free indices."""
    legs = tuple(i for i in free if i in indices_of(factors))
    places = tuple(Index(f"~{p}", i.dim) for p, i in enumerate(legs))
    names = dict(zip(legs, places, strict=True))
    product = collect(places, [(sp.Integer(1), tuple(f.rename(names) for f in factors))])
    if product not in law.centred:
        rest = opened(product) - law.mean(product)
        name = f"C_{len(law.centred) + 1}"
        dims = tuple(i.dim for i in legs)
        law.centred[product] = Tensor(name, dims, "centred", meaning=rest)
    return law.centred[product][legs]


def at_mean(
    body: sp.Lambda, times: int, mean: Terms, free: tuple[Index, ...], law: Law
) -> Factor | None:
    """The derivative of a function at a mean that depends on V, as a tensor over tokens.

    `mean`: terms in V, their coefficients free of growing dimensions.  None where the mean is
    more than a function of V_ab, V_aa, V_bb and other such tensors.
    """
    token = law.gram.dims[0]
    legs = tuple(i for i in free if i.dim == token)
    gram = leaf(law)
    root = _graph(mean, legs, gram, law)
    if root is None:
        return None
    (x,) = body.variables
    derived = sp.diff(body.expr, x, times) if times else body.expr
    key = (derived.xreplace({x: x_symbol}), len(legs), tuple((c, str(f)) for c, f in mean))
    if key not in law.responses:
        root = _applied(derived, x, root)
        if len(legs) == 1:
            root = total(root, 1, keepdims=False)
        name = f"S_{number_of(law)}"
        dims = tuple(i.dim for i in legs)
        meaning = Response(root, gram, law.gram)
        law.responses[key] = Tensor(name, dims, "response", meaning=meaning)
    return law.responses[key][legs]


def _applied(formula: sp.Expr, x: sp.Symbol, root: Array) -> Array:
    """A function by formula: multiples of powers and of exp by their names."""
    coefficient, inner = formula.as_coeff_Mul()
    if inner.as_base_exp()[0] == x:
        out = function(sp.Lambda(x, inner), root, "sqrt" if inner == sp.sqrt(x) else "power")
        return out if coefficient == 1 else multiply(lift(coefficient), out)
    name = "exp" if formula == sp.exp(x) else "formula"
    return function(sp.Lambda(x, formula), root, name)


def _graph(mean: Terms, legs: tuple[Index, ...], gram: Array, law: Law) -> Array | None:
    """A mean as an array on V: (m, 1) for one leg, (m, m) for two."""
    if not 1 <= len(legs) <= 2:
        return None
    column = sizes(gram, True)
    known = {(legs[0], legs[0]): column}
    if len(legs) == 2:
        known |= {(legs[1], legs[1]): transpose(column), legs: gram, legs[::-1]: gram}
    out = None if len(legs) == 1 else multiply(lift(sp.Integer(0)), gram)
    for coefficient, factors in mean:
        product = None
        for factor in factors:
            if factor.tensor == law.gram and factor.indices in known:
                one = known[factor.indices]
            elif factor.tensor.kind == "response" and set(factor.indices) <= set(legs):
                one = _placed(factor, legs)
            else:
                return None
            product = one if product is None else multiply(product, one)
        if product is None:
            product = lift(coefficient)
        elif coefficient != 1:
            product = multiply(lift(coefficient), product)
        out = product if out is None else add(out, product)
    return out


def _placed(factor: Factor, legs: tuple[Index, ...]) -> Array:
    """A response on one or two legs as an array (m, 1), (1, m) or (m, m)."""
    root = factor.tensor.meaning.root
    if len(factor.indices) == 2:
        return root if factor.indices == legs else transpose(root)
    column = node("expand", (root,), (root.shape[0], sp.Integer(1)), 1)
    return column if factor.indices == legs[:1] else transpose(column)

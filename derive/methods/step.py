"""Is the step of the SDE consistent?  Its conditional mean and covariance, derived.

Input: the reduced chain in its step form, and the derived limit.  Output: what is left of
(mean - V)/dt - drift and covariance/dt - diffusion as dt = 1/n goes to zero: no terms, when the
step is consistent.  Nothing is inverted on the way, so the statement holds for singular V.
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from derive.calculus.index import Expression, Index, Tensor, collect
from derive.calculus.order import Law
from derive.calculus.series import Expansion
from derive.methods.reduce import Chain, block_tensor
from derive.notation.arrays import Array


def leftovers(
    chain: Chain, law: Law, drift: Expression, diffusion: Expression
) -> tuple[Expression, Expression]:
    """Mean and covariance of the step per unit time, less drift and diffusion."""
    token, width = law.gram.dims[0], law.scaling.width
    tensors = {block: block_tensor(name, block) for name, block in chain.blocks}
    factor = Tensor("L", (token, token), "factor")
    own = replace(
        law,
        gaussian=tuple(tensors.values()),
        state=factor,
        gram_weight=sp.Integer(1),
        _degrees={},
    )
    increment = _increment(chain.output, own, tensors)
    first = own.up_to(increment, 1)
    other = first.renamed({i: Index(n, i.dim) for i, n in zip(first.free, "cd", strict=True)})
    mean = own.mean(increment).scaled(width)
    covariance = own.covariance(first, other).scaled(width)
    return _left(mean, drift, own), _left(covariance, diffusion, own)


def _increment(output: Array, law: Law, tensors: dict[Array, Tensor]) -> Expression:
    token = law.gram.dims[0]
    a, b = Index("a", token), Index("b", token)
    new = Expansion(law, tensors, 2).of(output)
    new = new.renamed(dict(zip(new.free, (a, b), strict=True)))
    old = collect((a, b), [(sp.Integer(1), (law.gram[a, b],))])
    return law.up_to(law.gram_of(new) - old, 2)


def _left(moment: Expression, target: Expression, law: Law) -> Expression:
    """The part of a moment that does not vanish with dt, less its target."""
    width, scaling = law.scaling.width, law.scaling
    kept = moment.map_coefficients(
        lambda c: sp.Add(
            *(
                t
                for t in sp.Add.make_args(sp.expand(c))
                if (d := scaling.degree(t)) is not None and d.bounded >= 0
            )
        )
    )
    ratios = {d: sp.Symbol(f"{d.name}_ratio", positive=True) * width for d in scaling.proportional}
    return kept.map_coefficients(lambda c: c.xreplace(ratios)) - target

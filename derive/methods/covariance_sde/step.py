"""Is the step of the SDE consistent?  Its conditional mean and covariance, derived.

Input: the reduced chain in its step form, and the derived limit.  Output: what is left of
(mean - V)/dt - drift and covariance/dt - diffusion as dt = 1/n goes to zero: no terms, when the
step is consistent.  Nothing is inverted on the way, so the statement holds for singular V.
"""

from __future__ import annotations

import sympy as sp

from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Index, Tensor
from derive.calculus.limit.opaque import reveal
from derive.calculus.limit.order import Law
from derive.calculus.limit.scaling import ratio
from derive.calculus.limit.series import Expansion
from derive.methods.covariance_sde.powers import own_covariance
from derive.methods.covariance_sde.reduce import Chain, step_law
from derive.notation.common.arrays import Array


def leftovers(
    chain: Chain, law: Law, drift: Expression, diffusion: Expression
) -> tuple[Expression, Expression]:
    """Mean and covariance of the step per unit time, less drift and diffusion."""
    own, tensors = step_law(chain, law)
    width = law.scaling.width
    increment = _increment(chain.output, own, tensors)
    first = own.up_to(increment, 1)
    mean = own.mean(increment).scaled(width)
    covariance = own_covariance(first, own).scaled(width)
    return _left(mean, drift, own), _left(covariance, diffusion, own)


def _increment(output: Array, law: Law, tensors: dict[Array, Tensor]) -> Expression:
    token = law.gram.dims[0]
    a, b = Index("a", token), Index("b", token)
    new = Expansion(law, tensors, 2, root=output).of(output)
    new = new.renamed(dict(zip(new.free, (a, b), strict=True)))
    old = collect((a, b), [(sp.Integer(1), (law.gram[a, b],))])
    return law.up_to(law.gram_of(new) - old, 2)


def _left(moment: Expression, target: Expression, law: Law) -> Expression:
    """The part of a moment that does not vanish with dt, less its target."""
    width, scaling = law.scaling.width, law.scaling
    moment = moment.map_coefficients(lambda c: reveal(c, width, 4))
    kept = moment.map_coefficients(
        lambda c: sp.Add(
            *(
                t
                for t in sp.Add.make_args(sp.expand(c))
                if (d := scaling.degree(t)) is not None and d.bounded >= 0
            )
        )
    )
    ratios = {d: ratio(d) * width for d in scaling.proportional}
    return kept.map_coefficients(lambda c: c.xreplace(ratios)) - target

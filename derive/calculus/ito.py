"""Ito's rule: drift and diffusion of the image of a diffusion under a smooth map.

Where V has drift b and diffusion Sigma, f(V) has the drift

    sum_i f_i b_i + 1/2 sum_ij f_ij Sigma_ij,

and f and g have the covariance sum_ij f_i g_j Sigma_ij a unit of time.

Two readings of it.  For finitely many entries, symbols or numbers, the map is given by its first
and second derivatives.  For index expressions it is given by its increment f(V + d) - f(V) to
second order in a tensor d, over two free indices: d has the mean b and d d the mean Sigma.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factors, Tensor, apart

Entry = TypeVar("Entry", bound=Hashable)


def image(
    first: Mapping[Entry, Any],
    second: Mapping[tuple[Entry, Entry], Any],
    drift: Mapping[Entry, Any],
    diffusion: Mapping[tuple[Entry, Entry], Any],
) -> tuple[Any, Any]:
    """Drift and squared noise of f(V), a scalar.

    **Arguments:** `first`, `second`: derivatives of f by the entries of V, `second` by both orders
    of a pair; what is absent is zero.  `drift`, `diffusion`: of these entries and pairs.
    """
    mean = sum(f * drift[i] for i, f in first.items())
    mean += sum(f * diffusion[pair] / 2 for pair, f in second.items())
    square = sum(f * g * diffusion[i, j] for i, f in first.items() for j, g in first.items())
    return mean, square


def image_drift(
    increment: Expression, d: Tensor, drift: Expression, diffusion: Expression
) -> Expression:
    """The drift of the image: every d becomes the drift, every d d the diffusion.

    **Arguments:** `increment` over two free indices; `drift` over two, `diffusion` over four, of
    equal dimensions.
    """
    moments = {1: drift, 2: diffusion}

    def rule(c: Any, factors: Factors) -> list[tuple[Any, Factors]]:
        factors = apart(factors, increment.free)
        held = [f for f in factors if f.tensor == d]
        if len(held) not in moments:  # of higher order in time
            return []
        rest = tuple(f for f in factors if f.tensor != d)
        ends = [i for f in held for i in f.indices]
        return [(c * e, (*rest, *f)) for e, f in moments[len(held)].placed(ends)]

    return increment.map_terms(rule)


def image_noise(increment: Expression, d: Tensor, value: Expression) -> Expression:
    """The part of the increment that is linear in d, with a fluctuation of V in its place.

    Free indices of `value` beyond its first two stay free.
    """
    others = value.free[2:]

    def rule(c: Any, factors: Factors) -> list[tuple[Any, Factors]]:
        factors = apart(factors, increment.free)
        held = [f for f in factors if f.tensor == d]
        if len(held) != 1:
            return []
        rest = tuple(f for f in factors if f.tensor != d)
        return [(c * e, (*rest, *f)) for e, f in value.placed((*held[0].indices, *others))]

    return collect((*increment.free, *others), [p for c, f in increment.terms for p in rule(c, f)])


def image_diffusion(increment: Expression, d: Tensor, diffusion: Expression) -> Expression:
    """The diffusion of the image: the linear part on both pairs of legs."""
    free = diffusion.free
    for _ in range(2):  # each time the pair that is done goes to the end
        pair = diffusion.free[:2]
        mapped = image_noise(
            increment.renamed(dict(zip(increment.free, pair, strict=True))), d, diffusion
        )
        diffusion = collect((*mapped.free[2:], *pair), mapped.terms)
    return collect(free, diffusion.terms)

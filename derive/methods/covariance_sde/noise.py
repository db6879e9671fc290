"""The noise map: the fluctuation of one layer as a linear map of independent Gaussian fields.

Input: the part of the increment that is of order eps, and the laws.  Output: the same fluctuation
written in Gaussian fields of the tokens alone, so that a draw costs products of m x m matrices
and no m^4 tensor is built.

Method: split each monomial into cores (factors joined by growing indices, token legs open), take
their conditional means and covariances, linearise in one core at a time, and give each core an
independent Gaussian field of equal covariance, built from L with L L^T = V (a leg that is paired
by a delta needs no L).  Cores that correlate share fields, by Gram and Schmidt.
"""

from __future__ import annotations

from fractions import Fraction

import sympy as sp

from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factors
from derive.calculus.limit.order import Law
from derive.methods.covariance_sde.cores import Cores
from derive.methods.covariance_sde.fields import (
    NoiseMap,
    absorb_sums,
    merge,
    normalise,
    symmetrise,
    written_out,
)


def noise_map(increment: Expression, law: Law, order: Fraction | int = 1) -> NoiseMap:
    """Noise map of an increment whose monomials are of order <= `order` in eps.

    Raises `Refusal` when the covariance of cores is no sum of pairings of their legs, or that of
    two cores does not pair them alike.
    """
    cores = Cores(law)
    terms: list[tuple[sp.Expr, Factors]] = []
    for coefficient, factors in increment.terms:
        terms.extend(cores.linearise(coefficient, factors, increment.free))
    separated = cores.separated()
    half = Fraction(-order) / 2
    compact = collect(increment.free, [(law.scaling.leading(c, half), f) for c, f in terms])
    compact = cores.combined(compact.map_coefficients(sp.expand), separated)
    fields = tuple(f for f in cores.fields(separated) if f.tensor in compact.tensors())
    compact, fields = normalise(*absorb_sums(compact, fields, cores.factor))
    compact, fields = merge(*symmetrise(compact, fields, cores.factor))
    return NoiseMap(fields, compact, written_out(compact, fields), cores.factor, law.gram)

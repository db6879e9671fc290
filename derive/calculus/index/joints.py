"""Concatenating heads maps the columns of the parts to those of the whole, one to one.

J[h, i, u] is one where column u of the whole is column i of part h.  Sums over it close by the
rules of a bijection, so that heads side by side need nothing else of the calculus.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

import sympy as sp

from derive.calculus.index.contractions import contract_deltas
from derive.calculus.index.factors import Factor, Factors, Index, Tensor, delta_tensor
from derive.notation.common.scalars import Share, extent


def joint_tensor(share: Share) -> Tensor:
    """J[h, i, u] = 1 where column u of the whole is column i of part h, else 0."""
    dims = (share.count, share, share.whole)
    return Tensor(f"J_{share.whole}_{share.count}", dims, "joint")


def contract_joints(
    coeff: sp.Expr, factors: Factors, free: Iterable[Index]
) -> tuple[sp.Expr, Factors]:
    """J is a bijection (h, i) <-> u: sum_u J J' = delta delta, sum_hi J J' = delta, J J = J."""
    if not any(f.tensor.kind == "joint" for f in factors):
        return coeff, factors
    kept, work = set(free), list(factors)
    while True:
        counts = Counter(i for f in work for i in f.indices)
        gone, come = _rule([f for f in work if f.tensor.kind == "joint"], counts, kept)
        if not gone:
            return coeff, tuple(work)
        for one in gone:
            work.remove(one)
        if not come:
            lost = {i for i in gone[0].indices if i not in kept and counts[i] == 1}
            coeff = coeff * _choices(gone[0], lost)
        coeff, out = contract_deltas(coeff, (*work, *come), kept)
        work = list(out)


def _rule(
    joints: list[Factor], counts: Counter[Index], kept: set[Index]
) -> tuple[tuple[Factor, ...], tuple[Factor, ...]]:
    """Joints to take away, and what to put there."""

    def alone(times: int, *indices: Index) -> bool:
        return all(i not in kept and counts[i] == times for i in indices)

    for one in joints:
        h, i, u = one.indices
        if alone(1, u) or alone(1, h, i):
            return (one,), ()
    for one, two in itertools.combinations(joints, 2):
        if one == two:
            return (one, two), (one,)
        (h, i, u), (h2, i2, u2) = one.indices, two.indices
        if u == u2 and alone(2, u):
            return (one, two), (delta_tensor(h.dim)[h, h2], delta_tensor(i.dim)[i, i2])
        if (h, i) == (h2, i2) and alone(2, h, i):
            return (one, two), (delta_tensor(u.dim)[u, u2],)
    return (), ()


def _choices(joint: Factor, lost: set[Index]) -> sp.Expr:
    """The sum of one J over the indices that nothing else holds: u is pinned by (h, i)."""
    h, i, u = joint.indices
    return sp.Mul(*(extent(x.dim) for x in (h, i) if x in lost and u in lost))

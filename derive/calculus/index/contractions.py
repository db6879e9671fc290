"""Takes the sums over indices that have a value in closed form.

Each rule takes a coefficient, a product and its free indices, and returns them without the factors
whose sums it took: deltas, rows of a pattern (which sum to one), the unit diagonal on the sphere.
"""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp

from derive.calculus.index.factors import UNIT, Factors, Index, indices_of
from derive.notation.common.scalars import extent


def contract_deltas(
    coeff: sp.Expr, factors: Factors, free: Iterable[Index]
) -> tuple[sp.Expr, Factors]:
    """Remove every delta that touches a bound index; delta_ii over a bound i is the dimension."""
    kept = set(free)
    work = list(factors)
    position = 0
    while position < len(work):
        factor = work[position]
        if factor.tensor.kind != "delta":
            position += 1
            continue
        i, j = factor.indices
        if i == j:
            work.pop(position)
            bound_elsewhere = i in kept or any(i in f.indices for f in work)
            if not bound_elsewhere:
                coeff = coeff * extent(i.dim)
            continue
        if i in kept and j in kept:
            # entries are zero or one: a square of a delta is the delta
            if any(set(f.indices) == {i, j} for f in work[:position] if f.tensor.kind == "delta"):
                work.pop(position)
            else:
                position += 1
            continue
        work.pop(position)
        old, new = (i, j) if i not in kept else (j, i)
        work = [f.rename({old: new}) for f in work]
        if new not in kept and not any(new in f.indices for f in work):
            coeff = coeff * extent(new.dim)
        position = 0
    return coeff, tuple(work)


def contract_rows(
    coeff: sp.Expr, factors: Factors, free: Iterable[Index]
) -> tuple[sp.Expr, Factors]:
    """sum_k p[a, k] = 1 for a base pattern p, whose rows sum to one."""
    if not any(f.tensor.kind == "pattern" for f in factors):
        return coeff, factors
    kept, work = set(free), list(factors)
    while True:
        counts: dict[Index, int] = {}
        for f in work:
            for i in f.indices:
                counts[i] = counts.get(i, 0) + 1
        done = next(
            (
                f
                for f in work
                if f.tensor.kind == "pattern"
                and f.indices[1] not in kept
                and counts[f.indices[1]] == 1
            ),
            None,
        )
        if done is None:
            return coeff, tuple(work)
        work.remove(done)
        row = done.indices[0]
        if row not in kept and counts[row] == 1:
            coeff = coeff * extent(row.dim)


def contract_units(
    coeff: sp.Expr, factors: Factors, free: Iterable[Index]
) -> tuple[sp.Expr, Factors]:
    """V_aa = 1 for tokens on the sphere."""
    ones = [f for f in factors if f.tensor.meaning == UNIT and f.indices[0] == f.indices[1]]
    if not ones:
        return coeff, factors
    rest = tuple(f for f in factors if f not in ones)
    present = indices_of(rest) | set(free)
    for index in {f.indices[0] for f in ones} - present:
        coeff = coeff * extent(index.dim)
    return coeff, rest

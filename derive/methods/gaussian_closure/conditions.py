"""What structure says of the matrix M of a condition, before any number is put in."""

from __future__ import annotations

import sympy as sp

from derive.calculus.index.expressions import Expression, collect

U = sp.Symbol("u", positive=True)


def has_frequency(matrix: Expression) -> bool:
    """Does the frequency of a Fourier integral stand in it?"""
    return any(U in c.free_symbols for c, _ in matrix.terms)


def is_gram(matrix: Expression) -> bool:
    """Is M a sum of positive multiples of B^T B or B^T S B, hence positive semi-definite?"""
    row, column = matrix.free[-2:]
    for coefficient, factors in matrix.terms:
        if not coefficient.is_positive:
            return False
        chain = [f for f in factors if f.tensor.kind != "delta"]
        if not chain:
            continue
        swap = {row: column, column: row}
        flipped = collect(matrix.free, [(sp.Integer(1), tuple(f.rename(swap) for f in factors))])
        straight = collect(matrix.free, [(sp.Integer(1), factors)])
        middle = [f for f in chain if f.tensor.kind == "covariance"]
        if flipped != straight or len(middle) != len(chain) % 2:
            return False
    return True

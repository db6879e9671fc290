"""In space: the average of what moves tokens, and the score by which it is weighted.

Input: the velocity and M, by which tokens at one point move.  Output: `Rescaled`: the velocity is
sum_b P[a,b] M x[b], 0 terms are left of their difference, and P are the normalised exponentials of
the scores x[a]^T S x[b], S read off the exponent.  Rows of P sum to one and M commutes with exp(t
M), so that in the frame z = exp(-t M) x

    z_a' = sum_b P_ab M (z_b - z_a),    scores z_a^T exp(t M)^T S exp(t M) z_b.

Raises `Leaves` with what stands against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression, collect, single
from derive.calculus.index.factors import Factor, Index, Tensor, apart, delta_tensor
from derive.methods.token_flow.gram import Leaves
from derive.methods.token_flow.lone import COLUMN
from derive.methods.token_flow.names import COUNT, Names
from derive.methods.token_flow.told import told


@dataclass(frozen=True)
class Rescaled:
    """M and S over (i, j)."""

    matrix: Expression
    score: Expression


def rescaled(velocity: Expression, matrix: Expression, names: Names, book: Book) -> Rescaled:
    """M and S, if the velocity is one average of M x whose scores are products of two tokens."""
    gates = [t for t in velocity.tensors() if t.kind == "gate"]
    if len(gates) != 1 or gates[0].dims != (COUNT, COUNT):
        raise Leaves("its weights are not those of one exponential of a score of two tokens")
    (gate,) = gates
    s, tau, i = names.s, names.tau, names.i
    j = Index(COLUMN, i.dim)
    tokens = single(names.x[tau, j], (tau, j)) * single(gate[s, tau], (s, tau))
    left = velocity - collect((s, i), (matrix * tokens).summed(tau, j).terms)
    if not left.is_zero:
        first = told(collect(left.free, left.terms[:1]), names, book)
        raise Leaves(f"{first} is left in its difference to an average of M x[b]")
    exponent, share = book.of[gate].bodies
    if any(f.tensor != names.mass for _, factors in share.terms for f in factors):
        raise Leaves("the exponential in its weights has a factor that moves with the tokens")
    return Rescaled(matrix, _of_pairs(exponent, book.of[gate].indices, (i, j), names))


def _of_pairs(
    exponent: Expression, at_: Sequence[Index], free: tuple[Index, Index], names: Names
) -> Expression:
    """S of an exponent x[query]^T S x[key]."""
    out = []
    for coefficient, factors in exponent.terms:
        named = apart(factors, exponent.free)
        tokens = [f for f in named if f.tensor == names.x]
        others = [f for f in named if f.tensor != names.x]
        if sorted(f.indices[0].name for f in tokens) != sorted(k.name for k in at_) or any(
            f.tensor.kind not in ("constant", "delta") for f in others
        ):
            term = told(collect(exponent.free, [(coefficient, factors)]), names, Book())
            raise Leaves(f"its score has {term}, which is no product of a query and a key")
        query, key = sorted(tokens, key=lambda f: f.indices[0] != at_[0])
        out.append((coefficient, _open(query, key, others, free)))
    return collect(free, out)


def _open(
    query: Factor, key: Factor, others: list[Factor], free: tuple[Index, Index]
) -> tuple[Factor, ...]:
    row, column = query.indices[1], key.indices[1]
    if row == column:
        delta: Tensor = delta_tensor(row.dim)
        return (*others, delta[free])
    return tuple(f.rename({row: free[0], column: free[1]}) for f in others)

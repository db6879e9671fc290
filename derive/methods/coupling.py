"""A bistochastic weight between Gaussian laws: the conditional law of y given x, derived.

Input: a positive kernel exp(E(x, y)).  Output: the law of y given x under E(x, y) + p(x) + q(y)
with the potentials p, q for which both marginals are the given laws.

Steps. The potentials absorb every function of x alone and of y alone, so only y^T A x with A =
d^2 E / dy dx matters (it must be constant: then quadratic potentials suffice). In latent
coordinates x = m_x + F_x z, y = m_y + F z' linear potentials match the means; the plan has
precision [[P1, -T^T], [-T, P2]], T = F^T A F_x. Completing the square in z': z' given z has mean
D T z and covariance D = P2^-1. The marginal of z' is the identity: D + D T T^T D = I. Multiplied
by D^-1 on both sides this is a scalar equation on the spectrum of T T^T, whose positive root is
unique. Only F, a factor of the covariance of y, is needed: no inverse, singular laws are legal.

The one lemma that is cited: the bistochastic scaling is unique (Sinkhorn and Knopp 1967;
Ruschendorf and Thomsen 1993 for laws), so that the plan found here is the plan.
"""

from __future__ import annotations

import sympy as sp

from derive.calculus.defined import Book, depends, differentiate, placed, plus, spread, unit
from derive.calculus.index import Expression, Factor, Index, Tensor, collect, fresh, single
from derive.calculus.tilt import Law, join
from derive.errors import Place, Refusal
from derive.methods.closure_fields import Names


def factor_tensor(names: Names) -> Tensor:
    """F with F F^T = the covariance of the keys."""
    e = names.model.key_dim
    return Tensor("F_key" if names.model.cross else "F_S", (e, e), "factor")


def conditional(kernel: Expression, names: Names, book: Book, place: Place | None) -> Law:
    """The law of y given x."""
    if names.model.positional:
        raise Refusal("undecided: a bistochastic weight of tokens with positions", place)
    exponent = exponent_of(kernel, book, place)
    dx, dy = names.model.state_dim, names.model.key_dim
    i, j = fresh(dy), fresh(dx)
    A = differentiate(differentiate(exponent, names.y, i, book), names.x, j, book)
    if any(depends(A, v, book) for v in (names.x, names.y)):
        raise Refusal(
            "undecided: the kernel of a bistochastic weight must be exp of a quadratic function",
            place,
        )
    # the factor stays inside; A S_x A^T joins two copies of A
    F = factor_tensor(names)
    other = fresh(dx)
    left = join(A, j, single(names.cov[j, other], (j, other)), j)
    middle = join(left, other, placed(A, {i: (k := fresh(dy))}), j)
    row, column = Index("row", dy), Index("column", dy)
    TTt = join(
        single(F[i, row], (i, row)), i, join(middle, k, single(F[k, column], (k, column)), k), i
    )
    TTt = spread(TTt, (row, column))
    D = book.tensor("spectral", (), (TTt,), spectral_root(), (dy, dy))
    a, b, p, q = fresh(dy), fresh(dy), fresh(dy), fresh(dy)
    cov = unit((F[a, p], D[p, q], F[b, q]), (a, b))
    shift = plus(single(names.x[j,], (j,)), -single(names.mean[j,], (j,)))
    mean = plus(single(names.key_mean[a,], (a,)), join(cov, b, join(A, j, shift, j), i))
    return Law(names.y, names.key_mean, names.key_cov, None, (mean, cov, a, b))


def exponent_of(kernel: Expression, book: Book, place: Place | None) -> Expression:
    """E of a kernel exp(E); constants are absorbed."""
    if len(kernel.terms) == 1:
        _, factors = kernel.terms[0]
        if factors and all(f.tensor.kind == "exp" for f in factors):
            return plus(*(book.of[f.tensor].body(f.indices) for f in factors))
    raise Refusal("undecided: bistochastic takes a kernel that is one exponential", place)


def marginal_equation() -> tuple[Expression, Tensor, Tensor]:
    """D + D T T^T D - I, the covariance of z' minus the identity, by total covariance.

    Cov z' = Cov(z' | z) + (D T) Cov(z) (D T)^T with Cov z = I.
    """
    r = sp.Symbol("r", positive=True, integer=True)
    D = Tensor("D", (r, r), "root", symmetric=True)
    T = Tensor("T", (r, r), "latent")
    i, j, k, m, n, p = (Index(n, r) for n in "ijkmnp")
    slope = unit((D[i, k], T[k, m]), (i, m))
    spread_of_mean = join(slope, m, placed(slope, {i: j}), m)
    identity = single(Tensor("delta", (r, r), "delta", symmetric=True)[i, j], (i, j))
    del n, p
    return plus(single(D[i, j], (i, j)), spread_of_mean, -identity), D, T


def spectral_root() -> sp.Lambda:
    """g with D = g(T T^T): the unique positive root of the marginal equation on the spectrum."""
    equation, D, T = marginal_equation()
    t, inverse = sp.Symbol("t", nonnegative=True), sp.Symbol("e", positive=True)
    scalar = sp.Integer(0)
    for coefficient, factors in equation.terms:
        scalar += coefficient * sp.Mul(*(_eigenvalue(f, D, T, t, inverse) for f in factors))
    polynomial = sp.expand(sp.simplify(scalar * inverse**2))  # multiply by D^-1 on both sides
    roots = [r for r in sp.solve(polynomial, inverse) if r.subs(t, 2) > 0]
    assert len(roots) == 1, "the positive root is unique"
    return sp.Lambda(t, 1 / roots[0])


def _eigenvalue(factor: Factor, D: Tensor, T: Tensor, t: sp.Symbol, inverse: sp.Symbol) -> sp.Expr:
    """What a factor is on an eigenvector of T T^T (D commutes with it)."""
    if factor.tensor == D:
        return 1 / inverse
    return sp.sqrt(t) if factor.tensor == T else sp.Integer(1)


__all__ = ["collect", "conditional", "factor_tensor", "marginal_equation", "spectral_root"]

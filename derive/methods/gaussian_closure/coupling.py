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

from derive.calculus.gaussian.tilt import GaussianLaw, join
from derive.calculus.index.defined import Book, depends, differentiate, placed, plus, spread, unit
from derive.calculus.index.expressions import Expression, single
from derive.calculus.index.factors import Factor, Index, Tensor, fresh
from derive.errors import Place, Refusal
from derive.methods.gaussian_closure.names import Names


def factor_tensor(names: Names) -> Tensor:
    """F with F F^T = the covariance of the keys."""
    e = names.model.key_dim
    return Tensor("F_key" if names.model.cross else "F_S", (e, e), "factor")


def query_factor(names: Names) -> Tensor:
    """F with F F^T = the covariance of the queries."""
    d = names.model.state_dim
    return Tensor("F_S", (d, d), "factor")


def conditional(kernel: Expression, names: Names, book: Book, place: Place | None) -> GaussianLaw:
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
    F_x, latent = query_factor(names), Index("latent", dx)
    half = join(single(F[i, row], (i, row)), i, A, i)
    T = spread(join(half, j, single(F_x[j, latent], (j, latent)), j), (row, latent))
    if (T, D) not in [known[1:] for known in book.couplings]:
        book.couplings.append((exponent, T, D))
    a, b, p, q = fresh(dy), fresh(dy), fresh(dy), fresh(dy)
    cov = unit((F[a, p], D[p, q], F[b, q]), (a, b))
    shift = plus(single(names.x[j,], (j,)), -names.query_law().at(j))
    mean = plus(names.key_law().at(a), join(cov, b, join(A, j, shift, j), i))
    return GaussianLaw(names.y, names.key_mean, names.key_cov, None, (mean, cov, a, b))


def exponent_of(kernel: Expression, book: Book, place: Place | None) -> Expression:
    """E of a kernel exp(E); constants are absorbed."""
    if len(kernel.terms) == 1:
        _, factors = kernel.terms[0]
        if factors and all(f.tensor.kind == "exp" for f in factors):
            return plus(*(book.of[f.tensor].body(f.indices) for f in factors))
    raise Refusal("undecided: bistochastic takes a kernel that is one exponential", place)


LATENT = sp.Symbol("r", positive=True, integer=True)


def latent_tensors() -> tuple[Tensor, Tensor, Tensor]:
    """D = P2^-1, T and C = Cov z, the tensors of the latent plan."""
    r = LATENT
    D = Tensor("D", (r, r), "root", symmetric=True)
    return D, Tensor("T", (r, r), "latent"), Tensor("C", (r, r), "covariance", symmetric=True)


def block_inverse(first: Expression | None = None) -> Expression:
    """Cov z' under the precision [[P1, -T^T], [-T, P2]]: D + D T C T^T D, C = (P1 - T^T D T)^-1.

    z' given z has mean D T z and covariance D (complete the square), so this is the law of total
    covariance; `first`: what C is (over k, l).
    """
    D, T, C = latent_tensors()
    i, j, k, m, n = (Index(n, LATENT) for n in "ijkmn")
    slope = unit((D[i, k], T[k, m]), (i, m))
    middle = placed(first, {k: m, Index("l", LATENT): n}) if first else single(C[m, n], (m, n))
    spread_of_mean = join(join(slope, m, middle, m), n, placed(slope, {i: j}), m)
    return plus(single(D[i, j], (i, j)), spread_of_mean)


def marginal_equation() -> tuple[Expression, Tensor, Tensor]:
    """D + D T T^T D - I: both marginals are standard, C = I and Cov z' = I."""
    D, T, _ = latent_tensors()
    i, j, k, m = (Index(n, LATENT) for n in "ijkl")
    identity = Tensor("delta", (LATENT, LATENT), "delta", symmetric=True)
    second = block_inverse(single(identity[k, m], (k, m)))
    return plus(second, -single(identity[i, j], (i, j))), D, T


T_SQUARED, INVERSE = sp.Symbol("t", nonnegative=True), sp.Symbol("e", positive=True)


def spectral_polynomial() -> sp.Poly:
    """The marginal equation on the spectrum, D^-1 multiplied on both sides: in e (of D^-1) and t
    (of T T^T)."""
    equation, D, T = marginal_equation()
    scalar = sp.Integer(0)
    for coefficient, factors in equation.terms:
        values = (_eigenvalue(f, D, T, T_SQUARED, INVERSE) for f in factors)
        scalar += coefficient * sp.Mul(*values)
    return sp.Poly(sp.expand(sp.simplify(scalar * INVERSE**2)), INVERSE)


def completed_square() -> tuple[sp.Expr, sp.Expr]:
    """(h, q) with (D^-1 - h I)^2 = T T^T + q I, from the polynomial; its coefficient of t is 1."""
    lead, linear, constant = (-spectral_polynomial()).all_coeffs()
    assert lead == 1
    shift = -linear / 2
    rest = sp.expand(shift**2 - constant)
    assert sp.simplify(rest.coeff(T_SQUARED, 1) - 1) == 0
    return shift, rest.coeff(T_SQUARED, 0)


def spectral_root() -> sp.Lambda:
    """g with D = g(T T^T): the unique positive root of the marginal equation on the spectrum."""
    polynomial = spectral_polynomial().as_expr()
    roots = [r for r in sp.solve(polynomial, INVERSE) if r.subs(T_SQUARED, 2) > 0]
    assert len(roots) == 1, "the positive root is unique"
    return sp.Lambda(T_SQUARED, 1 / roots[0])


def singular_value_map() -> sp.Lambda:
    """f with D T = U f(s) W^T for T = U s W^T: f(s) = s g(s^2)."""
    s = sp.Symbol("s", nonnegative=True)
    return sp.Lambda(s, sp.simplify(s * spectral_root()(s**2)))


def _eigenvalue(factor: Factor, D: Tensor, T: Tensor, t: sp.Symbol, inverse: sp.Symbol) -> sp.Expr:
    """What a factor is on an eigenvector of T T^T (D commutes with it)."""
    if factor.tensor == D:
        return 1 / inverse
    return sp.sqrt(t) if factor.tensor == T else sp.Integer(1)


__all__ = [
    "block_inverse",
    "completed_square",
    "conditional",
    "factor_tensor",
    "marginal_equation",
    "singular_value_map",
    "spectral_root",
]

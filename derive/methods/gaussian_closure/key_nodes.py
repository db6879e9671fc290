"""Averages over the keys that have no closed form: sums over the nodes of a cubature.

Input: an integrand in the key y.  Output: sum_k w_k f(y_k), an expression in x, the nodes and their
weights, which are given with the law: differentiation by x, evaluation and emission know them as
any array.  What they leave of the error is estimated at run time, by finer nodes.
"""

from __future__ import annotations

import mpmath
import sympy as sp

from derive.calculus.arrays.scalar_functions import singular_points
from derive.calculus.gaussian.tilt import NoTilt
from derive.calculus.index.defined import Book, spread, touches
from derive.calculus.index.expressions import Expression, collect, single
from derive.calculus.index.factors import Factor, Index, Tensor, fresh
from derive.methods.gaussian_closure.names import Names

NODES = sp.Symbol("nodes", positive=True, integer=True)
#: (nodes, weights) of the law of tokens, and of that of keys
OF_TOKENS, OF_KEYS = ("token_nodes", "token_weights"), ("key_nodes", "key_weights")


def over_nodes(integrand: Expression, names: Names, book: Book) -> Expression:
    """The average over the keys' law by nodes of it.

    Raises NoTilt where it need not exist or is no smooth function of the key: exponents of at most
    linear growth in y and functions of at most the growth of a power are legal, without kinks and
    poles in reach.
    """
    for _, factors in integrand.terms:
        for f in factors:
            _require_average(f, names.y, book)
    at, share = OF_KEYS if names.model.cross else OF_TOKENS
    points, k = Tensor(at, (NODES, *names.y.dims), "constant"), fresh(NODES)
    moved = _at_points(integrand, names.y, points, k, book)
    product = moved * single(Tensor(share, (NODES,), "constant")[k,], (k,))
    return spread(product.summed(k), integrand.free)


FAST = 12.0  # a degree that stands for growth beyond any power


def _require_average(f: Factor, variable: Tensor, book: Book) -> None:
    if f.tensor == variable or not touches(f.tensor, variable, book):
        return
    if book.of[f.tensor].kind == "exp":
        body = book.of[f.tensor].bodies[0]
        degree = max(sum(g.tensor == variable for g in fs) for _, fs in body.terms)
        if degree > 2:
            raise NoTilt(f"the exponent has degree {degree} in {variable.name}; at most 2 is legal")
        if _growth(body, variable, book) > 1.01:
            raise NoTilt(
                f"the exponent is no polynomial in {variable.name}, and may grow faster than it: "
                "the average over the keys need not exist"
            )
    elif not _factor_growth(f, variable, book) < FAST:
        raise NoTilt(f"a function of {variable.name} may grow faster than any power")
    _require_smooth(f, variable, book)


def _growth(expression: Expression, variable: Tensor, book: Book) -> float:
    """The degree to which it may grow in a vector; what falls counts as a constant."""
    return max(
        (sum(_factor_growth(f, variable, book) for f in fs) for _, fs in expression.terms),
        default=0.0,
    )


def _factor_growth(f: Factor, variable: Tensor, book: Book) -> float:
    if f.tensor == variable:
        return 1.0
    if not touches(f.tensor, variable, book):
        return 0.0
    meaning = book.of[f.tensor]
    if meaning.kind != "ridge":
        return FAST
    s = sp.Symbol("s", real=True)
    plain = meaning.data[0].body(s)
    inside = {p: sp.Rational(7, 5) for p in plain.free_symbols - {s}}
    body, power = sp.lambdify(s, plain.xreplace(inside), "mpmath"), 0.0
    for side in (1, -1):
        near, far = (abs(body(mpmath.mpf(side * size))) for size in (1e6, 2e6))
        if not (mpmath.isfinite(near) and mpmath.isfinite(far)):
            return FAST
        if near > 0 and far > near:
            power = max(power, float(mpmath.log(far / near) / mpmath.log(2)))
    return power * _growth(meaning.bodies[0], variable, book) if power < FAST else FAST


def _require_smooth(f: Factor, variable: Tensor, book: Book) -> None:
    """Raises NoTilt for a kink or a pole that the argument of a function may reach."""
    meaning = book.of.get(f.tensor)
    if meaning is None or not touches(f.tensor, variable, book):
        return
    for body in meaning.bodies:
        for _, factors in body.terms:
            for g in factors:
                _require_smooth(g, variable, book)
    if meaning.kind != "ridge":
        return
    rule, argument = meaning.data[0], meaning.bodies[0]
    places = singular_points(rule.body)
    lifted = any(not fs and c.is_positive for c, fs in argument.terms)
    if places == () or (places == (0,) and lifted):
        return
    raise NoTilt(
        f"{rule.name} of a function of {variable.name} has a kink or a pole, and a cubature over "
        "the keys would be coarse there; keep it out of reach by a positive number, as in "
        "y / sqrt(y @ y / d + eps)"
    )


def _at_points(
    expression: Expression, variable: Tensor, points: Tensor, k: Index, book: Book
) -> Expression:
    """y[j] becomes y[k, j], inside definitions too."""

    def moved(f: Factor) -> Factor:
        if f.tensor == variable:
            return points[k, f.indices[-1]]
        if not touches(f.tensor, variable, book):
            return f
        meaning, at = book.of[f.tensor], Index("at", NODES)
        bodies = [spread(_at_points(b, variable, points, at, book), (at, *b.free))
                  for b in meaning.bodies]  # fmt: skip
        made = book.tensor(meaning.kind, (at, *meaning.indices), bodies, meaning.data)
        return made[(k, *f.indices)]

    products = [(c, tuple(moved(f) for f in fs)) for c, fs in expression.terms]
    return collect((*expression.free, k), products)


def has_nodes(expression: Expression, book: Book) -> bool:
    """Is a cubature over the keys in it?"""
    return any(
        t.name in (OF_TOKENS[1], OF_KEYS[1])
        or (t in book.of and any(has_nodes(b, book) for b in book.of[t].bodies))
        for t in expression.tensors()
    )


__all__ = ["NODES", "OF_KEYS", "OF_TOKENS", "has_nodes", "over_nodes"]

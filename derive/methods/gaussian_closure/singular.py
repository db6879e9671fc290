"""Where a velocity is singular in x: kinks, jumps and poles, as zeros of quadratics.

Input: the velocity as an expression and its book.  Output: None for a smooth velocity, else
quadratics q(x) >= 0, near whose zeros alone the velocity is singular (none: it is, but where, these
rules do not say).

Rules.  A scalar function is singular at its kinks and where a root, a logarithm or a quotient in it
vanishes.  f(s) with s affine in x: q = (s - kink)^2.  f(s) with s a sum of squares, singular at
zero: q = s, 1/s among them.  E f(s), s ~ N(mu, v): smooth but where both vanish, q = (mu - kink)^2
+ v.
"""

from __future__ import annotations

import sympy as sp

from derive.calculus.arrays.scalar_functions import S, singular_points
from derive.calculus.gaussian.tilt import NoTilt, split
from derive.calculus.index.defined import Book, Definition, depends, plus, spread
from derive.calculus.index.expressions import Expression, scalar
from derive.errors import Refusal
from derive.methods.gaussian_closure.conditions import is_gram
from derive.methods.gaussian_closure.definitions import defined_in
from derive.methods.gaussian_closure.fields import Rule
from derive.methods.gaussian_closure.key_nodes import NODES
from derive.methods.gaussian_closure.names import Names
from derive.methods.gaussian_closure.profiles import composed
from derive.notation.closures.model import ClosureModel, trace_closure
from derive.notation.common.arrays import walk


def singular_places(
    velocity: Expression, names: Names, book: Book
) -> tuple[Expression, ...] | None:
    """The quadratics, over the block index at most; () where the place is not known."""
    found: dict[Expression, None] = {}
    singular, known = False, True
    for tensor in defined_in(book, velocity):
        meaning = book.of[tensor]
        if meaning.kind not in ("ridge", "smooth", "reciprocal"):
            continue
        if not any(depends(b, names.x, book) for b in meaning.bodies):
            continue
        if any(_of_nodes(b) for b in meaning.bodies):
            continue  # of one node among many
        places: tuple[sp.Expr, ...] | None = (sp.Integer(0),)
        if meaning.kind != "reciprocal":
            rule: Rule = meaning.data[0]
            places = singular_points(rule.body)
        for place in places if places is not None else (None,):
            try:
                q = None if place is None else _quadratic(meaning, place, names, book)
            except _Smooth:
                continue
            singular = True
            if q is None:
                known = False
            else:
                found[q] = None
    if not singular:
        return None
    return tuple(found) if known else ()


def require_integrable(velocity: Expression, names: Names, book: Book, place: object) -> None:
    """Raises Refusal where a scalar function of a normal variable has a pole that no mean survives.

    Such is 1 / (1 + s); 1 / sqrt(|s|) is not.
    """
    for tensor in defined_in(book, velocity):
        meaning = book.of[tensor]
        if meaning.kind not in ("ridge", "smooth"):
            continue
        if any(_of_nodes(body) for body in meaning.bodies):
            continue  # of a node, which is no normal variable
        if meaning.kind == "ridge":
            try:
                if not split(meaning.bodies[0], names.x, book).matrix.is_zero:
                    continue  # of a square: that depends on the dimension
            except NoTilt:
                continue
        body = meaning.data[0].body
        for point in singular_points(body) or ():
            order = _pole(body, point)
            if order > 0.99:
                raise Refusal(
                    f"{meaning.data[0].name} of s, s normal, has a pole of order {order:.2g} at "
                    f"s = {point}: its Gaussian mean does not exist; a pole must be of order less "
                    "than one, or out of reach, as in 1 / (1 + s**2)",
                    place,  # type: ignore[arg-type]
                )


def _of_nodes(body: Expression) -> bool:
    return any(i.dim == NODES for i in body.free)


def _pole(body: sp.Lambda, point: sp.Expr) -> float:
    """p of |f| ~ distance^-p, at parameters of size one."""
    import mpmath

    plain = body(S)
    plain = plain.xreplace({p: sp.Rational(7, 5) for p in plain.free_symbols - {S}})
    at = point.xreplace({p: sp.Rational(7, 5) for p in point.free_symbols})
    f = sp.lambdify(S, plain, "mpmath")
    worst = 0.0
    with mpmath.workdps(60):
        centre = mpmath.mpf(str(sp.N(at, 50)))
        for side in (1, -1):
            near, far = (abs(f(centre + side * mpmath.mpf(h))) for h in ("1e-20", "1e-18"))
            if near > 0 and far > 0 and mpmath.isfinite(near):
                worst = max(worst, float(mpmath.log(near / far) / mpmath.log(100)))
    return worst


class _Smooth(Exception):
    """The function is singular at a value that its argument never takes."""


def _quadratic(meaning: Definition, place: sp.Expr, names: Names, book: Book) -> Expression | None:
    argument = meaning.bodies[0]
    if any(i.dim == names.blocks for b in meaning.bodies for i in b.free):
        return None
    try:
        parts = split(argument, names.x, book)
        if meaning.kind == "smooth":
            split(meaning.bodies[1], names.x, book)
    except NoTilt:
        if meaning.kind == "reciprocal":  # a normaliser, positive where its weight is
            raise _Smooth from None
        return None
    if meaning.kind == "reciprocal" and not (parts.constant.is_zero and parts.linear.is_zero):
        raise _Smooth
    if parts.matrix.is_zero:
        gap = plus(argument, scalar(-place, argument.free))
        q = gap * gap
        if meaning.kind == "smooth":
            q = plus(q, spread(meaning.bodies[1], q.free))
    else:
        if place != 0 or meaning.kind == "smooth" or not is_gram(_negative(parts.matrix)):
            return None
        if parts.linear.is_zero and not parts.constant.is_zero and _positive(parts.constant):
            raise _Smooth
        q = argument
    return q.summed(*q.free)


def _negative(matrix: Expression) -> Expression:
    """`split` gives -M of y^T M y / 2."""
    return matrix.scaled(sp.Integer(-1))


def _positive(constant: Expression) -> bool:
    return all(c.is_positive and not factors for c, factors in constant.terms)


def has_kinks(model: ClosureModel) -> bool:
    """Does the text hold a function with kinks?  Gauss-Hermite is then a coarse reference."""
    for node in walk(trace_closure(model).velocity):
        if node.op == "function" and node.data[0] != "exp":
            for body in (node.data[1], composed(node)[2]):
                points = singular_points(body)
                # of a sum of squares in x: no kink in the keys, but one in the queries
                if points is None or points:
                    return True
    return False


__all__ = ["has_kinks", "require_integrable", "singular_places", "singular_points"]

"""Is the velocity a gradient, in which metric, and of what energy?

Input: the velocity w over (token, coordinate).  Output: `Gradient`: with g_a the weight of token a
in the metric, m_a g_a v_a is the gradient of E by x_a (on the sphere its tangential part is that
of E restricted).  The test is symmetry of the derivative of m_a g_a v_a by x_b, tangential on the
sphere; E is the line integral of the velocity from the origin, and is differentiated back.

Weights that are tried: 1, and the inverse of what all terms of a token's velocity share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import and_

import sympy as sp

from derive.calculus.gaussian.tilt import _standard
from derive.calculus.index.defined import Book, differentiate, placed, plus, spread
from derive.calculus.index.expressions import Expression, collect, scalar, single
from derive.calculus.index.factors import (
    Factor,
    Factors,
    Index,
    Tensor,
    apart,
    delta_tensor,
    fresh,
    indices_of,
)
from derive.methods.gaussian_closure.fields import Rule
from derive.methods.token_flow.gram import OTHER, in_products
from derive.methods.token_flow.names import Names


@dataclass(frozen=True)
class Integral(Rule):
    """An antiderivative of the rule `of`."""

    of: Rule


@dataclass(frozen=True)
class Gradient:
    """`weight`: g_a over (a,), None where the velocity is no gradient; `weighted`: g_a v_a;
    `energy`: a number, None where the line integral has no closed form; `left`: a term of the
    antisymmetric part, where the velocity is no gradient."""

    weight: Expression | None
    weighted: Expression | None = None
    energy: Expression | None = None
    left: Expression | None = None
    positive: bool = True


def gradient(velocity: Expression, names: Names, book: Book) -> Gradient:
    """The metric in which the velocity is a gradient, and the energy; or what is left."""
    left = None
    for weight, weighted in _weightings(unrolled(velocity, book), names, book):
        rest = antisymmetric(weighted, names, book)
        if rest.is_zero:
            positive = _is_positive(weight, book)
            return Gradient(weight, weighted, _energy(weighted, names, book), positive=positive)
        left = left or collect(rest.free, rest.terms[:1])
    return Gradient(None, left=left)


def _is_positive(weight: Expression, book: Book) -> bool:
    """A normaliser whose coefficients are positive; its weights have one sign as it is."""
    own = {f.tensor for _, factors in weight.terms for f in factors if f.indices == weight.free}
    rules = [book.of[t].data[0] for t in own if t in book.of and book.of[t].kind == "ridge"]
    bodies = [r.body(sp.Dummy(positive=True)) for r in rules]
    bodies += [r.body(sp.Dummy(negative=True)) for r in rules]
    signs = (b.is_positive or b.is_real is False for b in bodies)  # a root has no value below zero
    return all(signs) and all(c.is_positive for c, _ in weight.terms)


def unrolled(expression: Expression, book: Book) -> Expression:
    """Every gate as its weight times the reciprocal of the sum of weights."""
    out = []
    for coefficient, factors in expression.terms:
        product = scalar(coefficient, expression.free)
        named = apart(factors, expression.free)
        for f in named:
            product = product * _unrolled_factor(f, book)
        inside = indices_of(named) - set(expression.free)
        out.append(spread(product.summed(*inside), expression.free))
    return plus(*out)


def _unrolled_factor(factor: Factor, book: Book) -> Expression:
    meaning = book.of.get(factor.tensor)
    own = tuple(dict.fromkeys(factor.indices))
    if meaning is None:
        return single(factor, own)
    bodies = [unrolled(b, book) for b in meaning.bodies]
    if meaning.kind != "gate":
        made = book.tensor(meaning.kind, meaning.indices, bodies, meaning.data)
        return single(made[factor.indices], own)
    exponential = book.tensor("exp", *_standard(meaning.indices, (bodies[0],)))
    weight = single(exponential[meaning.indices], meaning.indices) * bodies[1]
    weight = spread(weight, meaning.indices)
    last = meaning.indices[-1]
    outer = tuple(i for i in meaning.indices if i != last)
    total = book.tensor("reciprocal", *_standard(outer, (weight.summed(last),)))
    share = weight * single(total[outer], outer)
    return placed(share, dict(zip(meaning.indices, factor.indices, strict=True)))


def _weightings(
    velocity: Expression, names: Names, book: Book
) -> Iterator[tuple[Expression, Expression]]:
    """(g, g v): one, and the inverse of the factors of token a alone that all terms share."""
    a = names.s
    yield scalar(sp.Integer(1), (a,)), velocity
    terms = [
        Counter(
            f for f in factors if f.indices == (a,) and f.tensor.kind in ("reciprocal", "ridge")
        )
        for _, factors in velocity.terms
    ]
    shared = sorted(reduce(and_, terms).elements(), key=str) if terms else []
    if not shared:
        return
    weight, out = scalar(sp.Integer(1), (a,)), []
    for factor in shared:
        weight = weight * _inverse(factor, book)
    for coefficient, factors in velocity.terms:
        left = list(factors)
        for factor in shared:
            left.remove(factor)
        out.append((coefficient, tuple(left)))
    negative = all(c.is_negative for c, _ in weight.terms)
    weighted = collect(velocity.free, out)
    yield (-weight, -weighted) if negative else (weight, weighted)


def _inverse(factor: Factor, book: Book) -> Expression:
    meaning = book.of[factor.tensor]
    if meaning.kind == "reciprocal":
        return meaning.body(factor.indices)
    rule, order = meaning.data
    assert order == 0, "velocities hold functions, not their derivatives"
    (s,) = rule.body.variables
    body = sp.Lambda(s, 1 / rule.body.expr)
    inverse = Rule(book.named(f"inverse_{rule.name}", body), body)
    made = book.tensor("ridge", meaning.indices, meaning.bodies, (inverse, 0))
    return single(made[factor.indices], factor.indices)


def antisymmetric(weighted: Expression, names: Names, book: Book) -> Expression:
    """Derivative of m_a w_a by x_b less its transpose, tangential on the sphere."""
    a, b, i = names.s, OTHER, names.i
    j = Index("j", i.dim)
    massive = weighted * single(names.mass[(a,)], (a,))
    slope = spread(differentiate(massive, names.x, (b, j), book), (a, i, b, j))
    slope = _on_diagonals(slope)
    turned = _on_diagonals(spread(slope.renamed({a: b, b: a, i: j, j: i}), slope.free))
    rest = plus(slope, -turned)
    if rest.is_zero or not names.model.sphere:
        return rest
    k, p = fresh(i.dim), fresh(i.dim)
    rest = placed(rest, {i: k, j: p}) * _tangent(a, i, k, names) * _tangent(b, j, p, names)
    rest = in_products(spread(rest.summed(k, p), (a, i, b, j)), names, book, "some")
    return _on_diagonals(rest)


def _on_diagonals(expression: Expression) -> Expression:
    """Behind delta_ab, both free, b is a."""

    def rule(coefficient: sp.Expr, factors: Factors) -> list[tuple[sp.Expr, Factors]]:
        out = factors
        for f in factors:
            if f.tensor.kind == "delta" and f.indices[0] != f.indices[1]:
                first, second = sorted(f.indices, key=expression.free.index)
                out = tuple(g if g == f else g.rename({second: first}) for g in out)
        return [(coefficient, out)]

    return expression.map_terms(rule)


def _tangent(a: Index, i: Index, k: Index, names: Names) -> Expression:
    """delta_ik - x_ai x_ak over (a, i, k)."""
    unit = single(delta_tensor(i.dim)[i, k], (i, k))
    along = single(names.x[a, i], (a, i)) * single(names.x[a, k], (a, k))
    return spread(plus(unit, -along), (a, i, k))


def _energy(weighted: Expression, names: Names, book: Book) -> Expression | None:
    """The line integral of sum_a m_a <w_a, x_a> from 0 to x, if its gradient is m_a w_a."""
    a, i = names.s, names.i
    work = weighted * single(names.mass[(a,)], (a,)) * single(names.x[a, i], (a, i))
    groups: dict[Factor | None, list[tuple[sp.Expr, Factors]]] = {}
    for coefficient, factors in work.summed(a, i).terms:
        functions = [f for f in factors if f.tensor in book.of]
        if len(functions) > 1:
            return None
        inside = functions[0] if functions else None
        if inside is not None:  # every term with the function at the same indices
            at = tuple(Index(f"e{p}", i.dim) for p, i in enumerate(inside.indices))
            names_ = dict(zip(inside.indices, at, strict=True))
            factors = tuple(f.rename(names_) for f in apart(factors, inside.indices))
            inside = inside.rename(names_)
        groups.setdefault(inside, []).append((coefficient, factors))
    parts = [_integrated(f, products, names, book) for f, products in groups.items()]
    if any(p is None for p in parts):
        return None
    energy = plus(*(p for p in parts if p is not None))
    return energy if _is_energy(energy, weighted, names, book) else None


def _is_energy(energy: Expression, weighted: Expression, names: Names, book: Book) -> bool:
    a, i = names.s, names.i
    slope = spread(differentiate(energy, names.x, (a, i), book), (a, i)).map_terms(
        lambda c, f: [(c, tuple(_lowered(g, book) for g in f))]
    )
    massive = spread(weighted * single(names.mass[(a,)], (a,)), (a, i))
    return plus(slope, -massive).is_zero


def _lowered(factor: Factor, book: Book) -> Factor:
    """The derivative of an integral is the function."""
    meaning = book.of.get(factor.tensor)
    if meaning is None or meaning.kind != "ridge" or meaning.data[1] != 1:
        return factor
    rule = meaning.data[0]
    if not isinstance(rule, Integral):
        return factor
    own = book.tensor("ridge", meaning.indices, meaning.bodies, (rule.of, 0))
    return own[factor.indices]


def _integrated(
    inside: Factor | None, products: list[tuple[sp.Expr, Factors]], names: Names, book: Book
) -> Expression | None:
    """Terms that share one function f(e), or none: their share of the energy.

    Along s x the terms of degree h in x are P f(e0 + s^h e): for P = k e that integrates to
    k / h times the integral of f.
    """
    x = names.x
    if inside is None:
        degrees = [(c / sum(f.tensor == x for f in fs), fs) for c, fs in products]
        return collect((), degrees)
    meaning = book.of[inside.tensor]
    own = inside.indices
    body = meaning.body(own)
    moving = [(c, f) for c, f in body.terms if any(g.tensor == x for g in f)]
    powers = {sum(g.tensor == x for g in f) for _, f in moving}
    masses = tuple(f for f in products[0][1] if f.tensor == names.mass)
    bare = []
    for c, fs in products:
        left = [f for f in fs if f != inside]
        for m in masses:
            if m not in left:
                return None
            left.remove(m)
        bare.append((c, tuple(left)))
    prefactor, moved = collect(own, bare), collect(own, moving)
    if inside.tensor.symmetric:  # a sum over both orders of the pair
        turned = spread(prefactor.renamed(dict(zip(own, reversed(own), strict=True))), own)
        prefactor = plus(prefactor, turned).scaled(sp.Rational(1, 2))
    if len(powers) != 1 or not moved.terms or len(prefactor.terms) != len(moved.terms):
        return None
    ratio = sp.cancel(prefactor.terms[0][0] / moved.terms[0][0])
    if not plus(prefactor, -moved.scaled(ratio)).is_zero:
        return None
    function = _antiderivative(inside.tensor, book)
    if function is None:
        return None
    whole = collect((), [(ratio / powers.pop(), (*masses, function[own]))])
    return whole


def _antiderivative(tensor: Tensor, book: Book) -> Tensor | None:
    """The tensor of a function whose derivative is this one's."""
    meaning = book.of[tensor]
    if meaning.kind == "exp":
        return tensor
    if meaning.kind != "ridge" or meaning.data[1] != 0:
        return None
    rule = meaning.data[0]
    (s,) = rule.body.variables
    found = sp.integrate(rule.body.expr, s)
    if found.has(sp.Integral, sp.Piecewise) or sp.simplify(found.diff(s) - rule.body.expr) != 0:
        return None
    whole = Integral(f"integral_of_{rule.name}", sp.Lambda(s, found), rule)
    return book.tensor("ridge", meaning.indices, meaning.bodies, (whole, 0))

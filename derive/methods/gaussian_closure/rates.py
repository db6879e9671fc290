"""The projected rates of a velocity: in closed form, as Fourier integrals, or by cubature.

Input: a trace and its velocity.  Output: `Rates`, by the first of the three routes that reaches
them, with the reason why the ones before it do not in words.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.calculus.arrays.scalar_functions import regular_order
from derive.calculus.gaussian.tilt import NoTilt, average
from derive.calculus.index.defined import Book, differentiate, plus, spread
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Index, Tensor
from derive.calculus.written.meanings import expression_text
from derive.methods.gaussian_closure.conditions import U
from derive.methods.gaussian_closure.definitions import defined_in
from derive.methods.gaussian_closure.fields import Reader, Rule, velocity_of
from derive.methods.gaussian_closure.key_nodes import has_nodes
from derive.methods.gaussian_closure.names import Names
from derive.methods.gaussian_closure.result import CLOSED, CUBATURE, FOURIER, Form, Wave
from derive.methods.gaussian_closure.scalar_rules import fourier_rule
from derive.methods.gaussian_closure.singular import singular_places
from derive.notation.closures.model import ClosureTrace


@dataclass(frozen=True)
class Rates:
    """Projected rates: closed forms, waves to integrate, a velocity to average by cubature."""

    route: str
    mean: Expression
    jacobian: Expression
    waves: tuple[Wave, ...] = ()
    cubature: Expression | None = None
    through: tuple[Form, ...] | None = None
    singular: tuple[Expression, ...] | None = None
    facts: tuple[str, ...] = ()


def rates_of(traced: ClosureTrace, velocity: Expression, names: Names, book: Book) -> Rates:
    model = traced.model
    block = (names.s,) if model.positional else ()
    i, j = Index("i", model.state_dim), Index("j", model.state_dim)

    def projected(field_: Expression) -> tuple[Expression, Expression]:
        slope = differentiate(field_, names.x, j, book)
        law, before = names.query_law(), list(book.conditions)
        try:
            mean, jacobian = average(field_, law, book), average(slope, law, book)
        except NoTilt:
            book.conditions[:] = before  # of integrals that are not taken
            raise
        for tensor in defined_in(book, mean, jacobian):
            if book.of[tensor].kind in ("smooth", "ridge"):
                rule, order = book.of[tensor].data
                if regular_order(rule.body, order) < order:
                    raise NoTilt(f"derivative {order} of {rule.name} is no function")
        return spread(mean, (*block, i)), spread(jacobian, (*block, i, j))

    try:
        return Rates(CLOSED, *projected(velocity))
    except NoTilt as problem:
        reason = str(problem)
    try:
        if has_nodes(velocity, book):
            raise NoTilt(reason)
        base, waves = _waves(traced, names, book, projected, reason)
        facts = tuple(
            f"{w.rule.name}: derivative of order {w.rule.order} is integrable; Taylor part of "
            f"order below {w.rule.order}, the rest a Fourier integral of tilts with an imaginary "
            "parameter"
            for w in waves
        )
        return Rates(FOURIER, base[0], base[1], waves, facts=facts)
    except NoTilt as problem:
        reason = str(problem)
    known, rest = [], []
    for term in velocity.terms:
        one = collect(velocity.free, [term])
        try:
            projected(one)
            known.append(term)
        except NoTilt:
            rest.append(term)
    base = projected(collect(velocity.free, known))
    left = collect(velocity.free, rest)
    through = linear_forms(left, names.x, book)
    seen = "x" if through is None else ", ".join(sorted({f"{n} x" for n, _, _ in through}))
    fact = f"projected rates by cubature over the law of {seen} ({reason})"
    if known:
        fact += f"; {len(known)} of {len(velocity.terms)} terms in closed form"
    if has_nodes(velocity, book):
        fact += "; the average over the keys by cubature over their law too"
    singular = singular_places(left, names, book)
    if singular is not None:
        fact += "; by values alone, split where " + _where_singular(singular, names)
    return Rates(CUBATURE, base[0], base[1], (), left, through, singular, (fact,))


def _where_singular(singular: tuple[Expression, ...], names: Names) -> str:
    if not singular:
        return "nothing is known: the velocity has kinks or poles whose place no rule gives"
    return " or ".join(f"{expression_text(q, names.stacks)} = 0" for q in singular)


def linear_forms(expression: Expression, variable: Tensor, book: Book) -> tuple[Form, ...] | None:
    """The parameters through whose products alone an expression depends on a vector.

    Each with its number of axes and the axis that is joined to the vector; None if the vector
    stands anywhere without a parameter beside it.
    """
    found: dict[Form, None] = {}
    for _, factors in expression.terms:
        for f in factors:
            if f.tensor == variable:
                i = f.indices[-1]
                beside = [g for g in factors if g is not f and i in g.indices]
                if len(beside) != 1 or beside[0].tensor.kind != "constant":
                    return None
                own = beside[0]
                if own.indices.count(i) != 1 or own.tensor in book.of:
                    return None
                found[own.tensor.name, len(own.indices), own.indices.index(i)] = None
            elif f.tensor in book.of:
                for body in book.of[f.tensor].bodies:
                    inside = linear_forms(body, variable, book)
                    if inside is None:
                        return None
                    found.update(dict.fromkeys(inside))
    return tuple(found)


def _waves(traced, names, book, projected, reason):  # type: ignore[no-untyped-def]
    """Base rates and one wave for each scalar function of (x, y)."""
    found: dict[Rule, list[Expression]] = {}

    def collecting(rule: Rule, argument: Expression, reader: Reader) -> Expression:
        found.setdefault(rule, []).append(argument)
        return collect(argument.free, [])

    base_field = velocity_of(traced, names, book, ridge_as=collecting)
    if not found:
        raise NoTilt(reason)
    if any(t.kind in ("reciprocal", "gate") for t in base_field.tensors()):
        raise NoTilt("the velocity is a quotient")

    def with_(chosen: Rule, power: int | None):  # type: ignore[no-untyped-def]
        def rule_as(rule: Rule, argument: Expression, reader: Reader) -> Expression:
            if rule != chosen:
                return collect(argument.free, [])
            if power is None:
                return reader.defined("exp", argument.scaled(sp.I * U), None)
            out = collect(argument.free, [(sp.Integer(1), ())])
            for _ in range(power):
                out = out * argument
            return out

        try:
            total = velocity_of(traced, names, book, ridge_as=rule_as)
        except ZeroDivisionError:
            raise NoTilt("the velocity is a quotient") from None
        return projected(plus(total, -base_field))

    waves = []
    for rule, arguments in found.items():
        fourier = fourier_rule(rule)
        size = _size(arguments, names, book)
        mean, jacobian = with_(rule, None)
        powers = tuple(with_(rule, n) for n in range(fourier.order))
        waves.append(Wave(fourier, mean, jacobian, powers, size))
    return projected(base_field), tuple(waves)


def _size(arguments: list[Expression], names: Names, book: Book) -> Expression:
    """Sum of E s^2 over the arguments of f, both x and y averaged: the scale of s."""
    parts = []
    for s in arguments:
        inner = s * s
        for law in names.key_laws():
            inner = average(inner, law, book)
        outer = average(inner, names.query_law(), book)
        parts.append(outer.summed(*outer.free))
    return plus(*parts)

"""From a velocity field to the closure of Gaussian laws: steps, verdict, rates.

Input: a `ClosureModel`.  Output: `GaussianClosure`: the velocity under a Gaussian law, the verdict
(exact or projected), rates of mean and covariance as expressions, and the record of the steps with
numeric checks.  Raises Refusal where the verdict would be undecided.

For any field, m' = E Gamma, S' = R S + S R^T with R = E grad Gamma (Stein); the law stays Gaussian
iff Gamma is affine in x, which is what the second derivative decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import sympy as sp

from derive.calculus.arrays.scalar_functions import regular_order
from derive.calculus.gaussian.tilt import NoTilt, average, join
from derive.calculus.index.defined import Book, depends, differentiate, placed, plus, spread, union
from derive.calculus.index.expressions import Expression, Index, Tensor, collect, single
from derive.errors import Refusal
from derive.methods.common.record import Check, Fact, Step, of_step
from derive.methods.gaussian_closure import checks, coupling_steps
from derive.methods.gaussian_closure import facts as closure_facts
from derive.methods.gaussian_closure.fields import Names, Reader, Rule
from derive.methods.gaussian_closure.scalar_rules import FourierRule, fourier_rule
from derive.methods.gaussian_closure.singular import require_integrable, singular_places
from derive.methods.gaussian_closure.weights import require_one_sign
from derive.notation.closures.model import ClosureModel, ClosureTrace, trace_closure

Form = tuple[str, int, int]  # a parameter, its axes, the axis joined to x
CLOSED, FOURIER, CUBATURE = "closed form", "Fourier integral", "cubature"


@dataclass(frozen=True)
class Wave:
    """The share of one scalar function f in the projected rates.

    f(s) = sum_{j<k} f^(j)(0) s^j / j! + (1/2 pi) int phi(u) (iu)^-k [e^{ius} - sum (ius)^j/j!] du.
    `mean`, `jacobian`: rates with e^{ius} for f; `powers`: with s^j for f; `size`: E s^2.
    """

    rule: FourierRule
    mean: Expression
    jacobian: Expression
    powers: tuple[tuple[Expression, Expression], ...]
    size: Expression


@dataclass(frozen=True, eq=False)
class GaussianClosure:
    """A derivation's result.  Free indices: velocity, mean_rate (i); jacobian (i, j)."""

    model: ClosureModel
    trace: ClosureTrace
    names: Names
    book: Book
    velocity: Expression
    mean_rate: Expression
    jacobian: Expression
    exact: bool
    route: str
    waves: tuple[Wave, ...]
    noise: Expression | None
    shared_law_exact: bool
    cubature: Expression | None = None  # the part of the velocity that is averaged by cubature
    through: tuple[Form, ...] | None = None  # all that it sees of x; None: x itself
    # quadratics near whose zeros that part is singular; None: it is smooth
    singular: tuple[Expression, ...] | None = None
    steps: tuple[Step, ...] = ()
    facts: tuple[Fact, ...] = ()
    equations: dict[str, Expression] = field(default_factory=dict)

    @property
    def block(self) -> tuple[Index, ...]:
        return (self.names.s,) if self.model.positional else ()


U = sp.Symbol("u", positive=True)


def derive(model: ClosureModel) -> GaussianClosure:
    """The closure of a definition.

    Raises Refusal where no rule decides whether it is exact, with the place in the file.
    """
    traced = trace_closure(model)
    require_one_sign(model, traced)
    names, book = Names(model), Book()
    velocity = _velocity(traced, names, book)
    require_integrable(velocity, names, book, model.place)
    exact, verdict = _verdict(model, velocity, names, book)
    shared, shared_fact = _shared_law(traced, exact)
    rates = _rates(traced, velocity, names, book)
    noise = _noise(traced, names, book)
    result = GaussianClosure(
        model,
        traced,
        names,
        book,
        velocity,
        rates.mean,
        rates.jacobian,
        exact,
        rates.route,
        rates.waves,
        noise,
        shared,
        rates.cubature,
        rates.through,
        rates.singular,
    )
    equations = _equations(result)
    decided = closure_facts.exactness((*verdict, *shared_fact), result)
    moments, estimate = _moments(result)
    of_rates = closure_facts.of_rates((*rates.facts, *estimate), result, moments)
    # the estimate is one of an instance: it stays with its step
    lasting = (f for f in of_rates if f not in estimate)
    facts = (*decided, *lasting, *_conditions(result))
    facts += (closure_facts.rank(_rank(noise), result),)
    steps = _steps(result, equations, decided, of_rates, moments)
    return GaussianClosure(
        **{**result.__dict__, "steps": steps, "facts": facts, "equations": equations}
    )


def _rank(noise: Expression | None) -> str:
    if not noise:
        return "no noise: S = F F^T with F' = R F, the rank of S is conserved"
    return "additive noise: S' = R S + S R^T + noise, the rank is not conserved"


def _moments(result: GaussianClosure) -> tuple[Check | None, tuple[str, ...]]:
    """The check of the rates, and for Fourier integrals the estimate of their error in words."""
    if result.route == CLOSED:
        return checks.moments_by_quadrature(result), ()
    if result.route == FOURIER and not result.model.positional:
        moments, estimate = checks.waves_by_quadrature(result)
        return moments, (estimate,)
    return None, ()


def _velocity(traced: ClosureTrace, names: Names, book: Book, **options) -> Expression:  # type: ignore[no-untyped-def]
    value, axes = Reader(names, book, **options).of(traced.velocity)
    i = Index("i", names.model.state_dim)
    value = placed(value, dict(zip(axes, (i,), strict=True)))
    block = (names.s,) if names.model.positional and names.block else ()
    value = value.summed(*(n for n in value.free if n not in (*block, i, names.s)))
    return spread(value, (*block, i))


def _verdict(
    model: ClosureModel, velocity: Expression, names: Names, book: Book
) -> tuple[bool, tuple[str, ...]]:
    j, k = Index("j", model.state_dim), Index("k", model.state_dim)
    slope = differentiate(velocity, names.x, j, book)
    second = differentiate(slope, names.x, k, book)
    if second.is_zero:
        return True, ("exact: the second derivative of the velocity in x is zero",)
    witness = checks.witness(model, slope, book)
    if not witness > 1e-6:
        raise Refusal(
            "undecided: the second derivative of the velocity has terms, but its gradient changes "
            f"by {witness:.1e} between random points; neither exact nor refuted",
            model.place,
        )
    return False, (
        "not exact: the velocity is not affine in x; its gradient changes by "
        f"{witness:.2g} between two points of a random instance. Mean and covariance are those of "
        "the projected closure",
    )


def _shared_law(traced: ClosureTrace, exact: bool) -> tuple[bool, tuple[str, ...]]:
    """With positions: is the closure exact where the law does not depend on the position?"""
    model = traced.model
    if not model.positional or exact:
        return exact, ()
    names, book = Names(model, block=False), Book()
    velocity = _velocity(traced, names, book)
    j, k = Index("j", model.state_dim), Index("k", model.state_dim)
    second = differentiate(differentiate(velocity, names.x, j, book), names.x, k, book)
    s_free = not any(names.s in f.indices for _, fs in velocity.terms for f in fs)
    if second.is_zero and s_free:
        return True, (
            "exact where the law does not depend on the position: all blocks then have one affine "
            "velocity, and the law stays position-independent",
        )
    return False, ()


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


def _rates(traced: ClosureTrace, velocity: Expression, names: Names, book: Book) -> Rates:
    model = traced.model
    block = (names.s,) if model.positional else ()
    i, j = Index("i", model.state_dim), Index("j", model.state_dim)

    def projected(field_: Expression) -> tuple[Expression, Expression]:
        slope = differentiate(field_, names.x, j, book)
        law = names.query_law()
        mean, jacobian = average(field_, law, book), average(slope, law, book)
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
    singular = singular_places(left, names, book)
    if singular is not None:
        fact += "; by values alone, split where " + _where_singular(singular)
    return Rates(CUBATURE, base[0], base[1], (), left, through, singular, (fact,))


def _where_singular(singular: tuple[Expression, ...]) -> str:
    from derive.calculus.index.chains import text

    if not singular:
        return "nothing is known: the velocity has kinks or poles whose place no rule gives"
    return " or ".join(f"{text(q)} = 0" for q in singular)


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

    base_field = _velocity(traced, names, book, ridge_as=collecting)
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
            total = _velocity(traced, names, book, ridge_as=rule_as)
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
        inner = average(s * s, names.key_law(), book)
        outer = average(inner, names.query_law(), book)
        parts.append(outer.summed(*outer.free))
    return plus(*parts)


def _noise(traced: ClosureTrace, names: Names, book: Book) -> Expression | None:
    if not traced.noises:
        return None
    i, j = Index("i", names.model.state_dim), Index("j", names.model.state_dim)
    parts = []
    for graph in traced.noises:
        value, (row, column) = Reader(names, book).of(graph)
        if any(depends(value, v, book) for v in (names.x, names.y)):
            raise Refusal("noise is additive: its factor does not depend on tokens", graph.place)
        parts.append(join(placed(value, {row: i}), column, placed(value, {row: j}), column))
    total = spread(plus(*parts), (i, j))
    if names.model.positional:
        total = spread(total, (names.s, i, j))
    return total


def _equations(result: GaussianClosure) -> dict[str, Expression]:
    out = {"velocity": result.velocity}
    if result.route == CLOSED:
        out["mean_rate"] = result.mean_rate
        out["jacobian"] = result.jacobian
        out["cov_rate"] = cov_rate(result)
    elif result.route == FOURIER:
        for position, wave in enumerate(result.waves):
            tail = f"_{position + 1}" if len(result.waves) > 1 else ""
            out[f"wave_mean{tail}"] = wave.mean
            out[f"wave_jacobian{tail}"] = wave.jacobian
    if result.noise is not None:
        out["noise"] = result.noise
    return out


def cov_rate(result: GaussianClosure) -> Expression:
    """R S + S R^T + noise, collected."""
    names = result.names
    i, j = Index("i", names.model.state_dim), Index("j", names.model.state_dim)
    link = Index("_link", names.model.state_dim)
    own = (names.s, link, j) if names.model.positional else (link, j)
    left = placed(result.jacobian, {j: link}) * single(names.cov[own], own)
    left = spread(left.summed(link), (*result.block, i, j))
    swapped = left.renamed({i: j, j: i})
    parts = [left, spread(swapped, left.free)]
    if result.noise is not None:
        parts.append(result.noise)
    return plus(*parts)


def _conditions(result: GaussianClosure) -> tuple[Fact, ...]:
    """What must be positive definite for the Gaussian integrals to exist."""
    from derive.calculus.index.chains import text

    out = []
    for matrix, cov in result.book.conditions:
        if is_gram(matrix):
            continue
        if has_frequency(matrix):
            words = f"integrable at every frequency u: M = {text(matrix)} is positive semi-definite"
            out.append(closure_facts.at_every_frequency(words, result, matrix, U))
            continue
        words = f"integrable while I + L^T M L > 0, L L^T = {cov.name}, M = {text(matrix)}"
        out.append(closure_facts.condition(words, result, matrix, cov))
    return tuple(dict.fromkeys(out))


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


def _steps(
    result: GaussianClosure,
    equations: dict[str, Expression],
    decided: tuple[Fact, ...],
    of_rates: tuple[Fact, ...],
    moments: Check | None,
) -> tuple[Step, ...]:
    """The record: each step with a numeric check that shares no code with it."""
    at_point = checks.at_point_laws(result)
    keys = checks.keys_by_quadrature(result)
    matrices = f"matrices {', '.join(m.data for m in result.trace.used)}"
    out = [
        Step(
            "trace",
            "read the velocity as a graph; matrices and laws of symbolic size",
            facts=of_step((matrices,), at_point or keys),
            check=at_point,
        ),
        Step(
            "average over the keys",
            "complete the square; push-through; Isserlis and Stein; cancel common factors",
            {"velocity": result.velocity},
            of_step(definition_texts(result.book, result.velocity), keys),
            keys,
        ),
        Step(
            "decide",
            "second derivative in x of the canonical form",
            facts=decided,
            check=checks.second_difference(result),
        ),
        Step(
            "rates",
            "m' = E Gamma, R = E grad Gamma (Stein), S' = R S + S R^T",
            {k: e for k, e in equations.items() if k != "velocity"},
            of_rates,
            moments,
        ),
    ]
    if result.book.couplings:
        out[1:1] = coupling_steps.steps(result)
    return tuple(out)


def definition_texts(book: Book, *expressions: Expression) -> list[str]:
    """What the defined tensors of some expressions mean, in words of matrices."""
    from derive.calculus.index.chains import meaning_text

    return [meaning_text(t, book) for t in defined_in(book, *expressions)]


def defined_in(book: Book, *expressions: Expression) -> list[Tensor]:
    """Defined tensors that expressions use, those inside definitions first."""
    order: list[Tensor] = []

    def visit(expression: Expression) -> None:
        for tensor in expression.tensors():
            if tensor in book.of and tensor not in order:
                for body in book.of[tensor].bodies:
                    visit(body)
                order.append(tensor)

    for expression in expressions:
        visit(expression)
    return order


__all__ = ["GaussianClosure", "Wave", "derive", "union"]

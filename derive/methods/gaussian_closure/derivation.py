"""From a velocity field to the closure of Gaussian laws: steps, verdict, rates.

Input: a `ClosureModel`.  Output: `GaussianClosure`: the velocity under a Gaussian law, the verdict
(exact or projected), rates of mean and covariance as expressions, and the record of the steps with
numeric checks.  Raises Refusal where the verdict would be undecided.

For any field, m' = E Gamma, S' = R S + S R^T with R = E grad Gamma (Stein); the law stays Gaussian
iff Gamma is affine in x, which is what the second derivative decides.
"""

from __future__ import annotations

from dataclasses import replace

from derive.calculus.gaussian.tilt import join
from derive.calculus.index.defined import Book, depends, differentiate, placed, plus, spread, union
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Index
from derive.errors import Refusal
from derive.methods.common.record import Check, Fact, Step, of_step
from derive.methods.gaussian_closure import checks, coupling_steps
from derive.methods.gaussian_closure import facts as closure_facts
from derive.methods.gaussian_closure.centred import require_kept
from derive.methods.gaussian_closure.definitions import definition_texts
from derive.methods.gaussian_closure.fields import Reader, velocity_of
from derive.methods.gaussian_closure.names import Names
from derive.methods.gaussian_closure.rates import rates_of
from derive.methods.gaussian_closure.result import CLOSED, FOURIER, GaussianClosure, cov_rate
from derive.methods.gaussian_closure.singular import require_integrable
from derive.methods.gaussian_closure.weights import require_one_sign
from derive.notation.closures.model import ClosureModel, ClosureTrace, trace_closure

OF_A_MIXTURE = (
    " on mixtures of Gaussian laws with fixed weights: the velocity of the whole mixture, averaged "
    "over each component, moves that component's mean and covariance. This is how the moments of "
    "its tokens move; that their law stays Gaussian is what is projected, and exact only while the "
    "velocity is affine on each component"
)


def derive(model: ClosureModel) -> GaussianClosure:
    """The closure of a definition.

    Raises Refusal where no rule decides whether it is exact, with the place in the file.
    """
    traced = trace_closure(model)
    require_one_sign(model, traced)
    names, book = Names(model), Book()
    velocity = velocity_of(traced, names, book)
    if velocity.is_zero:
        raise Refusal("a velocity that vanishes has no closure to derive", model.place)
    require_integrable(velocity, names, book, model.place)
    exact, verdict = _verdict(model, velocity, names, book)
    shared, shared_fact = _shared_law(traced, exact)
    rates = rates_of(traced, velocity, names, book)
    require_kept(velocity, rates, names, book)
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
    facts = (*decided, *lasting, *closure_facts.conditions(result))
    facts += (closure_facts.rank(_rank(noise), result),)
    steps = _steps(result, equations, decided, of_rates, moments)
    return replace(result, steps=steps, facts=facts, equations=equations)


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
        "the projected closure" + (OF_A_MIXTURE if model.mixture else ""),
    )


def _shared_law(traced: ClosureTrace, exact: bool) -> tuple[bool, tuple[str, ...]]:
    """With positions: is the closure exact where the law does not depend on the position?"""
    model = traced.model
    if not model.positional or exact:
        return exact, ()
    names, book = Names(model, block=False), Book()
    velocity = velocity_of(traced, names, book)
    j, k = Index("j", model.state_dim), Index("k", model.state_dim)
    second = differentiate(differentiate(velocity, names.x, j, book), names.x, k, book)
    s_free = not any(names.s in f.indices for _, fs in velocity.terms for f in fs)
    if second.is_zero and s_free:
        if model.mixture:
            return True, (
                "exact where all components have one law: all then have one affine velocity, and "
                "keep one law",
            )
        return True, (
            "exact where the law does not depend on the position: all blocks then have one affine "
            "velocity, and the law stays position-independent",
        )
    return False, ()


def _noise(traced: ClosureTrace, names: Names, book: Book) -> Expression | None:
    if not traced.noises:
        return None
    i, j = Index("i", names.model.state_dim), Index("j", names.model.state_dim)
    parts = []
    for graph in traced.noises:
        value, (row, column) = Reader(names, book).of(graph)
        if any(depends(value, v, book) for v in (names.x, *names.keys)):
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
            of_step(definition_texts(result.names.stacks, result.book, result.velocity), keys),
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


__all__ = ["derive", "union"]

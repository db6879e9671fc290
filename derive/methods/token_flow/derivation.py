"""From the definition of a token flow to what follows from it.

Input: a `FlowDefinition`.  Output: `TokenFlow`: the velocity, the Gram system, the reductions that
are preserved, the energy, the stability of consensus and of the uniform law, each with the record
of its check.  What cannot be had is there with the reason.  Raises Refusal where there is no
velocity to derive.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from derive.calculus.index.defined import Book, placed, plus, spread
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Index, fresh
from derive.errors import Refusal
from derive.methods.common.record import Step, of_step
from derive.methods.gaussian_closure.weights import require_one_sign
from derive.methods.token_flow import (
    checks,
    facts,
    invariant_laws,
    manoeuvre_facts,
    rest_facts,
)
from derive.methods.token_flow.closing import NoBalance, closing
from derive.methods.token_flow.clusters import contraction, pushes
from derive.methods.token_flow.deviations import deviations
from derive.methods.token_flow.energy import gradient
from derive.methods.token_flow.equal_angles import equal_angles
from derive.methods.token_flow.fields import TokenReader, velocity_of
from derive.methods.token_flow.gram import Leaves, gram_rate, in_products, projected
from derive.methods.token_flow.harmonics import growth
from derive.methods.token_flow.instances import instance, on_home, text_velocity
from derive.methods.token_flow.limit_facts import long_times
from derive.methods.token_flow.lone import frame, lone
from derive.methods.token_flow.manoeuvres import manoeuvres
from derive.methods.token_flow.metastability import caps
from derive.methods.token_flow.names import COUNT, Names
from derive.methods.token_flow.patterns import Unlike
from derive.methods.token_flow.rescaled import Rescaled, rescaled
from derive.methods.token_flow.result import Absent, TokenFlow
from derive.methods.token_flow.slow_motion import slow_motion
from derive.methods.token_flow.two_clusters import two_clusters
from derive.notation.closures.model import ClosureTrace
from derive.notation.flows.model import FlowDefinition, trace_flow


def derive(model: FlowDefinition) -> TokenFlow:
    """All that is derived of a definition.  Raises DefinitionError, Refusal with the place."""
    traced = trace_flow(model)
    _require_finite(model)
    require_one_sign(model, traced, lambda points: on_home(model, points))
    names, book = Names(model), Book(pairs=COUNT)
    velocity = velocity_of(traced, names, book)
    moving = projected(velocity, names) if model.sphere else velocity
    if in_products(moving, names, book, "own").is_zero:
        raise Refusal("the velocity vanishes: no token moves", model.place)
    noise = _noise(traced, names, book)
    rate: Any = Absent("the noise")
    if noise is None:
        rate = _or_absent(lambda: gram_rate(velocity, names, book))
    angles = _of(rate, lambda r: equal_angles(r, names, book))
    motion: Any = Absent("tokens in order see different numbers of others")
    if noise is not None:
        motion = Absent("noise tears tokens at one point apart")
    elif not model.positional:
        motion = lone(velocity, names, book)
    moved = isinstance(motion, Expression) and not model.sphere
    matrix = frame(motion, names) if moved else None
    result = TokenFlow(
        model,
        traced,
        names,
        book,
        velocity,
        noise,
        rate,
        angles,
        _of(angles, closing),
        _of(angles, lambda found: deviations(rate, found, names, book)),
        _of(rate, lambda _: contraction(velocity, names, book))
        if model.sphere and not model.positional
        else Absent("no sphere, or tokens in order"),
        _of(rate, lambda r: two_clusters(r, names, book)) if model.sphere else Absent("no sphere"),
        _of(rate, lambda _: slow_motion(velocity, names, book))
        if model.sphere and not model.positional
        else Absent("no sphere, or tokens in order"),
        _of(rate, lambda _: caps(velocity, names, book))
        if model.sphere and not model.positional
        else Absent("no sphere, or tokens in order"),
        gradient(velocity, names, book),
        motion,
        matrix,
        None if matrix is None else _or_absent(lambda: rescaled(velocity, matrix, names, book)),
        _or_absent(lambda: growth(velocity, noise, names, book))
        if model.sphere
        else Absent("no sphere"),
        _manoeuvres(velocity, noise, names, book),
    )
    steps = _steps(result)
    found = tuple(f for step in steps for f in step.facts)
    return replace(result, equations=_equations(result), steps=steps, facts=found)


def _require_finite(model: FlowDefinition) -> None:
    for seed in (1, 2):
        if not np.all(np.isfinite(text_velocity(instance(model, seed)))):
            raise Refusal(
                "the velocity is infinite or no number: a token is among those that it sees, so "
                "that y = x happens, and a strict mask (tau < s) leaves the first token none to "
                "average over",
                model.place,
            )


def _or_absent(make: Any) -> Any:
    try:
        return make()
    except (Leaves, Unlike, NoBalance) as why:
        return Absent(str(why))


def _manoeuvres(velocity: Expression, noise: Expression | None, names: Names, book: Book) -> Any:
    if not names.model.sphere:
        return Absent("no sphere")
    if noise is not None or names.model.positional:
        return Absent("the noise" if noise is not None else "tokens in order: laws have places")
    return _or_absent(lambda: manoeuvres(velocity, names, book))


def _of(before: Any, make: Any) -> Any:
    """What follows from a result, or why that result is not there."""
    return before if isinstance(before, Absent) else _or_absent(lambda: make(before))


def _noise(traced: ClosureTrace, names: Names, book: Book) -> Expression | None:
    """Covariance rate of the noise over (i, j)."""
    if not traced.noises:
        return None
    i, j = names.i, Index("j", names.i.dim)
    parts = []
    for graph in traced.noises:
        value, (row, column) = TokenReader(names, book).of(graph)
        if names.x in value.tensors():
            raise Refusal("noise is additive: its factor does not depend on tokens", graph.place)
        link = fresh(column.dim)
        left = placed(value, {row: i, column: link})
        parts.append((left * placed(value, {row: j, column: link})).summed(link))
    return spread(plus(*parts), (i, j))


def _equations(result: TokenFlow) -> dict[str, Any]:
    """What is derived, by name."""
    velocity = result.velocity
    out: dict[str, Any] = {"velocity": velocity}
    if result.model.sphere:
        out["velocity"] = projected(velocity, result.names)
    if result.noise is not None:
        out["noise"] = result.noise
    if isinstance(result.gram_rate, Expression):
        out["gram_rate"] = result.gram_rate
    if result.frame is not None:
        out["frame"] = result.frame
    if isinstance(result.rescaled, Rescaled):
        out["score"] = result.rescaled.score
    if not isinstance(result.contraction, Absent):
        out["contraction"] = result.contraction
    if not isinstance(result.equal_angles, Absent):
        out["equal_angle_rate"] = result.equal_angles.cosine
        if result.equal_angles.radius is not None:
            out["radius_rate"] = result.equal_angles.radius
    if not isinstance(result.two_clusters, Absent):
        out["two_cluster_rate"] = result.two_clusters.rate
    if result.gradient.energy is not None:
        out["energy"] = result.gradient.energy
    if not isinstance(result.manoeuvres, Absent):
        out |= manoeuvre_facts.equations(result.manoeuvres)
    return out


def _steps(result: TokenFlow) -> tuple[Step, ...]:
    names, book, model = result.names, result.book, result.model
    read = checks.read(result.velocity, names, book)
    where = "on the sphere, projected on its tangents" if model.sphere else "in space"
    matrices = ", ".join(m.data for m in result.trace.used) or "no matrices"
    out = [
        Step(
            "read",
            f"read the velocity of every token among all; tokens {where}",
            {"velocity": result.velocity},
            (
                *of_step((f"sizes are symbolic; {matrices}",), read),
                facts.equivariance(result.velocity, result.noise, names, book),
                *facts.kept(result.velocity, names, book, result.noise is not None),
                *invariant_laws.facts(result.velocity, names, book, result.noise is not None),
                *facts.at_one_point(result.motion, result.frame, names, book),
            ),
            read,
        )
    ]
    out += _long_times(result)
    out += _inner_products(result)
    rule = "symmetry of the derivative of the weighted velocity; line integral, differentiated back"
    found = {} if result.gradient.energy is None else {"energy": result.gradient.energy}
    gradient_facts = facts.gradient(result.gradient, names, book, result.noise is not None)
    out.append(Step("energy", rule, found, gradient_facts))
    if model.sphere:
        rule = "derivative of the velocity by the law; Funk and Hecke; the divergence theorem"
        out.append(Step("uniform law", rule, {}, facts.growth(result.growth, names)))
    if not isinstance(result.manoeuvres, Absent):
        out.append(manoeuvre_facts.step(result.manoeuvres, names, book))
    return tuple(out)


def _long_times(result: TokenFlow) -> list[Step]:
    found = long_times(result.rescaled, result.names, result.book)
    rule = "an average of M x, in the frame of M; what grows fastest in exp(t M)^T S exp(t M)"
    return [Step("long times", rule, {}, found)] if found else []


def _inner_products(result: TokenFlow) -> list[Step]:
    """The Gram system and what is reduced from it; with noise there is none."""
    names, book = result.names, result.book
    if result.noise is not None:
        return []
    if isinstance(result.gram_rate, Absent):
        check, found = checks.not_by_products(names), {}
    else:
        check = checks.gram(result.gram_rate, names, book)
        found = {"gram_rate": result.gram_rate}
    gram = facts.gram(result.gram_rate, names, check)
    rule = "R' = <v_a, x_b> + <x_a, v_b>; a sum over coordinates of two tokens is R"
    out = [Step("inner products", rule, found, (gram,), check)]
    return out if isinstance(result.gram_rate, Absent) else [*out, _reductions(result)]


def _reductions(result: TokenFlow) -> Step:
    names = result.names
    pushed: Any = Absent("no sphere")
    if names.model.sphere:
        pushed = _or_absent(lambda: pushes(result.velocity, names, result.book))
    said = (
        facts.equal_angles(result.equal_angles, names),
        *facts.closing(result.closing, result.equal_angles, names),
        *rest_facts.equal_angles(result.equal_angles, result.deviations, names),
        *rest_facts.two_clusters(result.two_clusters, names),
        *facts.circle(pushed, names, result.book),
        *facts.contraction(result.contraction, names, result.book),
        *facts.two_clusters(result.two_clusters, names),
        *facts.slow_motion(result.slow_motion, names),
        *facts.caps(result, names),
    )
    check = None
    if not isinstance(result.two_clusters, Absent):
        check = checks.two_clusters(result.two_clusters, names)
    rule = "values on patterns of equal tokens, sums over the rest at once; two clusters by mass"
    return Step("reductions", rule, {}, said, check)

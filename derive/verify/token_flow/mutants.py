"""L6 of token flows: every term of every equation broken, to be caught by the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.methods.token_flow import checks, instances
from derive.methods.token_flow.energy import Gradient
from derive.methods.token_flow.instances import FlowInstance
from derive.methods.token_flow.long_times import text_frame, text_score
from derive.methods.token_flow.rescaled import Rescaled
from derive.methods.token_flow.result import Absent, TokenFlow
from derive.verify.common.rung import Rung
from derive.verify.gaussian_closure.mutants import broken

LIMIT = 1e-9


def mutants(result: TokenFlow) -> Rung:
    """L6: terms of the velocity, of the rate of inner products and of the energy."""
    total, alive, equivalent = 0, [], 0
    for name, expression, wrong in _targets(result):
        if wrong(expression):
            alive.append(f"{name}: the unbroken equation is refused")
        for label, mutant in broken(expression):
            if _equal(result, mutant, expression):
                equivalent += 1
                continue
            total += 1
            if not wrong(mutant):
                alive.append(f"{name}: {label}")
    return Rung(
        "L6 mutants",
        "every term dropped, sign-flipped, doubled, scaled by 1.01, matrices transposed or "
        "swapped: each is caught by the text",
        not alive,
        {
            "mutants": total,
            "killed": total - len(alive),
            "equivalent rewrites": equivalent,
            "alive": alive[:5],
        },
        unreached="" if total or alive else "no mutant differs from the equations",
    )


def _targets(
    result: TokenFlow,
) -> Iterator[tuple[str, Expression, Callable[[Expression], bool]]]:
    one = instances.instance(result.model, 98, 4, 3)
    book = result.book
    text = instances.text_velocity(one)

    def velocity(e: Expression) -> bool:
        return checks.residual(instances.at(one, e, book), text) > LIMIT

    yield "velocity", result.velocity, velocity
    if not isinstance(result.manoeuvres, Absent):
        found = result.manoeuvres.levers
        still = {t.name: np.zeros_like(one.arrays[t.name]) for t in found.scores}
        alike = replace(one, arrays=one.arrays | still)
        mean = instances.text_velocity(alike)
        yield "uniform_velocity", found.uniform, _other_than(mean, alike, book)
    if not isinstance(result.gram_rate, Absent):
        rates = instances.text_gram_rate(one)

        def gram(e: Expression) -> bool:
            return checks.residual(instances.at(one, e, book), rates) > LIMIT

        yield "gram_rate", result.gram_rate, gram
    if isinstance(result.rescaled, Rescaled):
        measured = {"frame": text_frame(one), "score": text_score(one)}
        for name, matrix in measured.items():
            yield name, result.equations[name], _other_than(matrix, one, book)
    gradient = result.gradient
    if gradient.energy is not None:

        def energy(e: Expression) -> bool:
            broken_one = Gradient(gradient.weight, gradient.weighted, e)
            return not checks.energy(broken_one, result.names, book).passed

        yield "energy", gradient.energy, energy


def _other_than(wanted: np.ndarray, one: FlowInstance, book: Book) -> Callable[[Expression], bool]:
    return lambda e: checks.residual(instances.at(one, e, book), wanted) > LIMIT


def _equal(result: TokenFlow, mutant: Expression, right: Expression) -> bool:
    """Whether a mutant has the right values, up to a constant in the energy."""
    gaps = []
    for seed in (99, 100):
        one = instances.instance(result.model, seed, 4, 3)
        found, wanted = (instances.at(one, e, result.book) for e in (mutant, right))
        gaps.append(np.asarray(found - wanted))
    if not right.free:
        return bool(abs(gaps[0] - gaps[1]) < 1e-12)
    return all(float(np.max(np.abs(g))) < 1e-12 for g in gaps)

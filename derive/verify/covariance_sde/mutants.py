"""L6 of covariance SDEs: every term of every equation broken, to be caught by the second route."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import sympy as sp

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression, collect
from derive.verify.common.compare import apart
from derive.verify.common.rung import Rung
from derive.verify.covariance_sde.references import Reference, off_by


def mutants(known: Sequence[Reference]) -> Rung:
    """L6: every term dropped, flipped, doubled, scaled, transposed; equal rewrites survive."""
    killed = made = 0
    alive: list[str] = []
    survivors = rewrites = same = 0
    cases = [
        (reference, *pair)
        for reference in known
        for pair in reference.pairs()
        if pair[0] in ("drift", "diffusion")
    ]
    for reference, name, expression, target, floor in cases:
        one = reference.at
        for label, mutant in broken(expression):
            if mutant == expression:
                continue
            found = evaluate(mutant, one.arrays, one.numbers)
            if apart(found, evaluate(expression, one.arrays, one.numbers)) < 1e-12:
                same += 1  # one function at two tokens, on the sphere by symmetry
                continue
            made += 1
            if off_by(found, target, floor) > reference.bound:
                killed += 1
            else:
                alive.append(f"{reference.label}{name}: {label}")
        rewrites += 1
        shuffled = collect(expression.free, [(c, f[::-1]) for c, f in reversed(expression.terms)])
        survivors += shuffled == expression
    return Rung(
        "L6 mutants",
        "every wrong neighbour of the equations is killed by the second route, equal ones survive",
        killed == made and survivors == rewrites,
        {
            "made": made,
            "killed": killed,
            "alive": alive,
            "equal rewrites kept": survivors,
            "equal at two tokens": same,
        },
        "terms dropped, sign-flipped, doubled, scaled by 1.01, transposed, legs swapped",
        "" if made else "no mutant could be made: no second route has a value to compare with",
    )


def broken(expression: Expression) -> Iterator[tuple[str, Expression]]:
    """The expression with one term broken in its typical ways."""
    free = expression.free
    for p, (c, f) in enumerate(expression.terms):
        rest = [t for q, t in enumerate(expression.terms) if q != p]
        yield f"term {p} dropped", collect(free, rest)
        for label, factor in (("flipped", -1), ("doubled", 2), ("scaled", sp.Rational(101, 100))):
            yield f"term {p} {label}", collect(free, [*rest, (factor * c, f)])
        for i, j in itertools.combinations(free, 2):
            swapped = tuple(x.rename({i: j, j: i}) for x in f)
            yield f"term {p} with {i.name}{j.name} swapped", collect(free, [*rest, (c, swapped)])

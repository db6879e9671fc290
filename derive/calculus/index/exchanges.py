"""Exchanges of free indices: what they make of an expression, and which of them change nothing."""

from __future__ import annotations

import itertools
from functools import lru_cache

from derive.calculus.index.canonical import canonical
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Index

MOST_FREE = 4  # free indices whose exchanges are all tried

Way = tuple[Index, ...]  # where the free indices go, in their order


def exchanged(expression: Expression, way: Way) -> Expression:
    names = dict(zip(expression.free, way, strict=True))
    moved = [(c, tuple(f.rename(names) for f in factors)) for c, factors in expression.terms]
    return collect(expression.free, moved)


@lru_cache(maxsize=64)
def symmetries(expression: Expression) -> tuple[Way, ...]:
    """The exchanges that leave an expression as it is, those of few indices first."""
    free = expression.free
    if not 1 < len(free) <= MOST_FREE:
        return ()
    ways = [w for w in itertools.permutations(free) if w != free]
    ways = [w for w in ways if [i.dim for i in w] == [i.dim for i in free]]
    ways = [w for w in ways if _is_symmetry(expression, w)]
    return tuple(sorted(ways, key=lambda way: sum(a != b for a, b in zip(way, free, strict=True))))


def _is_symmetry(expression: Expression, way: Way) -> bool:
    """Every term becomes one of the others, with its coefficient."""
    terms = {factors: c for c, factors in expression.terms}
    names = dict(zip(expression.free, way, strict=True))
    images = (
        (c, canonical(tuple(f.rename(names) for f in factors), expression.free)[1])
        for factors, c in terms.items()
    )
    return all(terms.get(image) == c for c, image in images)


def orbits(expression: Expression) -> list[Expression]:
    """The terms, each with all that these exchanges make of it."""
    ways, out, seen = symmetries(expression), [], set()
    for coefficient, factors in expression.terms:
        if factors in seen:
            continue
        one = Expression(expression.free, ((coefficient, factors),))
        images = {image.terms[0][1]: image for image in (exchanged(one, way) for way in ways)}
        images[factors] = one
        seen |= set(images)
        out.append(collect(expression.free, [t for image in images.values() for t in image.terms]))
    return out

"""Clusters where a parameter is large: the closest pair moves, and all others stand.

Input: the velocity over (token, coordinate), with inner products that close.  Output: `SlowMotion`:
as the parameter p -> oo the push of cluster b on cluster a at the cosine g is

    weight(masses of a and b) exp(p height(g)),

by the largest exponents of numerator and denominator, each largest at every configuration of
distinct clusters.  Where the height grows with g, the pair of the largest cosine moves faster than
all others by a factor that is exponential in p.  A push turns its token within the plane of both,
so the pair moves on its geodesic, each cluster its share of the way.  Raises `Unlike` otherwise.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.draws import generator
from derive.methods.common.record import Check
from derive.methods.token_flow.clusters import pushes
from derive.methods.token_flow.deviation_checks import with_products
from derive.methods.token_flow.instances import instance, tangent
from derive.methods.token_flow.names import Names
from derive.methods.token_flow.patterns import Clusters, Unlike
from derive.methods.token_flow.scalar_values import number
from derive.methods.token_flow.two_clusters import COSINE

OWN, OTHER = sp.symbols("m_a m_b", positive=True)
_THIRD = sp.Symbol("m_c", positive=True)
_BESIDE = sp.symbols("g_ac g_bc", real=True)
MASSES = 30.0  # what masses and cosines make of an exponential that is left out, at most
SMALL = 1e-7  # speed of the closest pair in the check: what is left out is about as small


@dataclass(frozen=True)
class SlowMotion:
    """`height` in g; `weight` in the masses m_a, m_b; `share` of the way that cluster a goes."""

    large: sp.Symbol
    height: sp.Expr
    weight: sp.Expr
    share: sp.Expr


def slow_motion(velocity: Expression, names: Names, book: Book) -> SlowMotion:
    """Raises Unlike, Leaves."""
    products = sp.Matrix(3, 3, lambda i, j: 1)
    for (i, j), g in zip(((0, 1), (0, 2), (1, 2)), (COSINE, *_BESIDE), strict=True):
        products[i, j] = products[j, i] = g
    at = Clusters(names, book, products=products, masses=(OWN, OTHER, _THIRD))
    push = sp.together(at.of(pushes(velocity, names, book), (0, 1)))
    large = _large(push)
    parts = [_largest(part, large) for part in sp.fraction(push)]
    height = sp.expand(parts[0][0] - parts[1][0])
    weight = sp.factor(sp.cancel(parts[0][1] / parts[1][1]))
    slope = sp.diff(height, COSINE)
    if height.free_symbols - {COSINE} or not slope.is_positive:
        raise Unlike(f"the push's exponent {sp.sstr(height * large)} does not grow with the cosine")
    if weight.free_symbols & {COSINE, *_BESIDE, _THIRD}:
        raise Unlike("what stands before the exponential is not that of the two masses")
    if not weight.is_positive:
        raise Unlike("clusters are not seen to pull each other")
    back = weight.xreplace({OWN: OTHER, OTHER: OWN})
    return SlowMotion(large, height, weight, sp.factor(sp.cancel(weight / (weight + back))))


def _large(push: sp.Expr) -> sp.Symbol:
    """The one parameter in exponents, where it stands nowhere else."""
    exponentials = push.atoms(sp.exp)
    places = {COSINE, *_BESIDE, OWN, OTHER, _THIRD}
    inside = {s for e in exponentials for s in e.free_symbols} - places
    if len(inside) != 1:
        raise Unlike("not one parameter scales the exponents")
    (large,) = inside
    plain = push.xreplace({e: sp.Dummy() for e in exponentials})
    if plain.has(large):
        raise Unlike(f"{large} stands outside the exponents too")
    return large


def _largest(polynomial: sp.Expr, large: sp.Symbol) -> tuple[sp.Expr, sp.Expr]:
    """(slope, coefficient) of the term exp(large slope) that outgrows all others everywhere."""
    atoms = sorted(polynomial.atoms(sp.exp), key=sp.default_sort_key)
    slopes = [sp.expand(e.args[0] / large) for e in atoms]
    if any(s.has(large) for s in slopes):
        raise Unlike(f"exponents are not proportional to {large}")
    if not atoms:
        return sp.Integer(0), polynomial
    dummies = [sp.Dummy(positive=True) for _ in atoms]
    plain = polynomial.xreplace(dict(zip(atoms, dummies, strict=True)))
    if not plain.is_polynomial(*dummies):
        raise Unlike("exponentials stand within a function")
    found = sp.Poly(plain, *dummies)
    terms: dict[sp.Expr, sp.Expr] = {}
    for powers, coefficient in found.terms():
        slope = sp.expand(sp.Add(*(k * s for k, s in zip(powers, slopes, strict=True))))
        terms[slope] = terms.get(slope, sp.Integer(0)) + coefficient
    for slope, coefficient in terms.items():
        if all(_below(other - slope) for other in terms if other != slope):
            return slope, coefficient
    raise Unlike("which exponential is the largest depends on where the clusters are")


def _below(difference: sp.Expr) -> bool:
    """Negative at all cosines below one of three clusters: a linear form, by its corners."""
    cosines = (COSINE, *_BESIDE)
    if sp.Poly(difference, *cosines).total_degree() > 1 or difference.free_symbols - {*cosines}:
        return False
    corners = itertools.product((-1, 1), repeat=3)
    values = [difference.xreplace(dict(zip(cosines, c, strict=True))) for c in corners]
    return all(v <= 0 for v in values) and any(v < 0 for v in values)


def by_the_text(found: SlowMotion, names: Names) -> Check:
    """Four of the text's clusters, the parameter so large that the closest pair moves at SMALL:
    where that pair goes, each by the other alone."""
    worst, allowed = 0.0, 1e-4
    for seed in (61, 62):
        one = instance(names.model, seed, tokens=4, d=4)
        gram = _apart(generator(89, seed))
        pair = np.unravel_index(np.argmax(gram - 2 * np.eye(4)), gram.shape)
        cosines = (1.0, *np.sort(gram[np.triu_indices(4, 1)])[:-3:-1])
        top, first, second = (number(found.height, {COSINE: float(g)}) for g in cosines)
        size = -np.log(SMALL) / (top - first)
        left = np.exp(-size * min(top - first, first - second))
        allowed = max(allowed, MASSES * float(left))
        one = replace(
            with_products(one, gram, one.mass), params={**one.params, str(found.large): size}
        )
        got = tangent(one)
        for a, b in (pair, pair[::-1]):
            values = {**one.numbers, OWN: one.mass[a], OTHER: one.mass[b], COSINE: gram[a, b]}
            speed = number(found.weight * sp.exp(found.large * found.height), values)
            wanted = speed * (one.x[b] - gram[a, b] * one.x[a])
            error = np.linalg.norm(got[a] - wanted) / np.linalg.norm(wanted)
            worst = max(worst, float(error))
    return Check("the closest two of four of the text's clusters", worst, allowed)


def _apart(rng: np.random.Generator) -> np.ndarray:
    """Inner products of four clusters, one pair of which is closer than all others."""
    while True:
        x = rng.standard_normal((4, 4))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        gram: np.ndarray = x @ x.T
        *_, second, largest = np.sort(gram[np.triu_indices(4, 1)])
        if largest < 0.6 and largest - second > 0.7 * (1 - largest):
            return gram

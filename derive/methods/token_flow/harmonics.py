"""Linear stability of the uniform law on the sphere: which harmonics grow, and how fast.

Input: the velocity over (token, coordinate) on the sphere.  Output: `Growth`: of a perturbation
mu = (1 + h) sigma, h a harmonic of degree k, the rate is that of

    c_d int_{-1}^{1} f(t) P_k'(t) (1 - t^2)^((d-1)/2) dt,

c_d = Gamma(d/2) / (sqrt(pi) Gamma((d-1)/2)), P_k the Gegenbauer polynomial with P_k(1) = 1 and
f(t) the push of a unit mass at angle arccos t, taken from the derivative of the velocity by the
law; normalisers of the uniform law are integrals

    c_d int_{-1}^{1} w(t) (1 - t^2)^((d-3)/2) dt.

The first follows from h' = - div of the velocity of h sigma: a function of <x, y> has eigenvalues
by Funk and Hecke, the sphere's divergence theorem moves one derivative on P_k.  Raises `Unlike`
where the velocity at the uniform law is no function of inner products.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.calculus.arrays.scalar_functions import derivative_of
from derive.calculus.index.canonical import components
from derive.calculus.index.defined import Book, differentiate, spread
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factor, Factors, Index, indices_of
from derive.methods.token_flow.deviations import KINKED
from derive.methods.token_flow.energy import unrolled
from derive.methods.token_flow.gram import Leaves, in_products
from derive.methods.token_flow.names import COUNT, Names
from derive.methods.token_flow.patterns import Unlike
from derive.methods.token_flow.told import told

T = sp.Symbol("t", real=True)
SOURCE = Index("c", COUNT)


@dataclass(frozen=True)
class Growth:
    """`push`: f(t), with the symbols of `means`, each the mean of a function of t over the uniform
    law; `diffusion`: kappa, where noise adds -kappa k (k + d - 2)."""

    push: sp.Expr
    means: tuple[tuple[sp.Symbol, sp.Expr], ...]
    diffusion: sp.Expr


def growth(velocity: Expression, noise: Expression | None, names: Names, book: Book) -> Growth:
    """The push of a unit mass at the uniform law.  Raises Unlike."""
    a, i = names.s, names.i
    slope = differentiate(unrolled(velocity, book), names.mass, (SOURCE,), book)
    try:
        slope = in_products(spread(slope, (a, i, SOURCE)), names, book, "some")
    except Leaves as left:
        raise Unlike(str(left)) from None
    uniform = _Uniform(names, book, {})
    _require_stationary(velocity, names, book)
    push = sp.Add(*(c * uniform.pushed(f) for c, f in slope.terms))
    for value in (push, *uniform.means.values()):
        _require_smooth(value)
    return Growth(
        sp.simplify(push).rewrite([sp.cosh, sp.sinh], sp.exp),
        tuple(uniform.means.items()),
        _diffusion(noise, names),
    )


def _require_smooth(value: sp.Expr) -> None:
    """No kink and no root that vanishes between -1 and 1: quadratures by points would miss it."""
    kinks = value.atoms(*KINKED)
    powers = [p for p in value.atoms(sp.Pow) if not p.exp.is_Integer or p.exp < 0]
    ends = [p for p in powers if any(p.base.subs(T, end) == 0 for end in (-1, 0, 1)) and p.has(T)]
    if any(found.has(T) for found in (*kinks, *ends)):
        raise Unlike("the push has a kink or a singular point, which its quadrature would miss")


def _require_stationary(velocity: Expression, names: Names, book: Book) -> None:
    """At the uniform law every term of the velocity points along the token."""
    i, x = names.i, names.x
    flat = in_products(unrolled(velocity, book), names, book, "some")
    for coefficient, factors in flat.terms:
        carriers = [f for f in factors if i in f.indices]
        if len(carriers) != 1 or carriers[0].tensor != x:
            term = told(collect(flat.free, [(coefficient, factors)]), names, book)
            raise Unlike(f"the uniform law is not seen to be stationary: {term}")


def _diffusion(noise: Expression | None, names: Names) -> sp.Expr:
    """kappa of a noise 2 kappa times the identity."""
    if noise is None:
        return sp.Integer(0)
    for coefficient, factors in noise.terms:
        if len(noise.terms) == 1 and [f.tensor.kind for f in factors] == ["delta"]:
            return coefficient / 2
    raise Unlike("the noise is not seen to be the same in all directions")


@dataclass
class _Uniform:
    """Values where the tokens' law is uniform: functions of t = <x_a, x_c> alone."""

    names: Names
    book: Book
    means: dict[sp.Symbol, sp.Expr]

    def pushed(self, factors: Factors) -> sp.Expr:
        """Tangential part of one product over (a, i, c) as a multiple of that of x_c."""
        a, i, x = self.names.s, self.names.i, self.names.x
        carriers = [f for f in factors if i in f.indices]
        if len(carriers) != 1 or carriers[0].tensor != x:
            raise Unlike(f"{carriers[0]} turns the direction" if carriers else "no token is met")
        at = carriers[0].indices[0]
        if at == a:
            return sp.Integer(0)
        rest = tuple(f for f in factors if f != carriers[0])
        if at == SOURCE:
            return self.number(rest, {a: 0, SOURCE: 1})
        # a mean of tokens weighted by functions of <x_a, .> points along x_a
        beside = next(g for g in components(factors, (a, SOURCE)) if carriers[0] in g)
        if any(SOURCE in f.indices for f in beside):
            raise Unlike("a token's push on another one depends on a third")
        return sp.Integer(0)

    def number(self, factors: Factors, where: dict[Index, int]) -> sp.Expr:
        """A product without free coordinates; its sums are means over the uniform law."""
        out = sp.Integer(1)
        for group in components(factors, where):
            bound = indices_of(group) - set(where)
            out *= self._mean(group, where) if bound else self._factors(group, where)
        return out

    def _factors(self, factors: Factors, where: dict[Index, int]) -> sp.Expr:
        return sp.Mul(*(self._factor(f, where) for f in factors))

    def _factor(self, factor: Factor, where: dict[Index, int]) -> sp.Expr:
        places = [where[i] for i in factor.indices]
        tensor = factor.tensor
        if tensor == self.names.gram:
            return T if places[0] != places[1] else sp.Integer(1)
        meaning = self.book.of.get(tensor)
        if meaning is None:
            raise Unlike(f"{tensor.name} is no function of inner products")
        inside = dict(zip(meaning.indices, places, strict=True))
        (body,) = meaning.bodies
        value = sp.Add(*(c * self.number(f, inside) for c, f in body.terms))
        if meaning.kind == "exp":
            return sp.exp(value)
        if meaning.kind == "reciprocal":
            return 1 / value
        if meaning.kind == "ridge":
            rule, order = meaning.data
            return derivative_of(rule.body, order)(value)
        raise Unlike(f"{meaning.kind} has no value at the uniform law")

    def _mean(self, group: Factors, where: dict[Index, int]) -> sp.Expr:
        """Sum over tokens that all others see from one token: a mean over t for each."""
        bound = sorted(indices_of(group) - set(where))
        if any(i.dim != COUNT for i in bound):
            term = told(collect((), [(sp.Integer(1), group)]), self.names, self.book)
            raise Unlike(f"{term} is no function of inner products")
        centres = {i for f in group for i in f.indices if i in where}
        if not centres and [f.tensor for f in group] == [self.names.mass]:
            return sp.Integer(1)
        if len(centres) != 1:
            raise Unlike("a sum over tokens depends on two of them")
        (centre,) = centres
        if len(bound) > 1:
            between = [frozenset(f.indices) - set(where) for f in group]
            joined = [pair for pair in between if len(pair) == 2]
            if not _is_forest(joined):
                raise Unlike("tokens that are summed over depend on each other in a circle")
            apart = tuple(g for f in group for g in self._seen_from(f, centre, where))
            if apart == group:
                raise Unlike("tokens that are summed over depend on each other")
            return self.number(apart, where)
        (token,) = bound
        masses = [f for f in group if f.tensor == self.names.mass]
        if len(masses) != 1:
            raise Unlike("a sum over tokens counts each by no mass, or by more than one")
        inside = tuple(f for f in group if f not in masses)
        integrand = self._factors(inside, {centre: 0, token: 1})
        known = {w: s for s, w in self.means.items()}
        symbol = known.get(integrand) or sp.Symbol(
            f"M_{len(self.means) + 1}", real=True, positive=integrand.is_positive or None
        )
        self.means[symbol] = integrand
        return symbol

    def _seen_from(self, factor: Factor, centre: Index, where: dict[Index, int]) -> Factors:
        """<x, y> of two tokens is <x, z> <z, y> in the mean over turns about the centre z."""
        if factor.tensor != self.names.gram or any(i in where for i in factor.indices):
            return (factor,)
        first, second = factor.indices
        gram = self.names.gram
        return (gram[centre, first], gram[centre, second])


def _is_forest(edges: list[frozenset[Index]]) -> bool:
    """No circle, and no pair twice: then every mean about the centre is that of one token."""
    trees: list[frozenset[Index]] = []
    for edge in edges:
        met = [t for t in trees if t & edge]
        if any(edge <= t for t in met):
            return False
        trees = [t for t in trees if t not in met] + [frozenset(edge.union(*met))]
    return True

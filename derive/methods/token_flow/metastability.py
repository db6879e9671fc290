"""Caps of tokens that hold together: what of a push comes from outside, and what from inside.

Input: the velocity over (token, coordinate), with inner products that close.  Output: `Caps`, two
bounds on what moves a token a of a cap of mass mu, whose cosines with a are at least r, when no
token outside has a cosine above g with it:

    others(g, r, mu)  >=  sum of the pushes of all tokens outside,
    inside(r, m)      <=  the push of one token of mass m at the cosine r in the cap.

Both are values of the derived push where cosines stand at their bounds; that these are its extremes
is the sign of its derivatives in every cosine, decided symbolically for four kinds of tokens: a
itself, one more of its cap, two outside.  Raises `Unlike` where a sign is not seen.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.draws import generator
from derive.methods.common.record import Check
from derive.methods.token_flow.clusters import pushes
from derive.methods.token_flow.instances import at, at_tokens, instance
from derive.methods.token_flow.names import Names
from derive.methods.token_flow.patterns import Clusters, Unlike
from derive.methods.token_flow.scalar_values import number
from derive.methods.token_flow.tidy import tidy
from derive.methods.token_flow.two_clusters import COSINE, MASS

INSIDE = sp.Symbol("r", real=True)
_COSINES = sp.symbols("r_0 r_1 g_2 g_3", real=True)  # of a with itself, its cap, two outside
_MASSES = sp.symbols("m_0 m_1 m_2 m_3", positive=True)


@dataclass(frozen=True)
class Caps:
    """`others` in g, r and mu; `inside` in r and mu, there the mass of the one token."""

    others: sp.Expr
    inside: sp.Expr


def caps(velocity: Expression, names: Names, book: Book) -> Caps:
    """Raises Unlike, Leaves."""
    push = pushes(velocity, names, book)
    products = sp.Matrix(4, 4, lambda i, j: sp.Symbol(f"c_{min(i, j)}{max(i, j)}", real=True))
    for j, cosine in enumerate(_COSINES):
        products[0, j] = products[j, 0] = cosine
    values = Clusters(names, book, products=products, masses=_MASSES)
    of_token = [values.of(push, (0, k)) for k in range(4)]
    known = {*_COSINES, *_MASSES, *names.model.params, names.model.state_dim}
    if any(w.free_symbols - known for w in of_token):
        raise Unlike("what pulls a token depends on the cosines of two others")
    outside = of_token[2] + of_token[3]
    _require_signs(outside, (-1, -1, 1, 1))
    _require_signs(of_token[1], (-1, 1, -1, -1))
    if not all(_is(_apart(w), 1) for w in of_token[1:]):
        raise Unlike("a push is not seen to be positive")
    return Caps(*(tidy(e) for e in _at_their_bounds(push, names, book)))


def _at_their_bounds(push: Expression, names: Names, book: Book) -> tuple[sp.Expr, sp.Expr]:
    far = sp.Matrix([[INSIDE, COSINE], [COSINE, INSIDE]])
    others = Clusters(names, book, products=far, masses=(MASS, 1 - MASS)).of(push, (0, 1))
    near = sp.Matrix([[1, INSIDE], [INSIDE, 1]])
    inside = Clusters(names, book, products=near, masses=(1 - MASS, MASS)).of(push, (0, 1))
    return others, inside


def _require_signs(push: sp.Expr, signs: tuple[int, ...]) -> None:
    for cosine, sign in zip(_COSINES, signs, strict=True):
        slope = _apart(push.diff(cosine))
        if slope != 0 and not _is(slope, sign):
            raise Unlike("a push is not seen to rise or fall with every cosine")


def _apart(value: sp.Expr) -> sp.Expr:
    """Factored in positive symbols, one for the exponential of each term of an exponent."""
    symbols: dict[sp.Expr, sp.Symbol] = {}

    def split(exponent: sp.Expr) -> sp.Expr:
        out = sp.Integer(1)
        for term in sp.Add.make_args(sp.expand(exponent)):
            number, rest = term.as_coeff_Mul()
            out *= symbols.setdefault(rest, sp.Dummy("E", positive=True)) ** number
        return out

    return sp.factor(sp.together(value.replace(sp.exp, split)))


def _is(value: sp.Expr, sign: int) -> bool:
    return bool(value.is_positive if sign > 0 else value.is_negative)


def by_the_text(found: Caps, names: Names, velocity: Expression, book: Book) -> Check:
    """Random caps of tokens: no push of the text's velocity passes its bound.

    Pushes are solved from the text's own tangents, tokens being independent; `residual` is how far
    a bound is passed, relative to it.
    """
    worst, closest = -np.inf, np.inf
    for seed, spread in itertools.product(range(63, 67), (0.15, 0.4)):
        one = instance(names.model, seed, tokens=6, d=6)
        one = at_tokens(one, _caps_of(seed, spread))
        R, mass = one.x @ one.x.T, one.mass
        w = at(one, pushes(velocity, names, book), book)
        for a in range(6):
            cap = np.arange(6) // 3 == a // 3
            values = {**one.numbers, MASS: float(mass[cap].sum())}
            values |= {COSINE: float(R[a, ~cap].max()), INSIDE: float(R[a, cap].min())}
            allowed = number(found.others, values)
            excess = (float(w[a, ~cap].sum()) - allowed) / allowed
            for b in np.flatnonzero(cap):
                if b != a:
                    values |= {MASS: float(mass[b]), INSIDE: float(R[a, b])}
                    least = number(found.inside, values)
                    excess = max(excess, (least - float(w[a, b])) / least)
            worst, closest = max(worst, excess), min(closest, abs(excess))
    return Check("pushes of tokens in random caps against the bounds", max(worst, 0.0), 1e-12)


def _caps_of(seed: int, spread: float) -> np.ndarray:
    rng = generator(90, seed)
    centres = np.repeat(np.eye(6)[:2], 3, axis=0)
    x = centres + spread * rng.standard_normal((6, 6))
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))

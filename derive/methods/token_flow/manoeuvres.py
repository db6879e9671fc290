"""Parameters that move whole laws of tokens on the sphere, and what they do, by substitution.

Input: the velocity over (token, coordinate).  Output: `Manoeuvres`.  *Split*: the matrix before
the tokens' mean m is alpha alpha^T and the gate is open for all; every token moves by s alpha, s =
<m, alpha> - c.  *Pull*: a gate alone; every token moves by s omega, s = relu(<z, x> - h).
*Reverse*: the velocity changes its sign.  Each is put into the derived velocity and compared term
by term; what follows for cosines is read off the projected velocity.  Raises Leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sympy as sp

from derive.calculus.index.defined import Book, plus, spread
from derive.calculus.index.expressions import Expression, collect, scalar, single
from derive.calculus.index.factors import Factor, Factors, Index, Tensor, apart, fresh, indices_of
from derive.calculus.index.substitution import substituted
from derive.methods.token_flow.durations import (
    Poles,
    by_exponentials,
    by_poles,
    in_exponentials,
    poles,
)
from derive.methods.token_flow.gram import Leaves, projected
from derive.methods.token_flow.levers import Gate, Lever, Levers, constants, levers, slots, zeros
from derive.methods.token_flow.names import COUNT, Names
from derive.methods.token_flow.told import told
from derive.notation.common.scalars import extent

#: <x, alpha> of a token, of the mean; the threshold
Z, MEAN, C_SPLIT = sp.symbols("z m c", real=True)
Z0, Z1 = sp.symbols("z0 z1", real=True)
#: <x, omega>, <x, z>, <omega, z>; the gate's border; what is kept
S, G, K, H, KEPT = sp.symbols("s g k h C", real=True)
U = sp.Symbol("u", real=True)


@dataclass(frozen=True)
class Manoeuvres:
    """`split_rate` of z; `shift` of atanh z; `pull_rates` of (s, g); `kept` by pulls."""

    levers: Levers
    split_rate: sp.Expr
    shift: sp.Expr
    pull_rates: tuple[sp.Expr, sp.Expr]
    kept: sp.Expr
    split_poles: Poles
    split_time: sp.Expr
    pull_quadratics: tuple[sp.Poly, sp.Poly]
    pull_time: sp.Expr


def manoeuvres(velocity: Expression, names: Names, book: Book) -> Manoeuvres:
    """Raises Leaves with the reason."""
    found = levers(velocity, names, book)
    _require_odd(velocity, found, names, book)
    alpha, omega, towards = (direction(n, names) for n in ("alpha", "omega", "zeta"))
    split_rate = _split(velocity, found, alpha, names, book)
    shift = sp.simplify(sp.diff(sp.atanh(Z), Z) * split_rate)
    if shift.has(Z):
        raise Leaves(f"atanh of the cosine moves at {shift}, not alike for all tokens")
    split_rate = shift / sp.diff(sp.atanh(Z), Z)
    rates = _pull(velocity, found, omega, towards, names, book)
    kept, speed = _along(rates)
    logarithms, fractions = poles(split_rate.subs(MEAN, Z), Z), in_exponentials(speed, U)
    return Manoeuvres(
        found,
        split_rate,
        shift,
        rates,
        kept,
        logarithms,
        by_poles(logarithms, Z0, Z1),
        fractions,
        by_exponentials(*fractions),
    )


def _along(rates: tuple[sp.Expr, sp.Expr]) -> tuple[sp.Expr, sp.Expr]:
    """What a pull keeps of s and g, and how fast atanh s moves where the gate is open."""
    kept = (G - K * S) / sp.sqrt(1 - S**2)
    change = sp.diff(kept, S) * rates[0] + sp.diff(kept, G) * rates[1]
    if sp.simplify(change) != 0:
        raise Leaves(f"a pull does not keep {kept}")
    height = K * sp.tanh(U) + KEPT * sp.sech(U)  # g where s = tanh u, from kept = C
    if sp.simplify((kept - KEPT).subs(G, height).subs(S, sp.tanh(U)).rewrite(sp.exp)) != 0:
        raise Leaves(f"{height} is not where {kept} is C")
    push = sp.simplify(sp.diff(sp.atanh(S), S) * rates[0])
    if push != sp.Max(0, G - H):
        raise Leaves(f"atanh of the cosine moves at {push}, not by the gate alone")
    return kept, height - H


def direction(wish: str, names: Names) -> Tensor:
    """A unit vector under a name that is none of the definition's."""
    taken = {m.data for m in names.model.matrices}
    name = wish
    while name in taken:
        name += "_"
    return Tensor(name, (names.model.state_dim,), "constant")


def laid(lever: Lever, *pieces: Tensor, times: sp.Expr = sp.S.One) -> Expression:
    """The lever's value that has `pieces` in its coordinates and is shared over what is spare."""
    own = slots(lever.tensor)
    at = [k for k in (lever.out, lever.into) if k >= 0]
    factors = tuple(piece[(own[k],)] for piece, k in zip(pieces, at, strict=True))
    return collect(own, [(times / lever.number, factors)])


def shared(lever: Lever) -> sp.Expr:
    """One over how often the lever is counted."""
    return 1 / sp.Mul(*(extent(dim) for dim in lever.spare))


def split_values(found: Levers, alpha: Tensor, c: sp.Expr) -> dict[Tensor, Expression]:
    """V = alpha alpha^T, U = 0, b = 1, W = -c alpha."""
    mean, gate = found.barycentre, found.gate
    return {
        mean.tensor: laid(mean, alpha, alpha, times=shared(mean)),
        gate.into.tensor: scalar(sp.Integer(0), slots(gate.into.tensor)),
        gate.offset.tensor: laid(gate.offset),
        gate.out.tensor: laid(gate.out, alpha, times=-c * shared(gate.out)),
    }


def pull_values(gate: Gate, omega: Tensor, z: Tensor, h: sp.Expr) -> dict[Tensor, Expression]:
    """U = rows z^T, b = -h, W = omega."""
    return {
        gate.into.tensor: laid(gate.into, z),
        gate.offset.tensor: laid(gate.offset, times=-h),
        gate.out.tensor: laid(gate.out, omega, times=shared(gate.out)),
    }


def _moved(
    velocity: Expression, values: Mapping[Tensor, Expression], names: Names, book: Book
) -> Expression:
    """The velocity at these values, all other matrices zero."""
    rest = tuple(t for t in constants(velocity, names, book) if t not in values)
    out = substituted(velocity, {**zeros(rest), **values}, book, names.mass)
    radial = names.x[names.s, names.i]
    return collect(out.free, [(c, f) for c, f in out.terms if radial not in f])


def _require_odd(velocity: Expression, found: Levers, names: Names, book: Book) -> None:
    """The velocity at minus the outputs is minus the velocity, but for what points along x."""
    turned = {}
    for tensor in found.outputs:
        own = slots(tensor)
        turned[tensor] = -single(tensor[own], own)
    there = substituted(velocity, turned, book, names.mass)
    both = spread(plus(there, substituted(velocity, {}, book, names.mass)), velocity.free)
    radial = names.x[names.s, names.i]
    left = [(c, f) for c, f in both.terms if radial not in f]
    if left:
        term = told(collect(both.free, left), names, book)
        raise Leaves(f"the velocity is not turned around by its outer matrices: {term} is left")


def _split(velocity: Expression, found: Levers, alpha: Tensor, names: Names, book: Book) -> sp.Expr:
    """The rate of <x, alpha> in z, m, c."""
    c = sp.Dummy(C_SPLIT.name, real=True)  # no parameter of the definition
    moved = _moved(velocity, split_values(found, alpha, c), names, book)
    a, i, key, k = names.s, names.i, fresh(COUNT), fresh(names.model.state_dim)
    mean = collect((), [(sp.Integer(1), (names.mass[(key,)], names.x[key, k], alpha[(k,)]))])
    wanted = spread(plus(mean, scalar(-c)) * single(alpha[(i,)], (i,)), (a, i))
    _require_same(moved, wanted, "a split", names, book)
    known = [(mean, MEAN), *_products(names, {alpha: Z}, {(alpha, alpha): sp.Integer(1)})]
    return _rate(moved, alpha, known, names, book).subs(c, C_SPLIT)


def _pull(
    velocity: Expression, found: Levers, omega: Tensor, z: Tensor, names: Names, book: Book
) -> tuple[sp.Expr, sp.Expr]:
    """The rates of <x, omega> and <x, z> in s, g, k, h."""
    h = sp.Dummy(H.name, real=True)
    moved = _moved(velocity, pull_values(found.gate, omega, z, h), names, book)
    pairs = {(omega, omega): sp.Integer(1), (omega, z): K}
    known = _products(names, {omega: S, z: G}, pairs)
    pushes = [(c, tuple(f for f in factors if f.tensor != omega)) for c, factors in moved.terms]
    push = collect((names.s,), pushes)
    i = (names.i,)
    again = spread(push * single(omega[i], i), (names.s, names.i))
    _require_same(moved, again, "a pull", names, book)
    if sp.simplify(_scalars(push, known, book) - sp.Max(0, G - h)) != 0:
        raise Leaves(f"a pull moves tokens by {told(push, names, book)}, not by its gate")
    first, second = (_rate(moved, t, known, names, book).subs(h, H) for t in (omega, z))
    return first, second


def _require_same(
    moved: Expression, wanted: Expression, what: str, names: Names, book: Book
) -> None:
    if moved != wanted:
        left = told(plus(moved, -wanted), names, book)
        raise Leaves(f"{what} leaves {left} beside its own velocity")


def _products(
    names: Names, tokens: Mapping[Tensor, sp.Expr], fixed: Mapping[tuple[Tensor, Tensor], sp.Expr]
) -> list[tuple[Expression, sp.Expr]]:
    """Inner products of tokens and of directions, as expressions and as numbers."""
    a, k, one = names.s, fresh(names.model.state_dim), sp.Integer(1)
    out = [(collect((a,), [(one, (names.x[a, k], t[(k,)]))]), v) for t, v in tokens.items()]
    return out + [(collect((), [(one, (p[(k,)], q[(k,)]))]), v) for (p, q), v in fixed.items()]


def _rate(
    moved: Expression,
    direction: Tensor,
    known: Sequence[tuple[Expression, sp.Expr]],
    names: Names,
    book: Book,
) -> sp.Expr:
    """<x', direction> of the projected velocity, factored."""
    i = names.i
    along = (projected(moved, names) * single(direction[(i,)], (i,))).summed(i)
    rate = _scalars(spread(along, (names.s,)), known, book)
    gates = sp.Mul(*rate.atoms(sp.Max))
    return gates * sp.expand(sp.cancel(rate / gates))


def _scalars(
    expression: Expression, known: Sequence[tuple[Expression, sp.Expr]], book: Book
) -> sp.Expr:
    """The expression of one token in numbers that stand for its connected parts."""
    total = sp.Integer(0)
    for coefficient, factors in expression.terms:
        product = coefficient
        for part in _connected(apart(factors, expression.free), expression.free):
            product *= _scalar(part, expression.free, known, book)
        total += product
    return total


def _scalar(
    part: Factors,
    free: tuple[Index, ...],
    known: Sequence[tuple[Expression, sp.Expr]],
    book: Book,
) -> sp.Expr:
    own = tuple(i for i in free if i in indices_of(part))
    expression = collect(own, [(sp.Integer(1), part)])
    for form, value in known:
        if form == expression:
            return value
    meaning = book.of.get(part[0].tensor)
    if len(part) == 1 and meaning is not None and meaning.kind == "ridge":
        body = meaning.body(part[0].indices)
        return meaning.data[0].body(_scalars(spread(body, own), known, book))
    raise Leaves(f"{' '.join(map(str, part))} is no cosine of a manoeuvre")


def _connected(factors: Factors, free: tuple[Index, ...]) -> list[Factors]:
    """Factors that share summed indices, together."""
    groups: list[list[Factor]] = []
    for factor in factors:
        bound = set(factor.indices) - {*free}
        met = [g for g in groups if bound & (indices_of(g) - {*free})]
        groups = [g for g in groups if g not in met]
        groups.append([*(f for g in met for f in g), factor])
    return [tuple(g) for g in groups]

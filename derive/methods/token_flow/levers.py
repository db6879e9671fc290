"""Parameters of a flow on the sphere that move whole laws of tokens, read off the velocity.

Input: the velocity over (token, coordinate).  Output: `Levers`: the matrices of the scores, where
they vanish the *uniform* velocity, in which every token sees the mean m of all, the matrix before
m, and a gate W relu(U x + b).  Raises Leaves with the reason why there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression, collect, scalar
from derive.calculus.index.factors import Factor, Index, Tensor, apart, fresh
from derive.calculus.index.substitution import Values, substituted
from derive.methods.gaussian_closure.fields import Rule
from derive.methods.token_flow.gram import Leaves
from derive.methods.token_flow.names import COUNT, Names
from derive.methods.token_flow.told import told


@dataclass(frozen=True)
class Lever:
    """A matrix of the definition, the number before it, and which of its slots are coordinates.

    `out` is that of the velocity, `into` that of tokens; -1 where it has none.
    """

    tensor: Tensor
    number: sp.Expr
    out: int = -1
    into: int = -1

    @property
    def spare(self) -> tuple[sp.Symbol, ...]:
        """Dimensions over which the lever is the same."""
        return tuple(
            dim for k, dim in enumerate(self.tensor.dims) if k not in (self.out, self.into)
        )


@dataclass(frozen=True)
class Gate:
    """out f(into x + offset), f(s) = slope s where s > 0 and 0 elsewhere; `out` has the slope."""

    out: Lever
    into: Lever
    offset: Lever


@dataclass(frozen=True)
class Levers:
    """`outputs`: matrices, one in every term that moves tokens, of which the velocity is odd."""

    uniform: Expression
    scores: tuple[Tensor, ...]
    barycentre: Lever
    gate: Gate
    outputs: tuple[Tensor, ...]

    @property
    def vanishing(self) -> str:
        """Where tokens see each other's mean alone, in words."""
        return f"where {_vanishing(self.scores)}" if self.scores else "as it is"


def _vanishing(tensors: tuple[Tensor, ...]) -> str:
    return f"{', '.join(t.name for t in tensors)} vanish{'es' * (len(tensors) == 1)}"


def levers(velocity: Expression, names: Names, book: Book) -> Levers:
    """Raises Leaves with the reason."""
    scores = tuple(sorted(_in_scores(velocity, names, book), key=lambda t: t.name))
    uniform = substituted(velocity, zeros(scores), book, names.mass)
    for term in uniform.terms:
        if any(_of_pairs(f.tensor, names, book) for f in term[1]):
            left = told(collect(uniform.free, [term]), names, book)
            raise Leaves(f"tokens see each other by weights that no matrix makes equal: {left}")
    barycentre, gate = _barycentre(uniform, scores, names), _gate(uniform, names, book)
    return Levers(uniform, scores, barycentre, gate, _outputs(velocity, names, book))


def zeros(tensors: tuple[Tensor, ...]) -> Values:
    """Zero in the place of each."""
    return {t: scalar(sp.Integer(0), slots(t)) for t in tensors}


def slots(tensor: Tensor) -> tuple[Index, ...]:
    """New indices, one for each slot."""
    return tuple(fresh(dim) for dim in tensor.dims)


def constants(expression: Expression, names: Names, book: Book) -> set[Tensor]:
    """Matrices of the definition in it and in what its tensors stand for."""
    found: set[Tensor] = set()
    for tensor in expression.tensors():
        meaning = book.of.get(tensor)
        if meaning is not None:
            for body in meaning.bodies:
                found |= constants(body, names, book)
        elif tensor.kind == "constant" and tensor != names.mass:
            found.add(tensor)
    return found


def _in_scores(expression: Expression, names: Names, book: Book) -> set[Tensor]:
    """Matrices inside of functions of pairs of tokens."""
    found: set[Tensor] = set()
    for tensor in expression.tensors():
        if _of_pairs(tensor, names, book):
            for body in book.of[tensor].bodies:
                found |= constants(body, names, book)
    return found


def _of_pairs(tensor: Tensor, names: Names, book: Book) -> bool:
    """Is it a function of two tokens, or of all?"""
    meaning = book.of.get(tensor)
    if meaning is None:
        return False
    if sum(i.dim == COUNT for i in meaning.indices) > 1:
        return True
    inside = {t for body in meaning.bodies for t in body.tensors()}
    return names.mass in inside or any(_of_pairs(t, names, book) for t in inside)


def _barycentre(uniform: Expression, scores: tuple[Tensor, ...], names: Names) -> Lever:
    """The matrix M in M[i,k] mass[l] x[l,k]."""
    for number, factors in uniform.terms:
        kinds = {f.tensor: f for f in factors}
        if len(factors) != 3 or not {names.mass, names.x} <= kinds.keys():
            continue
        token, mass = kinds.pop(names.x), kinds.pop(names.mass)
        (matrix,) = kinds.values()
        key, k = token.indices
        if mass.indices != (key,) or key == names.s or names.i not in matrix.indices:
            continue
        if k in matrix.indices and matrix.tensor.kind == "constant":
            at = matrix.indices.index
            return Lever(matrix.tensor, number, at(names.i), at(k))
    where = f"where {_vanishing(scores)}, " if scores else ""
    raise Leaves(f"{where}no one matrix stands before the mean of the tokens")


def _gate(uniform: Expression, names: Names, book: Book) -> Gate:
    why = "no gate: no term W relu(U x + b), a matrix before a function of one token"
    for number, factors in uniform.terms:
        if len(factors) != 2 or not any(f.tensor.kind == "ridge" for f in factors):
            continue
        ridge, matrix = sorted(apart(factors, uniform.free), key=lambda f: f.tensor.kind != "ridge")
        if matrix.tensor.kind != "constant" or names.i not in matrix.indices:
            continue
        try:
            out = Lever(matrix.tensor, number, matrix.indices.index(names.i))
            return _of_ridge(ridge, out, names, book)
        except Leaves as found:
            why = found.term
    raise Leaves(why)


def _of_ridge(ridge: Factor, out: Lever, names: Names, book: Book) -> Gate:
    meaning = book.of[ridge.tensor]
    rule, order = meaning.data
    slope = _slope(rule) if order == 0 else None
    if slope is None:
        raise Leaves(f"the gate is a derivative of {rule.name}")
    into, offset = None, None
    for number, factors in meaning.body(ridge.indices).terms:
        others = [f for f in factors if f.tensor != names.x]
        tokens = [f for f in factors if f.tensor == names.x]
        if len(others) != 1 or others[0].tensor.kind != "constant" or len(tokens) > 1:
            raise Leaves(f"the argument of {rule.name} is not affine in a token, as U x + b is")
        if tokens and tokens[0].indices[1] in others[0].indices:
            at = others[0].indices.index(tokens[0].indices[1])
            into = Lever(others[0].tensor, number, -1, at)
        elif not tokens:
            offset = Lever(others[0].tensor, number)
    if into is None or offset is None:
        raise Leaves(f"the argument of {rule.name} has no offset b, as U x + b has")
    return Gate(Lever(out.tensor, out.number * slope, out.out), into, offset)


def _slope(rule: Rule) -> sp.Expr:
    """f(1) where f(s) = f(1) s for s > 0 and 0 for s < 0; raises Leaves."""
    below, above = sp.Symbol("s", negative=True), sp.Symbol("s", positive=True)
    if sp.simplify(rule.body(below)) != 0:
        raise Leaves(
            f"{rule.name} does not vanish for negative arguments: tokens outside the gate do not "
            "rest"
        )
    slope = sp.simplify(rule.body(above) / above)
    if slope.free_symbols or slope == 0:
        raise Leaves(f"{rule.name}(s) is not proportional to s where the gate is open")
    return slope


def _outputs(velocity: Expression, names: Names, book: Book) -> tuple[Tensor, ...]:
    """The matrices that carry the velocity's coordinate; what points along the token is nothing."""
    found: set[Tensor] = set()
    for coefficient, factors in velocity.terms:
        (carrier,) = [f for f in factors if names.i in f.indices]
        if carrier == names.x[names.s, names.i]:
            continue
        if carrier.tensor.kind != "constant":
            term = told(collect(velocity.free, [(coefficient, factors)]), names, book)
            raise Leaves(f"no matrix turns {term} around")
        found.add(carrier.tensor)
    return tuple(sorted(found, key=lambda t: t.name))

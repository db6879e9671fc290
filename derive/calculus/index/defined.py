"""Some tensors are defined by an equation: exponentials, inverses, ridges, gates.

Input: index expressions that say what a tensor is.  Output: a `Tensor` that stands for it, the
same tensor for the same meaning, so that equal things cancel.  The differentiation rule of each
kind is here too; its Gaussian average is in `derive.calculus.gaussian.tilt`.

Kinds, with `bodies` over the tensor's own indices:
    exp        exp(e)                                          bodies (e,)
    ridge      f^(k)(s), s affine in the keys                  bodies (s,)
    smooth     E f^(k)(s), s ~ N(mu, v)                        bodies (mu, v)
    inverse    P with P (I + B) = I                            bodies (B,)
    det        det(I + B)^(-1/2)                               bodies (B,)
    reciprocal 1/D                                             bodies (D,)
    gate       w_j / sum of all w, w_j = theta_j exp(e_j)      bodies (e, theta)
    spectral   g(B), B symmetric, g a scalar function          bodies (B,)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factor, Factors, Index, Tensor, Terms, delta_tensor, fresh

KINDS = ("exp", "ridge", "smooth", "inverse", "det", "reciprocal", "gate", "spectral")
_LETTERS = {"exp": "G", "ridge": "f", "smooth": "J", "inverse": "P", "det": "c"}
_LETTERS |= {"reciprocal": "r", "gate": "g", "spectral": "D"}


@dataclass(frozen=True)
class Definition:
    """What a tensor means: `bodies` are expressions whose free indices start with `indices`."""

    kind: str
    indices: tuple[Index, ...]
    bodies: tuple[Expression, ...]
    data: Any = None

    def body(self, at: tuple[Index, ...], which: int = 0) -> Expression:
        """A body with the tensor's indices placed at `at`."""
        return placed(self.bodies[which], dict(zip(self.indices, at, strict=True)))


@dataclass
class Book:
    """The definitions of one derivation, each meaning once.

    `pairs`: a dimension such that a function of two of its members is known to be symmetric where
    its argument is.
    """

    of: dict[Tensor, Definition] = field(default_factory=dict)
    # (M over row and column, covariance tensor): I + L^T M L must be positive definite
    conditions: list[tuple[Expression, Tensor]] = field(default_factory=list)
    # couplings of two Gaussian laws: (exponent of the kernel, T, T T^T as a defined tensor's root)
    couplings: list[tuple[Expression, Expression, Tensor]] = field(default_factory=list)
    pairs: sp.Symbol | None = None
    functions: dict[str, Any] = field(default_factory=dict)
    _known: dict[Definition, Tensor] = field(default_factory=dict)

    def tensor(
        self,
        kind: str,
        indices: Iterable[Index],
        bodies: Iterable[Expression],
        data: Any = None,
        dims: tuple[sp.Symbol, ...] = (),
    ) -> Tensor:
        """The tensor of a meaning; `dims` are slots beyond the indices (rows of an inverse)."""
        meaning = Definition(kind, tuple(indices), tuple(bodies), data)
        if meaning not in self._known:
            count = sum(d.kind == kind for d in self._known) + 1
            slots = (*(i.dim for i in meaning.indices), *dims)
            symmetric = kind == "spectral" or self._symmetric(meaning)
            made = Tensor(f"{_LETTERS[kind]}_{count}", slots, kind, symmetric)
            self._known[meaning] = made
            self.of[made] = meaning
        return self._known[meaning]

    def named(self, name: str, body: Any) -> str:
        """A scalar function's name that stands for no other body in this derivation."""
        unique, count = name, 2
        while self.functions.setdefault(unique, body) != body:
            unique, count = f"{name}_v{count}", count + 1
        return unique

    def _symmetric(self, meaning: Definition) -> bool:
        if meaning.kind not in ("exp", "ridge") or len(meaning.indices) != 2:
            return False
        (a, b), (body,) = meaning.indices, meaning.bodies
        turned = spread(body.renamed({a: b, b: a}), body.free)
        return a.dim == b.dim == self.pairs and turned == body


def placed(expression: Expression, names: dict[Index, Index]) -> Expression:
    """Rename free indices; one that is absent is ignored."""
    return expression.renamed({k: v for k, v in names.items() if k != v})


def depends(expression: Expression, variable: Tensor, book: Book) -> bool:
    """Does the expression contain the variable, through definitions too?"""
    return any(touches(t, variable, book) for t in expression.tensors())


def touches(tensor: Tensor, variable: Tensor, book: Book) -> bool:
    if tensor == variable:
        return True
    meaning = book.of.get(tensor)
    return meaning is not None and any(depends(b, variable, book) for b in meaning.bodies)


def spread(expression: Expression, free: Iterable[Index]) -> Expression:
    """The same expression over more (or reordered) free indices; new ones are constant."""
    return collect(tuple(free), list(expression.terms))


def union(*groups: Iterable[Index]) -> tuple[Index, ...]:
    return tuple(dict.fromkeys(i for g in groups for i in g))


def plus(*parts: Expression) -> Expression:
    """Sum with broadcasting over free indices."""
    free = union(*(p.free for p in parts))
    return collect(free, [t for p in parts for t in p.terms])


def unit(factors: Factors, free: Iterable[Index]) -> Expression:
    return collect(tuple(free), [(sp.Integer(1), factors)])


def differentiate(
    expression: Expression, variable: Tensor, at: Index | tuple[Index, ...], book: Book
) -> Expression:
    """d(expression)/d(variable[at]); the new free indices `at` come last.

    One index stands in the variable's last slot, others being parameters; a tuple in all slots.
    """
    at = (at,) if isinstance(at, Index) else at
    free = (*expression.free, *at)
    parts = []
    for coefficient, factors in expression.terms:
        for position, factor in enumerate(factors):
            slope = _slope(factor, variable, at, book)
            if slope is None:
                continue
            others = factors[:position] + factors[position + 1 :]
            parts += [(coefficient * c, others + f) for c, f in slope]
    return collect(free, parts)


def _slope(factor: Factor, variable: Tensor, at: tuple[Index, ...], book: Book) -> Terms | None:
    """Derivative of one factor as products that keep the factor's indices."""
    one = sp.Integer(1)
    if factor.tensor == variable:
        own = factor.indices[-len(at) :]
        return [(one, tuple(delta_tensor(j.dim)[i, j] for i, j in zip(own, at, strict=True)))]
    meaning = book.of.get(factor.tensor)
    if meaning is None or not touches(factor.tensor, variable, book):
        return None
    own = factor.indices

    def inner(which: int = 0) -> Terms:
        body = meaning.bodies[which]
        slope = differentiate(body, variable, at, book)
        # bound names of the slope are made new; its free indices are put at the factor's own
        ends = [dict(zip(meaning.indices, own, strict=True)).get(i, i) for i in slope.free]
        return slope.placed(ends)

    if meaning.kind == "exp":
        return [(c, (*f, factor)) for c, f in inner()]
    if meaning.kind == "reciprocal":
        return [(-c, (*f, factor, factor)) for c, f in inner()]
    if meaning.kind == "ridge":
        rule, order = meaning.data
        up = book.tensor("ridge", meaning.indices, meaning.bodies, (rule, order + 1))
        return [(c, (*f, up[own])) for c, f in inner()]
    if meaning.kind == "smooth":
        rule, order = meaning.data
        once = book.tensor("smooth", meaning.indices, meaning.bodies, (rule, order + 1))
        twice = book.tensor("smooth", meaning.indices, meaning.bodies, (rule, order + 2))
        out = [(c, (*f, once[own])) for c, f in inner(0)]
        return out + [(c / 2, (*f, twice[own])) for c, f in inner(1)]
    if meaning.kind == "gate":
        last = own[-1]
        other = fresh(last.dim)
        out = [(c, (*f, factor)) for c, f in inner()]
        shifted = (*own[:-1], other)
        gate = factor.tensor[shifted]
        slope = differentiate(meaning.bodies[0], variable, at, book)
        ends = [dict(zip(meaning.indices, shifted, strict=True)).get(i, i) for i in slope.free]
        return out + [(-c, (*f, gate, factor)) for c, f in slope.placed(ends)]
    raise AssertionError(f"no derivative rule for {meaning.kind}")

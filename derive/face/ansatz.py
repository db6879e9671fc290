"""Families of covariances that a drift may keep: V_ab = f delta_ab + g, with a proof or a refusal.

Substituted into an index expression, deltas and ones close every sum in polynomials of the
dimension, so what comes out holds at every m at once.  A drift keeps the family where it lies in
the span of the family's own derivatives; the coefficients are then the rates of its parameters.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factor, Factors, Tensor, Terms, delta_tensor, indices_of
from derive.calculus.index.text import show_term
from derive.errors import Refusal, RequestError
from derive.face.entries import closure_of, kernel_value
from derive.face.symbols import plain
from derive.notation.common.scalars import extent


class Ansatz:
    """V_ab = identity * delta_ab + ones, both in the family's parameters.

    >>> v, r = sympy.symbols("v r")
    >>> Ansatz(identity=v * (1 - r), ones=v * r)   # what `derive.equicorrelated` is
    """

    def __init__(self, identity: Any, ones: Any = 0) -> None:
        self.identity, self.ones = sp.sympify(identity), sp.sympify(ones)
        self.parameters = tuple(
            sorted(self.identity.free_symbols | self.ones.free_symbols, key=lambda s: s.name)
        )

    def __repr__(self) -> str:
        return f"Ansatz({self.identity}, {self.ones})"

    def text(self, name: str) -> str:
        """The family of the covariance `name` in words; raises nothing."""
        ones = f" + {self.ones}" if self.ones != 0 else ""
        return f"{name}[a,b] = ({self.identity})*delta[a,b]{ones}"


_v, _r = sp.Symbol("v", positive=True), sp.Symbol("r", real=True)
equicorrelated = Ansatz(identity=_v * (1 - _r), ones=_v * _r)


@dataclass(frozen=True)
class Rates:
    """What an equation says of a family that it keeps: the rate of each parameter, exact SymPy.

    `rates` by name, also as attributes; `proof`: what was shown, in words.
    """

    rates: Mapping[str, sp.Expr]
    proof: str

    def __getattr__(self, name: str) -> sp.Expr:
        if name.startswith("_") or name not in self.rates:
            raise AttributeError(f"no rate {name!r}; there are {', '.join(self.rates)}")
        return self.rates[name]

    def __getitem__(self, name: str) -> sp.Expr:
        return self.rates[name]

    def __repr__(self) -> str:
        return "\n".join([*(f"d{n}/dt = {e}" for n, e in self.rates.items()), f"({self.proof})"])

    @property
    def latex(self) -> str:
        """The rates as LaTeX, to stand in a display."""
        rows = [rf"\dot{{{n}}} ={{}}& {sp.latex(e)}" for n, e in self.rates.items()]
        return r"\begin{aligned}" + " \\\\ ".join(rows) + r"\end{aligned}"

    def _repr_html_(self) -> str:
        return f"$${html.escape(self.latex)}$$<p>{html.escape(self.proof)}</p>"


def put_in(expression: Expression, name: str, ansatz: Ansatz, book: Book) -> Expression:
    """The expression with the family in place of a covariance; sums over tokens are taken."""
    tensor = next((t for t in expression.tensors() if t.name == name), None)
    if tensor is None:
        there = ", ".join(t.name for t in expression.tensors() if t.kind == "covariance")
        raise RequestError(f"{name} does not occur in this equation; covariances there: {there}")
    if tensor.kind != "covariance" or len(tensor.dims) != 2:
        raise RequestError(f"{name} is no covariance of two tokens, which an ansatz stands for")
    clash = {s.name for s in ansatz.parameters} & {
        s.name for c, _ in expression.terms for s in c.free_symbols
    }
    if clash:
        raise RequestError(
            f"the ansatz and the equation both have a symbol {', '.join(sorted(clash))}; make an "
            "Ansatz(identity=..., ones=...) of other symbols"
        )
    _require_open(expression, tensor, book)
    terms: Terms = []
    for coefficient, factors in expression.terms:
        bound = indices_of(factors) - set(expression.free)
        for c, product in _expanded(coefficient, factors, tensor, ansatz):
            for index in bound - indices_of(product):
                c = c * extent(index.dim)
            terms.append((c, product))
    return collect(expression.free, terms)


def _require_open(expression: Expression, tensor: Tensor, book: Book) -> None:
    for other in closure_of(expression.tensors(), book):
        hidden = other.kind in ("response", "factor") or other in book.of
        if hidden and other != tensor:
            raise Refusal(
                f"{other.name} depends on {tensor.name} as a whole; whether it keeps the family "
                "is not decided by sums over its entries",
            )


def _expanded(
    coefficient: sp.Expr, factors: Factors, tensor: Tensor, ansatz: Ansatz
) -> Iterable[tuple[sp.Expr, Factors]]:
    """A product of sums as a sum of products; lost indices are the caller's."""
    done: Terms = [(coefficient, ())]
    for factor in factors:
        parts = _parts(factor, tensor, ansatz)
        done = [(c * e, (*kept, *more)) for c, kept in done for e, more in parts]
    return done


def _parts(factor: Factor, tensor: Tensor, ansatz: Ansatz) -> Terms:
    """A factor in deltas and ones."""
    kind, meaning = factor.tensor.kind, factor.tensor.meaning
    diagonal = ansatz.identity + ansatz.ones
    if factor.tensor == tensor:
        same, other = diagonal, ansatz.ones
    elif kind == "spread" and meaning[1] == tensor:
        return [(meaning[0] * sp.sqrt(diagonal), ())]
    elif kind == "kernel" and meaning[2] == tensor:
        shape, degree, _ = meaning
        same = kernel_value(shape, degree, diagonal, diagonal, diagonal, True)
        other = kernel_value(shape, degree, diagonal, diagonal, ansatz.ones, False)
        other = sp.simplify(other)
    else:
        return [(sp.Integer(1), (factor,))]
    i, j = factor.indices
    if i == j:
        return [(same, ())]
    both = [(same - other, (delta_tensor(i.dim)[i, j],)), (other, ())]
    return [(c, f) for c, f in both if c != 0]


def rates(expression: Expression, name: str, ansatz: Ansatz) -> Rates:
    """The rates of the family's parameters under a drift, already put in.

    Raises Refusal, with what leaves it, where the drift is not tangent to the family.
    """
    a, b = expression.free
    delta = (delta_tensor(a.dim)[a, b],)
    _require_closed(expression, name, delta, ansatz)
    found = {factors: plain(c) for c, factors in expression.terms}
    values = [found.get(f, sp.Integer(0)) for f in (delta, ())]
    tangents = [[sp.diff(e, s) for s in ansatz.parameters] for e in (ansatz.identity, ansatz.ones)]
    unknown = [sp.Dummy(s.name) for s in ansatz.parameters]
    rows = [
        sp.Add(*(t * u for t, u in zip(row, unknown, strict=True))) - value
        for row, value in zip(tangents, values, strict=True)
    ]
    solved = sp.solve(rows, unknown, dict=True)
    # SymPy leaves out equations without unknowns, so what it finds is put in again
    kept = solved and all(u in solved[0] for u in unknown)
    if not kept or any(sp.simplify(row.subs(solved[0])) != 0 for row in rows):
        left = [
            f"{sp.factor(v)} {w}"
            for v, w, row in zip(values, ("delta_ab", "(constant)"), tangents, strict=True)
            if v != 0 and not any(row)
        ] or [f"{sp.factor(values[0])} delta_ab + {sp.factor(values[1])} (constant)"]
        raise Refusal(
            f"the drift leaves {ansatz.text(name)}: {'; '.join(left)} is no direction of the family"
        )
    dim = a.dim
    proof = (
        f"for every {dim}: with {ansatz.text(name)} all sums close, and what comes out is the "
        "family's own derivative with these rates, 0 terms left; the noise is not asked"
    )
    names = [s.name for s in ansatz.parameters]
    return Rates({n: sp.factor(solved[0][u]) for n, u in zip(names, unknown, strict=True)}, proof)


def _require_closed(expression: Expression, name: str, delta: Factors, ansatz: Ansatz) -> None:
    for place, (_, factors) in enumerate(expression.terms):
        if factors not in (delta, ()):
            raise Refusal(
                f"the drift leaves {ansatz.text(name)}: the term "
                f"{show_term(expression, place)} is neither delta_ab nor constant"
            )

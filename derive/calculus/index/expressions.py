"""Index expressions are sums of products of tensors with named, typed indices.

Input: tensors and indices.  Output: `Expression`, the one representation that every rule of the
calculus reads and writes.  Coefficients are SymPy expressions in parameters and symbolic
dimensions; a dimension is never a number here.

Semantics are einsum's: an index of a term that is not free is summed over its dimension, once; a
repeated free index is a diagonal; a free index that a term does not carry means the term is
constant along it.

Not supported here: functions of expressions (they are expanded before they arrive, see
`derive.calculus.limit.series`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp

from derive.calculus.index.canonical import canonical
from derive.calculus.index.contractions import contract_deltas, contract_rows, contract_units
from derive.calculus.index.factors import Factor, Factors, Index, Tensor, Terms, apart, indices_of
from derive.calculus.index.joints import contract_joints
from derive.notation.common.scalars import extent


@dataclass(frozen=True)
class Expression:
    """Sum of coefficient * product of factors, with `free` output indices.

    `terms` is in normal form: canonical products, distinct, nonzero coefficients, sorted.  Two
    expressions over the same free indices are equal as functions of generic tensors iff their
    terms are equal.
    """

    free: tuple[Index, ...]
    terms: tuple[tuple[sp.Expr, Factors], ...]

    def __add__(self, other: Expression) -> Expression:
        return collect(self.free, (*self.terms, *other.terms))

    def __neg__(self) -> Expression:
        return self.scaled(sp.Integer(-1))

    def __sub__(self, other: Expression) -> Expression:
        return self + (-other)

    def __mul__(self, other: Expression) -> Expression:
        """Product; free indices of equal name are identified (entrywise product)."""
        free = self.free + tuple(i for i in other.free if i not in self.free)
        products = []
        for coeff, factors in self.terms:
            for c2, f2 in other.terms:
                products.append((coeff * c2, factors + apart(f2, other.free)))
        return collect(free, products)

    def scaled(self, coefficient: sp.Expr) -> Expression:
        return self.map_coefficients(lambda c: coefficient * c)

    def summed(self, *over: Index) -> Expression:
        """Sum over free indices; a term without the index contributes the dimension."""
        free = tuple(i for i in self.free if i not in over)
        products = []
        for coeff, factors in self.terms:
            present = indices_of(factors)
            for index in over:
                if index not in present:
                    coeff = coeff * extent(index.dim)
            products.append((coeff, apart(factors, free)))
        return collect(free, products)

    def renamed(self, names: Mapping[Index, Index]) -> Expression:
        """Rename free indices (simultaneously); mapping two to one takes a diagonal.

        The normal form knows free indices by their places: new names alone leave it as it is.
        """
        free = tuple(dict.fromkeys(names.get(i, i) for i in self.free))
        if len(free) == len(self.free):
            own = {i: names[i] for i in self.free if i in names}
            named = ((c, tuple(f.rename(own) for f in factors)) for c, factors in self.terms)
            return Expression(free, tuple(named))
        return collect(
            free,
            [
                (c, tuple(f.rename(names) for f in apart(factors, self.free)))
                for c, factors in self.terms
            ],
        )

    def map_terms(
        self, rule: Callable[[sp.Expr, Factors], Iterable[tuple[sp.Expr, Factors]]]
    ) -> Expression:
        """Apply a rule term by term and collect what it returns."""
        return collect(self.free, [p for c, f in self.terms for p in rule(c, f)])

    def map_coefficients(self, rule: Callable[[sp.Expr], sp.Expr]) -> Expression:
        found = ((normal_coefficient(sp.sympify(rule(c))), f) for c, f in self.terms)
        return Expression(self.free, tuple((c, f) for c, f in found if c != 0))

    def only(self, wanted: Callable[[sp.Expr, Factors], bool]) -> Expression:
        """The terms that a test passes."""
        return Expression(self.free, tuple((c, f) for c, f in self.terms if wanted(c, f)))

    @property
    def is_zero(self) -> bool:
        return not self.terms

    def placed(self, ends: Iterable[Index]) -> Terms:
        """The products with the free indices put at `ends` and every dummy new.

        For building larger products by hand; `collect` the result.
        """
        names = dict(zip(self.free, ends, strict=True))
        return [
            (c, tuple(f.rename(names) for f in apart(factors, self.free)))
            for c, factors in self.terms
        ]

    def tensors(self) -> tuple[Tensor, ...]:
        """Tensors in order of name."""
        found = {f.tensor for _, factors in self.terms for f in factors}
        return tuple(sorted(found, key=lambda t: t.name))


def collect(free: Iterable[Index], products: Iterable[tuple[sp.Expr, Factors]]) -> Expression:
    """Normal form: contract deltas, canonicalise every product, add equal ones, drop zeros."""
    free = tuple(free)
    found: dict[tuple[Any, ...], tuple[list[sp.Expr], Factors]] = {}
    for coeff, factors in products:
        if coeff == 0:
            continue
        coeff, factors = contract_deltas(coeff, factors, free)
        coeff, factors = contract_joints(coeff, factors, free)
        coeff, factors = contract_rows(coeff, factors, free)
        coeff, factors = contract_units(coeff, factors, free)
        key, normal = canonical(factors, free)
        if key in found:
            found[key][0].append(coeff)
        else:
            found[key] = ([coeff], normal)
    terms = []
    for key in sorted(found):
        coeffs, factors = found[key]
        total = normal_coefficient(sp.Add(*coeffs))
        if total != 0:
            terms.append((total, factors))
    return Expression(free, tuple(terms))


_normal: dict[sp.Expr, sp.Expr] = {}


def normal_coefficient(coeff: sp.Expr) -> sp.Expr:
    """Expanded coefficient, zero exactly when it vanishes as a rational function.

    Radicals of the parameters (sqrt(1 - gamma**2), say) are algebraic: SymPy reduces their even
    powers on expansion, which is what cancellation needs.
    """
    if coeff not in _normal:
        expanded = sp.expand(coeff)
        # only sums in denominators can hide a zero from expansion
        hidden = expanded.is_Add and any(
            p.exp.is_negative and p.base.is_Add for p in expanded.atoms(sp.Pow)
        )
        if hidden and sp.expand(sp.fraction(sp.together(expanded))[0]) == 0:
            expanded = sp.Integer(0)
        _normal[coeff] = expanded
    return _normal[coeff]


def scalar(coefficient: sp.Expr, free: Iterable[Index] = ()) -> Expression:
    return collect(free, [(sp.sympify(coefficient), ())])


def single(factor: Factor, free: Iterable[Index]) -> Expression:
    return collect(free, [(sp.Integer(1), (factor,))])

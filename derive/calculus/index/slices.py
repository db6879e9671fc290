"""Heads and positions as subscripts: K[h,k,l] is the matrix K[h], and a sum over h stands in front.

Input: an expression, and the dimensions that are stacks of matrices.  Output: `Sliced`, the same
sum over fewer indices: a tensor with indices over stacks is a `SLICE` with its others alone, a
number (a tensor without other indices) is a symbol in the coefficient, and so is the sum over
stacks that nothing else names.  `whole` takes it back, and `sliced` proves with it that nothing
was lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import sympy as sp

from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factor, Factors, Index, Tensor, Terms, apart, fresh
from derive.errors import CheckFailed

SLICE = "slice"  # kind of a tensor at given places of its stacks; meaning: (tensor, indices)
MATRIX_KINDS = ("covariance", "spectral")  # symmetric in their last two slots
LETTERS = {"B": ("tau", "rho", "nu")}
OTHERS = tuple("hgfeab")


@dataclass(frozen=True)
class Sliced:
    """`entries`: what symbols in coefficients stand for; `sums`: over which stacks others sum."""

    expression: Expression
    entries: Mapping[sp.Symbol, Factor]
    sums: Mapping[sp.Symbol, tuple[Index, ...]]

    def bound(self, symbol: sp.Symbol) -> bool:
        """Does an entry stand at a place that is summed over?"""
        summed = {i for over in self.sums.values() for i in over}
        return symbol in self.entries and bool(summed & {*self.entries[symbol].indices})


NOTHING = Sliced(Expression((), ()), {}, {})


def sliced(expression: Expression, stacks: Collection[sp.Symbol]) -> Sliced:
    """Raises CheckFailed if the slices do not add up to the expression."""
    entries: dict[sp.Symbol, Factor] = {}
    sums: dict[sp.Symbol, tuple[Index, ...]] = {}
    taken = {i.name for i in expression.free}
    taken |= {s.name for c, _ in expression.terms for s in c.free_symbols}
    products: Terms = []
    for coefficient, factors in expression.terms:
        names = _named(factors, expression.free, stacks, taken)
        bound = tuple(i for old, i in names.items() if old not in expression.free)
        if bound:
            symbol = sp.Symbol(f"sum_{{{','.join(sorted(i.name for i in bound))}}}")
            sums[symbol] = bound
            coefficient *= symbol
        left = []
        for factor in factors:
            one = _slice(factor.rename(names), stacks)
            if one.indices:
                left.append(one)
                continue
            symbol = sp.Symbol(one.tensor.name)
            entries[symbol] = factor.rename(names)
            coefficient *= symbol
        products.append((coefficient, tuple(left)))
    free = tuple(i for i in expression.free if i.dim not in stacks)
    found = Sliced(collect(free, products), entries, sums)
    lost = _rooted(whole(found, expression.free)) - _rooted(expression)
    if lost.terms:
        raise CheckFailed(f"the slices of an equation leave {len(lost.terms)} terms against it")
    return found


def whole(found: Sliced, free: tuple[Index, ...]) -> Expression:
    """The expression over all its indices."""
    products: Terms = []
    for coefficient, factors in found.expression.terms:
        for share in sp.Add.make_args(sp.expand(coefficient)):
            number, all_ = sp.Integer(1), [_unsliced(f) for f in factors]
            for base, power in share.as_powers_dict().items():
                if base in found.entries:
                    all_ += [found.entries[base]] * int(power)
                elif base not in found.sums:
                    number *= base**power
            products.append((number, apart(tuple(all_), free)))
    return collect(free, products)


def stacks_of(tensor: Tensor) -> tuple[Index, ...]:
    """The places at which a slice is taken."""
    return tuple(tensor.meaning[1]) if tensor.kind == SLICE else ()


def _named(
    factors: Factors, free: tuple[Index, ...], stacks: Collection[sp.Symbol], taken: set[str]
) -> dict[Index, Index]:
    """Names for the indices over stacks; one that is free keeps its own."""
    out: dict[Index, Index] = {}
    used = set(taken)
    for index in dict.fromkeys(i for f in factors for i in f.indices if i.dim in stacks):
        name = index.name
        if index not in free:
            wanted = LETTERS.get(index.dim.name, OTHERS)
            more = (f"{wanted[0]}{k}" for k in itertools.count(2))
            name = next(n for n in itertools.chain(wanted, more) if n not in used)
        used.add(name)
        out[index] = Index(name, index.dim)
    return out


def _slice(factor: Factor, stacks: Collection[sp.Symbol]) -> Factor:
    places = tuple(i for i in factor.indices if i.dim in stacks)
    if not places:
        return factor
    rest = tuple(i for i in factor.indices if i.dim not in stacks)
    base = factor.tensor
    at = ",".join(i.name for i in factor.indices if i.dim in stacks)
    symmetric = len(rest) == 2 and (base.symmetric or base.kind in MATRIX_KINDS)
    # which slots are places: the order of the tensor's own indices
    slots = tuple(k for k, i in enumerate(factor.indices) if i.dim in stacks)
    tensor = Tensor(
        f"{base.name}[{at}]", tuple(i.dim for i in rest), SLICE, symmetric, (base, places, slots)
    )
    return Factor(tensor, rest)


def _unsliced(factor: Factor) -> Factor:
    if factor.tensor.kind != SLICE:
        return factor
    base, places, slots = factor.tensor.meaning
    indices = list(factor.indices)
    for slot, index in zip(slots, places, strict=True):
        indices.insert(slot, index)
    return Factor(base, tuple(indices))


def _rooted(expression: Expression) -> Expression:
    """Stacked covariances as S = F F^T, so that both readings of a symmetric one are equal."""

    def rule(coefficient: sp.Expr, factors: Factors) -> Terms:
        out: list[Factor] = []
        for f in factors:
            if f.tensor.kind not in MATRIX_KINDS or len(f.indices) < 3:
                out.append(f)
                continue
            *places, one, two = f.indices
            link = fresh(one.dim)
            root = Tensor(f"root of {f.tensor.name}", f.tensor.dims, "constant")
            out += [root[(*places, one, link)], root[(*places, two, link)]]
        return [(coefficient, tuple(out))]

    return expression.map_terms(rule)

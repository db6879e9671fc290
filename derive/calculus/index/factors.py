"""Index expressions are made of indices, tensors and factors.

An index is named and typed by its dimension, a factor is a tensor with an index in each slot, and
a product is a tuple of factors in which an index that is not free is summed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

_fresh = itertools.count()


@dataclass(frozen=True, slots=True, order=True)
class Index:
    """A named, typed index; `dim` is the symbol of the dimension that it runs over."""

    name: str
    dim: sp.Symbol = field(compare=False)

    def __repr__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return hash(self.name)


def fresh(dim: sp.Symbol) -> Index:
    """A new index over `dim` that no other expression uses."""
    return Index(f"_{next(_fresh)}", dim)


#: `meaning` of a covariance whose diagonal is one: tokens on the sphere
UNIT = "unit diagonal"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor by name.

    `kind` says which rules apply: "gaussian" (iid standard normal entries), "state" (the state's
    own array), "covariance" (its Gram matrix), "factor" (L with L L^T = covariance), "constant"
    (given numbers), "pattern" (rows summing to one), "delta", and, each with a module of its own
    in `derive.calculus`: "magnitude" and "kernel" (kinks), "envelope", "response", "mixture",
    "joint".
    `symmetric` means invariant under every permutation of its slots; `meaning` is what a kind
    other than these names is built from.
    """

    name: str
    dims: tuple[sp.Symbol, ...]
    kind: str
    symmetric: bool = False
    meaning: Any = None

    def __hash__(self) -> int:
        return hash(self.name)  # hardly two have one name, and products are looked up all the time

    def __getitem__(self, indices: tuple[Index, ...]) -> Factor:
        return Factor(self, tuple(indices))


@dataclass(frozen=True, slots=True)
class Factor:
    tensor: Tensor
    indices: tuple[Index, ...]

    def rename(self, names: Mapping[Index, Index]) -> Factor:
        return Factor(self.tensor, tuple([names.get(i, i) for i in self.indices]))


Factors = tuple[Factor, ...]
Terms = list[tuple[sp.Expr, Factors]]


def delta_tensor(dim: sp.Symbol) -> Tensor:
    return Tensor("delta", (dim, dim), "delta", symmetric=True)


def indices_of(factors: Iterable[Factor]) -> set[Index]:
    return {i for f in factors for i in f.indices}


def apart(factors: Factors, free: Iterable[Index]) -> Factors:
    """Give every bound index a new name, so that products never share a dummy."""
    kept = set(free)
    ordered = dict.fromkeys(i for f in factors for i in f.indices)
    names = {i: fresh(i.dim) for i in ordered if i not in kept}
    return tuple(f.rename(names) for f in factors)

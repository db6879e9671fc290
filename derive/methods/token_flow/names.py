"""The tensors of a token flow by name: tokens, masses, inner products, the order of tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

import sympy as sp

from derive.calculus.index.factors import UNIT, Index, Tensor
from derive.notation.flows.model import FlowDefinition

COUNT = sp.Symbol("n", positive=True, integer=True)
ORDERS = {"<=": "upto", "<": "before", ">=": "from", ">": "after"}


@dataclass
class Names:
    """Tokens x (n, d) with masses of sum one; `s` is the query's index, `tau` the key's.

    `gram`: the inner products of tokens.  The derivation never reads that masses add to one, so
    that a law may be varied.
    """

    model: FlowDefinition
    s: Index = field(default=Index("a", COUNT))
    tau: Index = field(default=Index("b", COUNT))

    def __post_init__(self) -> None:
        self.x = self.y = Tensor("x", (COUNT, self.model.state_dim), "query")
        self.mass = Tensor("mass", (COUNT,), "constant")
        unit = UNIT if self.model.sphere else None
        self.gram = Tensor("R", (COUNT, COUNT), "covariance", True, unit)
        self.i = Index("i", self.model.state_dim)

    def mask(self, relation: str) -> Tensor:
        """One where the key's place stands in the relation to the query's."""
        return Tensor(f"mask_{ORDERS[relation]}", (COUNT, COUNT), "constant")

    @property
    def stacks(self) -> frozenset[sp.Symbol]:
        """Dimensions that count: tokens, heads."""
        heads = {m.shape[0] for m in self.model.matrices if len(m.shape) == 3}
        return frozenset(heads | {COUNT})

"""The tensors of a closure's derivation by name: tokens, laws, blocks and masks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import sympy as sp

from derive.calculus.gaussian.tilt import GaussianLaw
from derive.calculus.index.factors import Index, Tensor
from derive.notation.closures.model import ClosureModel


@dataclass
class Names:
    """The tensors of a derivation."""

    model: ClosureModel
    block: bool = True  # laws that depend on the position
    x: Tensor = field(init=False)
    y: Tensor = field(init=False)
    z: Tensor = field(init=False)

    def __post_init__(self) -> None:
        d, e = self.model.state_dim, self.model.key_dim
        self.y = Tensor("y", (d if self.model.second else e,), "key")
        self.z = Tensor("z", (e,), "key")
        self.blocks = sp.Symbol("B", positive=True, integer=True)
        self.s, self.tau = Index("s", self.blocks), Index("tau", self.blocks)
        self.theta = Tensor("theta", (self.blocks,), "constant")
        blocked = self.model.positional and self.block
        own = (self.blocks,) if blocked else ()
        self.x = Tensor("x", (*own, d), "query")
        self.mean = Tensor("m", (*own, d), "mean")
        # a tensor with a block axis is symmetric in its last two slots only: not declared
        self.cov = Tensor("S", (*own, d, d), "covariance", symmetric=not blocked)
        if self.model.cross:
            self.key_mean = Tensor("key_mean", (e,), "mean")
            self.key_cov = Tensor("key_cov", (e, e), "covariance", symmetric=True)
        else:
            self.key_mean, self.key_cov = self.mean, self.cov

    @property
    def stacks(self) -> frozenset[sp.Symbol]:
        """Dimensions that count matrices and laws: positions, heads."""
        heads = {m.shape[0] for m in self.model.matrices if len(m.shape) == 3}
        return frozenset(heads | ({self.blocks} if self.model.positional else set()))

    @property
    def keys(self) -> tuple[Tensor, ...]:
        """What is averaged over."""
        return (self.y, self.z) if self.model.second else (self.y,)

    def key_laws(self) -> tuple[GaussianLaw, ...]:
        """Of each of them."""
        if not self.model.second:
            return (self.key_law(),)
        other = GaussianLaw(self.z, self.key_mean, self.key_cov, centred=self.model.centred)
        return replace(self.query_law(), variable=self.y), other

    def key_law(self) -> GaussianLaw:
        block = self.tau if self.model.positional and self.block else None
        return GaussianLaw(self.y, self.key_mean, self.key_cov, block, None, self.model.centred)

    def query_law(self) -> GaussianLaw:
        block = self.s if self.model.positional and self.block else None
        return GaussianLaw(self.x, self.mean, self.cov, block, None, self.model.centred)

    @property
    def lag(self) -> Tensor:
        """The distance of the query's position from the key's."""
        return Tensor("lag", (self.blocks, self.blocks), "constant")

    def mask(self, relation: str) -> Tensor:
        words = {"<=": "upto", "<": "before", ">=": "from", ">": "after"}
        return Tensor(f"mask_{words[relation]}", (self.blocks, self.blocks), "constant")

"""What a derivation of a covariance SDE gives: drift, diffusion, noise, and the record."""

from __future__ import annotations

from dataclasses import dataclass

from derive.calculus.index.expressions import Expression
from derive.calculus.limit.order import Law
from derive.methods.common.record import Fact, Step
from derive.methods.covariance_sde.block import Block
from derive.methods.covariance_sde.congruence import Congruence
from derive.methods.covariance_sde.fields import NoiseMap
from derive.methods.covariance_sde.reduce import Reduction
from derive.notation.layers.model import Model, Trace


@dataclass(frozen=True, eq=False)  # compared and remembered as one object
class CovarianceSDE:
    """What is derived of a layer: dV = drift dt + noise, <noise, noise> = diffusion dt.

    Free indices: drift (a, b), diffusion (a, b, c, d).  `mixing_rate` (no free index) is the
    summed variance per unit time of the token-mixing coefficients; as (numerator, denominator),
    `mixing_effect` is what it does to the tokens relative to tr V, and `volatility` the variance
    of the diagonal of V relative to its size: together the natural control of the step.
    `fluctuation`: the part of one increment of order eps, in the weights (of order eps^pace where
    that is the clock; without noise, what fluctuates most).
    `reduction` is the exact m x m chain, or None with the reason in `facts`.
    """

    model: Model
    trace: Trace
    law: Law
    drift: Expression
    diffusion: Expression
    noise: NoiseMap
    mixing_rate: Expression
    mixing_effect: tuple[Expression, Expression]
    volatility: tuple[Expression, Expression]
    fluctuation: Expression
    blocks: tuple[Block, ...]
    reduction: Reduction | None
    step: Congruence
    facts: tuple[Fact, ...]
    steps: tuple[Step, ...]

    @property
    def equations(self) -> dict[str, Expression]:
        return {
            "drift": self.drift,
            "diffusion": self.diffusion,
            "noise": self.noise.compact,
            "mixing_rate": self.mixing_rate,
        }

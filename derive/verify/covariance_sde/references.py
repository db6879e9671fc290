"""Drift and diffusion of every block by a second route, with which L2 and L6 compare.

Input: a derivation.  Output: `Reference`s: cubature over all weights where the layer has a power
series in them, else quadrature over single units; or the reason why neither reaches a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from derive.calculus.index.expressions import Expression
from derive.errors import Refusal
from derive.methods.covariance_sde.block import Block
from derive.methods.covariance_sde.finite_width import of_block
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.common.arrays import walk
from derive.notation.common.scalars import GaussianMean
from derive.verify.covariance_sde.continuation import kinked
from derive.verify.covariance_sde.instance import CovarianceInstance, instance
from derive.verify.covariance_sde.second_route import NotCovered, RouteError, second_route
from derive.verify.covariance_sde.unit_route import Limits, has_units, unit_route
from derive.verify.covariance_sde.weight_powers import weight_degrees


@dataclass(frozen=True)
class Reference:
    """A block's drift and diffusion by a route that shares no code with the calculus.

    `corrections`: the coefficients of n^(-1/2), beside the derived ones.  `problem`: why a route
    does not reach the block; `contradicts`: it ran, and found no limit.
    """

    label: str
    block: Block
    at: CovarianceInstance
    drift: np.ndarray | None = None
    diffusion: np.ndarray | None = None
    corrections: tuple[tuple[str, Expression, np.ndarray], ...] = ()
    bound: float = 1e-9
    problem: str = ""
    contradicts: bool = False

    def pairs(self) -> list[tuple[str, Expression, np.ndarray, float]]:
        """Names, derived expressions, targets, and the size below which a target counts as zero."""
        whole = float(np.max(np.abs(self.at.V)))
        found: list[tuple[str, Expression, np.ndarray, float]] = []
        for name, power in (("drift", 1), ("diffusion", 2)):
            target = getattr(self, name)
            if target is not None:
                found.append((name, getattr(self.block, name), target, 1e-3 * whole**power))
        for name, expression, target in self.corrections:
            found.append((name, expression, target, whole ** (2 if "diffusion" in name else 1)))
        return found


def off_by(value: np.ndarray, target: np.ndarray, floor: float) -> float:
    return float(np.max(np.abs(value - target))) / max(float(np.max(np.abs(target))), floor)


def references(result: CovarianceSDE) -> list[Reference]:
    """One reference for every block, by routes that may take minutes."""
    several = len(result.blocks) > 1
    return [
        reference_of(result, block, f"block {k}: " if several else "")
        for k, block in enumerate(result.blocks, 1)
    ]


def reference_of(
    result: CovarianceSDE, block: Block, label: str, free_size: int = 1, seed: int = 2
) -> Reference:
    """Cubature over the weights where they have power series, else quadrature over single units.

    `free_size`: of the dimensions that the limit does not depend on.
    """
    at = instance(result, 2, seed, heads=1.0)
    whole = len(result.blocks) == 1 and block.trace.output is result.trace.output
    free: dict[str, Any] = {d.name: int(at.params.get(d.name, 1)) for d in result.model.dims}
    free |= {d.name: (lambda n: n) for d in result.model.dims if d.scaling == "proportional"}
    free |= {d.name: free_size for d in result.law.scaling.free}
    # a limit that holds the width has a number for it, which is not that of the text
    params = {k: v for k, v in at.params.items() if k != result.model.width.name}
    nodes = walk(block.trace.output)
    # a normaliser that depends on the width makes the moments a long series in 1/n
    normalised = any(a.op == "full" and a.data.has(GaussianMean) for a in nodes)
    analytic = not (normalised or any(kinked(a) for a in nodes))

    def cubature() -> Reference:
        part = None if whole else block.trace
        degrees = weight_degrees(result.model, params, at.V, free=free, part=part)
        targets = second_route(
            result.model,
            params,
            at.V,
            drift_degree=degrees[0],
            diffusion_degree=degrees[1],
            free=free,
            part=part,
        )
        # Cauchy's circle is small where a function's poles are near: digits are lost to its radius
        return Reference(label, block, at, *targets, bound=1e-8)

    reason: RouteError | None = None
    # for hidden units a rule for one of them is far smaller than one for all weights
    if analytic and not has_units(block.trace, params, at.V, free):
        try:
            return cubature()
        except RouteError as found:
            reason = found
    try:
        limits = unit_route(block.trace, params, at.V, free, text=whole)
    except NotCovered as found:
        try:
            if analytic and not reason:
                return cubature()
        except RouteError as other:
            reason = other
        # a route that has run and found no limit is a reason to doubt the derivation
        ran = reason is not None and not isinstance(reason, NotCovered)
        return Reference(label, block, at, problem=str(reason or found), contradicts=ran)
    except RouteError as found:
        return Reference(label, block, at, problem=str(found), contradicts=True)
    usual = result.model.pace == 1
    corrections = _corrections(block, limits) if limits.exact and usual else ()
    return Reference(label, block, at, limits.drift, limits.diffusion, corrections)


def _corrections(block: Block, limits: Limits) -> tuple[tuple[str, Expression, np.ndarray], ...]:
    try:
        first = of_block(block.trace)
    except Refusal:  # none is derived, so none is emitted
        return ()
    return (
        ("n^(-1/2) drift", first.drift, limits.first_drift),
        ("n^(-1/2) diffusion", first.diffusion, limits.first_diffusion),
    )

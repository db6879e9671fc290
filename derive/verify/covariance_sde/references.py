"""Drift and diffusion of every block by a second route, with which L2 and L6 compare.

Input: a derivation.  Output: `Reference`s: cubature over all weights where the layer has a power
series in them, else quadrature over single units; or the reason why neither reaches a block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from derive.calculus.index.expressions import Expression
from derive.draws import generator
from derive.errors import Refusal
from derive.methods.covariance_sde.block import Block
from derive.methods.covariance_sde.finite_width import of_block
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.methods.covariance_sde.unit_means import without_means
from derive.notation.common.arrays import walk
from derive.notation.common.graph import value
from derive.notation.common.scalars import GaussianMean, size
from derive.verify.covariance_sde.continuation import kinked
from derive.verify.covariance_sde.instance import CovarianceInstance, instance
from derive.verify.covariance_sde.second_route import (
    NotCovered,
    RouteError,
    second_route,
    state_of,
)
from derive.verify.covariance_sde.unit_route import Limits, has_units, unit_route
from derive.verify.covariance_sde.weight_powers import weight_degrees

_SEED, _ATTENTIONS = 43, 2


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
    traced = without_means(block.trace)
    whole = len(result.blocks) == 1 and traced.output is result.trace.output
    free: dict[str, Any] = {d.name: int(at.params.get(d.name, 1)) for d in result.model.dims}
    free |= {d.name: (lambda n: n) for d in result.model.dims if d.scaling == "proportional"}
    free |= {d.name: free_size for d in result.law.scaling.free}
    # a limit that holds the width has a number for it, which is not that of the text
    params = {k: v for k, v in at.params.items() if k != result.model.width.name}
    nodes = walk(block.trace.output)
    # a normaliser that depends on the width makes the moments a long series in 1/n
    normalised = any(a.op == "full" and a.data.has(GaussianMean) for a in nodes)
    analytic = not (normalised or any(kinked(a) for a in nodes))

    if block.moments:
        run = {"free": free, "part": None if whole else traced}
        return _given_attention(block, label, at, params, run)

    def cubature() -> Reference:
        part = None if whole else traced
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
    if analytic and not has_units(traced, params, at.V, free):
        try:
            return cubature()
        except RouteError as found:
            reason = found
    try:
        limits = unit_route(traced, params, at.V, free, text=whole)
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


def _given_attention(
    block: Block, label: str, at: CovarianceInstance, params: dict[str, Any], run: dict[str, Any]
) -> Reference:
    """The block at attentions that are held, in the mean over a few, beside the equations there.

    Drift and diffusion are linear in the second moment of an attention: any mean of such will do.
    `run`: how the block is run.
    """
    mixtures = [m.mixture.meaning for m in block.moments]
    inside = {a for meaning in mixtures for _, a in meaning.weights}
    model, rng, m = block.trace.model, generator(_SEED), len(at.V)
    sizes: dict[Any, float] = {d: float(run["free"].get(d.name, 1)) for d in model.dims}
    sizes |= {**at.numbers, model.state_dims[0]: float(m)}
    state = state_of(at.V, int(sizes[model.width]))
    moments: list[Any] = []
    targets: list[Any] = []
    for _ in range(_ATTENTIONS):
        shapes = {a: [size(d, sizes) for d in a.shape] for _, a in block.trace.weights}
        drawn = {a: rng.standard_normal(s) for a, s in shapes.items() if a in inside}
        held = {k: drawn[a] for k, (_, a) in enumerate(block.trace.weights) if a in inside}
        found = [value(x.array, {x.state: state, **drawn}, sizes) for x in mixtures]
        heads = [P.reshape(-1, m, m) for P in found]
        moments.append([np.mean(P @ at.V @ P.swapaxes(1, 2), axis=0) for P in heads])
        degrees = weight_degrees(model, params, at.V, held=held, **run)
        most: dict[str, Any] = {"drift_degree": degrees[0], "diffusion_degree": degrees[1]}
        targets.append(second_route(model, params, at.V, held=held, **most, **run))
    given: dict[str, np.ndarray] = {}
    for one, second in zip(block.moments, np.mean(moments, axis=0), strict=True):
        given |= {one.second.name: second, one.root.name: np.linalg.cholesky(second)}
    drift, diffusion = (np.mean([t[k] for t in targets], axis=0) for k in (0, 1))
    return Reference(label, block, replace(at, given=given), drift, diffusion, bound=1e-8)


def _corrections(block: Block, limits: Limits) -> tuple[tuple[str, Expression, np.ndarray], ...]:
    try:
        first = of_block(block.trace)
    except Refusal:  # none is derived, so none is emitted
        return ()
    return (
        ("n^(-1/2) drift", first.drift, limits.first_drift),
        ("n^(-1/2) diffusion", first.diffusion, limits.first_diffusion),
    )

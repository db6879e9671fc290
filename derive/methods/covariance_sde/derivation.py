"""From a layer to the SDE of its token covariance.

Input: a model of kind "covariance_sde".  Output: `CovarianceSDE`: drift, diffusion and noise map
as index expressions for symbolic dimensions, with the record of the steps.

The covariance is V = X X^T / n, the small parameter eps = n^(-1/2), the clock depth / width, or
depth / width^pace where the definition says so.
Steps: trace, expand, average, count powers and take the limit, map the noise, check the step.
Not supported: weights shared over depth (the chain would not be Markov), state dependence beyond V.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import UNIT
from derive.calculus.limit.order import Law
from derive.errors import DefinitionError, Refusal
from derive.methods.common.record import Step, merged, of_step
from derive.methods.covariance_sde import checks
from derive.methods.covariance_sde import facts as sde_facts
from derive.methods.covariance_sde.block import Block, derive_block, laws
from derive.methods.covariance_sde.compose import cuts, part
from derive.methods.covariance_sde.congruence import congruence, step_record
from derive.methods.covariance_sde.fields import NoiseMap, together
from derive.methods.covariance_sde.homogenise import in_moments, with_drawn_attention
from derive.methods.covariance_sde.one_dimension import scalars
from derive.methods.covariance_sde.powers import WrongClock
from derive.methods.covariance_sde.project import (
    RowScaling,
    projected,
    projected_diffusion,
    projected_drift,
    projected_noise,
    record,
    require_unit_rows,
    row_scaling,
)
from derive.methods.covariance_sde.reduce import Chain, Reduction, reduce_chain
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.methods.covariance_sde.step import leftovers
from derive.methods.covariance_sde.step_control import total, volatility
from derive.notation.common.arrays import Array
from derive.notation.layers.model import Model, Trace, power_code, power_text, trace


def derive(model: Model) -> CovarianceSDE:
    """Derive the limit; raises `DefinitionError` or `Refusal` with the place and the reason."""
    try:
        return _derive(model)
    except Refusal as reason:
        ours = reason.place is not None and reason.place.file == model.place.file
        place = reason.place if ours else model.place
        if isinstance(reason, WrongClock):
            raise Refusal(reason.message + _line_to_write(model, reason.pace), place) from None
        if not ours:
            raise Refusal(reason.message, place) from None
        raise


def _line_to_write(model: Model, pace: Fraction) -> str:
    """The clock on which the layer does have a limit, tried out, as a definition says it."""
    tried, first = {model.pace}, pace
    while pace > 0 and pace not in tried and len(tried) < 5:
        tried.add(pace)
        try:
            traced = trace(replace(model, pace=pace))
            law, _ = laws(traced)
            scaling = row_scaling(traced, law)
            whole = traced if scaling is None else part(traced, traced.state, scaling.inner)
            _blocks(whole, law, scaling)
        except WrongClock as reason:
            pace = reason.pace
            continue
        except DefinitionError as reason:
            return (
                f". On the clock depth / {power_text(model.clock, pace)} it is refused in turn: "
                f"{reason.message}"
            )
        line = "leave clock out" if pace == 1 else f"write clock={power_code(model.clock, pace)}"
        if pace == first:
            return f"; for the limit that does hold {line}"
        faster = power_text(model.clock, pace)
        return f". The clock that holds is depth / {faster}, where V moves before that: {line}"
    return ""


def _derive(model: Model) -> CovarianceSDE:
    traced = trace(model)
    steps = [Step("trace", "run the text on symbols", {}, (), checks.trace(traced))]
    law, _ = laws(traced)
    scaling = row_scaling(traced, law)
    whole = traced if scaling is None else part(traced, traced.state, scaling.inner)
    blocks = _blocks(whole, law, scaling)
    for number, block in enumerate(blocks, 1):
        mark = f"block {number}: " if len(blocks) > 1 else ""
        steps += [replace(s, name=f"{mark}{s.name}") for s in block.steps]
    drift, diffusion, rate, effect, first = (
        _sum([getattr(b, name) for b in blocks])
        for name in ("drift", "diffusion", "mixing_rate", "mixing_effect", "fluctuation")
    )
    noise = blocks[0].noise if len(blocks) == 1 else together([b.noise for b in blocks])
    if len(blocks) > 1:
        steps.append(_composition(blocks, drift, diffusion, noise, model))
    raw_drift, raw_noise = drift, noise
    if scaling is not None:
        raw = (drift, diffusion, noise)
        drift = projected_drift(drift, diffusion, scaling, law)
        diffusion = projected_diffusion(diffusion, scaling, law)
        first, noise = projected(first, scaling, law), projected_noise(noise, scaling, law)
        steps.append(record(raw, drift, diffusion, noise, scaling))
    if law.gram.meaning == UNIT:
        require_unit_rows(drift, diffusion, model)
    facts = merged(f for b in blocks for f in b.facts)
    facts += tuple(sde_facts.of_scalar(s, drift, diffusion) for s in scalars(drift, diffusion))
    reduction, why = _reduction(traced, law, len(blocks))
    # rows are normalised after the step, as the layer does it
    step = congruence(raw_drift, raw_noise, law, scaling)
    if reduction is None:
        facts += (sde_facts.of_reduction(why),)
    elif not noise.fields:  # an ODE, which no step should draw normals for
        reduction = replace(reduction, step=None)
    if reduction is not None and reduction.step is not None:
        steps.append(_consistency(reduction.step, law, drift, diffusion, model))
    else:
        steps.append(step_record(step, raw_drift))
    moments = tuple(m for b in blocks for m in b.moments)
    step = with_drawn_attention(step, moments, law)
    drift, diffusion = in_moments(drift, moments), in_moments(diffusion, moments)
    return CovarianceSDE(
        model,
        traced,
        law,
        drift,
        diffusion,
        noise,
        rate,
        (effect, total(law)),
        volatility(diffusion, law),
        first,
        tuple(blocks),
        reduction,
        step,
        facts,
        tuple(steps),
    )


def _reduction(traced: Trace, law: Law, blocks: int) -> tuple[Reduction | None, str]:
    if blocks > 1:
        return None, "no reduced chain: several blocks"
    if traced.model.clock != traced.model.width:
        return None, f"no reduced chain: the width {traced.model.width} is fixed"
    return reduce_chain(traced, law)


def _blocks(traced: Trace, law: Law, scaling: RowScaling | None) -> list[Block]:
    """The layer cut into blocks that each move V by a small step.

    `scaling`: the normalisation that follows the last one.  A block in between that ends in the
    same one is taken without it: the rows are projected once, and the projection of drifts and
    diffusions is linear.
    """
    ends = [*cuts(traced), traced.output]
    inner: dict[Array, Array] = {}
    for end in ends[:-1] if scaling is not None else ():
        own = row_scaling(replace(traced, output=end), law)
        if own is None or scaling is None:
            continue
        if (own.first, own.second) == (scaling.first, scaling.second):
            inner[end] = own.inner
    ends = [end for end in ends if end not in inner.values()]
    out: list[Block] = []
    start = traced.state
    for position, end in enumerate(ends):
        piece = traced if len(ends) == 1 else part(traced, start, inner.get(end, end))
        last = position + 1 == len(ends)
        try:
            # behind blocks that move V, one may be too weak to: it adds nothing
            out.append(derive_block(piece, still=last and bool(out)))
        except Refusal:
            # a part that moves V by order one may be undone by the next: take them together
            if last:
                raise
            continue
        start = end
    return out


def _sum(expressions: list[Expression]) -> Expression:
    out = expressions[0]
    for one in expressions[1:]:
        out = out + one
    return out


def _composition(
    blocks: list[Block],
    drift: Expression,
    diffusion: Expression,
    noise: NoiseMap,
    model: Model,
) -> Step:
    left = noise.covariance() - diffusion
    if not left.is_zero:
        raise Refusal(
            f"the noise of the {len(blocks)} blocks together misses the diffusion by "
            f"{len(left.terms)} terms",
            model.place,
        )
    return Step(
        "compose",
        f"{len(blocks)} blocks with weights of their own, each a small step: drifts and diffusions "
        "add; Cov - diffusion has 0 terms left",
        {"drift": drift, "diffusion": diffusion, "noise": noise.compact},
        (),
        checks.noise(noise, diffusion),
    )


def _consistency(
    chain: Chain, law: Law, drift: Expression, diffusion: Expression, model: Model
) -> Step:
    """Derive mean and covariance of the step; both must be those of the SDE, term by term."""
    left = leftovers(chain, law, drift, diffusion)
    if not all(e.is_zero for e in left):
        raise Refusal(
            "the step shaped like the layer misses the SDE by "
            f"{len(left[0].terms)} terms in its mean and {len(left[1].terms)} in its covariance",
            model.place,
        )
    check = checks.step(chain, law, drift, diffusion)
    return Step(
        "check the step",
        f"the reduced layer at {law.scaling.width} = 1/dt with Gaussian factors has mean "
        "V + drift dt and covariance diffusion dt up to o(dt); 0 terms left in either",
        {},
        of_step((f"block {name}: {block.data.kind}" for name, block in chain.blocks), check),
        check,
    )

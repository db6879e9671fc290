"""One block of a layer: from its trace to drift, diffusion and noise.

Input: the trace of a block (a whole layer, or a part of one, see `compose`).
Output: `Block`, with the record of the steps: trace, expand, average, count powers and take the
limit, map the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import sympy as sp

from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import UNIT, Index, Tensor, fresh
from derive.calculus.limit.opaque import hide, no_power, reveal
from derive.calculus.limit.order import Law
from derive.calculus.limit.remainders import opened
from derive.calculus.limit.scaling import Scaling
from derive.calculus.limit.series import Expansion
from derive.errors import Refusal
from derive.methods.common.record import Fact, Step, of_step
from derive.methods.covariance_sde import average_checks, checks, series_checks
from derive.methods.covariance_sde import facts as sde_facts
from derive.methods.covariance_sde.clock_checks import BlockMoments
from derive.methods.covariance_sde.dropped import dimension_facts
from derive.methods.covariance_sde.fields import NoiseMap
from derive.methods.covariance_sde.homogenise import Moment, homogenised, record
from derive.methods.covariance_sde.noise import noise_map
from derive.methods.covariance_sde.powers import (
    count_powers,
    finer_powers,
    limit,
    own_covariance,
    require_closed,
    require_small_mean,
    require_small_spread,
    too_quiet,
)
from derive.methods.covariance_sde.score_limits import facts_of
from derive.methods.covariance_sde.step_control import mixing
from derive.methods.covariance_sde.unit_means import require_quiet_means
from derive.notation.common.arrays import Array, walk
from derive.notation.layers.model import Model, Trace


@dataclass(frozen=True)
class Block:
    """What is derived of one block; see `CovarianceSDE` for the quantities."""

    trace: Trace
    law: Law
    drift: Expression
    diffusion: Expression
    noise: NoiseMap
    mixing_rate: Expression
    mixing_effect: Expression
    fluctuation: Expression
    facts: tuple[Fact, ...]
    steps: tuple[Step, ...]
    moments: tuple[Moment, ...]


def derive_block(traced: Trace, still: bool = False) -> Block:
    """Derive one block; `still`: it may be too weak to move V on the clock, others do."""
    law, weights = laws(traced)
    model, pace = traced.model, law.scaling.pace
    _require_quiet(law, traced, weights)
    expansion = _expand(law, traced, weights)
    layer = expansion.of(traced.output)
    require_quiet_means(traced, law, weights, expansion.reach, increment_of)
    steps = [_expansion_step(layer, expansion, law, traced, weights)]
    known = homogenised(layer, law, traced)
    if known.moments:
        steps.append(record(known, law, traced))
        whole, layer, law = increment_of(layer, law, 2 * pace), known.layer, known.law
    found = _averaged(layer, law, traced)
    increment, first = found.increment, found.first
    own = law.up_to(whole, pace) if known.moments else first
    orders = count_powers(*found.series, increment, law, traced, still)
    steps.append(_average_step(found, law, model))

    drift, diffusion = (limit(moment, law, model) for moment in found.series)
    words = (*orders, *dimension_facts(law, traced, (drift, diffusion)))
    moments = BlockMoments(law, found.drift, found.diffusion)
    facts = sde_facts.of_block(words, moments, traced)
    steps.append(
        Step(
            "limit",
            f"{law.scaling.width} to infinity",
            {"drift": drift, "diffusion": diffusion},
            facts,
            checks.limit(law, [(found.drift, drift), (found.diffusion, diffusion)]),
        )
    )

    noise = noise_map(first, law, pace)
    steps.append(_noise_step(noise, diffusion, model))
    noisy = {w for f in noise.fields for w in f.core.split()}
    facts += facts_of(known.moments, law)
    facts += sde_facts.of_block(too_quiet(noisy, increment, law), moments, traced)
    rate, effect = mixing(expansion, traced, law)
    return Block(
        traced,
        law,
        drift,
        diffusion,
        noise,
        rate,
        effect,
        own if noise.fields and pace == 1 else _loudest(increment, law, bool(noise.fields)),
        facts,
        tuple(steps),
        known.moments,
    )


@dataclass(frozen=True)
class _Averaged:
    """The increment, its part of order eps, and the moments of a unit of time at every width.

    `series`: drift and diffusion with hidden scalars as power series.
    """

    increment: Expression
    first: Expression
    drift: Expression
    diffusion: Expression
    series: tuple[Expression, Expression]


def _averaged(layer: Expression, law: Law, traced: Trace) -> _Averaged:
    """Means over the weights.  Raises Refusal for a mean of order eps, and one without a form."""
    pace, clock = law.scaling.pace, law.scaling.clock
    increment = increment_of(layer, law, 2 * pace)
    first = law.up_to(increment.map_coefficients(lambda c: reveal(c, law.scaling.width, 0)), pace)
    increment, first = opened(increment), opened(first)
    if any(t.kind == "envelope" for t in increment.tensors()):
        # their products are not averaged: the mean of order eps must be known not to vanish first
        loud = law.mean(law.up_to(increment, pace)).scaled(clock)
        require_small_mean(_revealed(loud, law), law, traced)
    drift = law.mean(increment).scaled(clock)
    drift_series = _revealed(drift, law)
    require_closed(drift, law, traced.model)
    require_small_mean(drift_series, law, traced)
    diffusion = own_covariance(first, law).scaled(clock)
    require_closed(diffusion, law, traced.model)
    return _Averaged(increment, first, drift, diffusion, (drift_series, _revealed(diffusion, law)))


def _expansion_step(
    layer: Expression, expansion: Expansion, law: Law, traced: Trace, weights: dict[Array, Tensor]
) -> Step:
    # odd functions skip an order: what a longer series leaves alone is seen two orders on
    most = max((law.weights_in(f) for _, f in layer.terms), default=0)
    wider = Expansion(law, weights, expansion.reach + 2, most)
    return Step(
        "expand",
        f"power series in eps = {law.scaling.width}^(-1/2), kept to order {expansion.reach}",
        {"layer": layer},
        (),
        series_checks.series(traced, law, layer, lambda: wider.of(traced.output)),
    )


def _average_step(found: _Averaged, law: Law, model: Model) -> Step:
    unit = "n" if law.scaling.pace == 1 else model.clock_text
    return Step(
        "average",
        "Isserlis' theorem over the weights, X X^T = n V; exact in every dimension",
        {f"{unit} E[V' - V]": found.drift, f"{unit} Cov[V']": found.diffusion},
        (),
        average_checks.average(law, found.increment, found.drift, found.first, found.diffusion),
    )


def _noise_step(noise: NoiseMap, diffusion: Expression, model: Model) -> Step:
    """The record of a noise map.  Raises Refusal where it misses a part of the diffusion."""
    left = noise.covariance() - diffusion
    if not left.is_zero:
        raise Refusal(
            f"the structured noise misses the diffusion by {len(left.terms)} terms: two "
            "fluctuating parts of one product matter at the same order",
            model.place,
        )
    replaced = checks.noise(noise, diffusion)
    return Step(
        "map the noise",
        "cores to independent Gaussian fields; Cov - diffusion has 0 terms left",
        {"noise": noise.compact},
        of_step((f"{f.tensor.name} replaces {f.core}" for f in noise.fields), replaced),
        replaced,
    )


def _loudest(increment: Expression, law: Law, noisy: bool) -> Expression:
    """What fluctuates most where that is more than the noise of the limit.

    The part of order eps, on slow clocks one order beyond the noise.  Without |Y| of logits, whose
    mean is not known beyond its leading order.
    """
    pace = law.scaling.pace
    top = pace + 1 if noisy and pace > 1 else max(pace, Fraction(1))
    kept = increment.map_terms(
        lambda c, f: [] if any(x.tensor.kind == "envelope" for x in f) else [(c, f)]
    )
    return law.up_to(kept.map_coefficients(lambda c: reveal(c, law.scaling.width, 0)), top)


def _require_quiet(law: Law, traced: Trace, weights: dict[Array, Tensor]) -> None:
    """Refuse early what fluctuates by more than eps: its full expansion would have no end.

    Only finer powers of the width than its square root, or a slow clock, can be so loud.
    """
    pace = law.scaling.pace
    if not finer_powers(traced.output, law.scaling.width) and pace <= 1:
        return
    short = Expansion(law, weights, _whole(pace) + _gain(law, traced.output))
    increment = increment_of(short.of(traced.output), law, pace)
    loud = increment.map_terms(
        lambda c, f: [(c, f)] if law.order(c, f, increment.free) < pace else []
    )
    if pace > 1 and any(t.kind == "envelope" for t in loud.tensors()):
        _require_small_first(increment, law, traced)
    spread = own_covariance(loud, law).scaled(law.scaling.clock)
    require_small_spread(spread, law, traced.model)


def _require_small_first(increment: Expression, law: Law, traced: Trace) -> None:
    """Refuse a mean of order eps, which a slow clock makes large, before products are averaged."""
    mean = _revealed(law.mean(law.up_to(increment, 1)).scaled(law.scaling.clock), law)
    least = law.scaling.pace - Fraction(1, 2)

    def known(c: sp.Expr) -> sp.Expr:
        """What monomials of order eps give whole."""
        found = [(t, law.scaling.degree(t)) for t in sp.Add.make_args(sp.expand(c))]
        return sp.Add(*(t for t, d in found if d is not None and d.bounded >= least))

    require_small_mean(mean.map_coefficients(known), law, traced)


def _whole(order: Fraction) -> int:
    """The least whole number of orders that holds so many."""
    return -int(-order // 1)


def _revealed(moment: Expression, law: Law) -> Expression:
    """n times a moment with its hidden scalars as power series: four orders reach eps^2."""
    pace = law.scaling.pace
    order = 4 if pace == 1 else 1 + _whole(2 * pace)
    return moment.map_coefficients(lambda c: reveal(c, law.scaling.width, order))


def laws(traced: Trace) -> tuple[Law, dict[Array, Tensor]]:
    """The tensors of a trace and how they scale."""
    model = traced.model
    token, width = model.state_dims
    others = [d for d in model.dims if d not in (token, width, model.clock)]
    small = [width] if model.clock != width else []
    scaling = Scaling(
        model.clock,
        frozenset([token, *small, *(d for d in others if d.scaling == "fixed")]),
        frozenset(d for d in others if d.scaling == "proportional"),
        frozenset(d for d in others if d.scaling in (None, "free")),
        model.pace,
    )
    state = Tensor(model.state_name, model.state_dims, "state")
    gram = Tensor(
        "V", (token, token), "covariance", symmetric=True, meaning=UNIT if model.unit_rows else None
    )
    weights = {a: Tensor(name, a.shape, "gaussian") for name, a in traced.weights}
    size = width if model.clock == width else sp.Integer(1)
    return Law(tuple(weights.values()), state, gram, scaling, size), weights


def _expand(law: Law, traced: Trace, weights: dict[Array, Tensor]) -> Expansion:
    """The shortest expansion whose increment a longer one confirms."""
    top = 2 * law.scaling.pace
    gain = _exact_gain(law, traced.output)
    # a fourth root of the width comes in half orders
    half = law.scaling.pace != 1 and gain.denominator == 2
    step = Fraction(1, 2) if half else Fraction(1)
    reach = top + gain if half else Fraction(_whole(top) + _whole(gain))
    shorter = Expansion(law, weights, reach)
    while True:
        longer = Expansion(law, weights, reach + step)
        pair = [increment_of(e.of(traced.output), law, top) for e in (shorter, longer)]
        if pair[0] == pair[1]:
            return shorter
        if reach > 6 + _whole(top):
            raise Refusal("the expansion in 1/sqrt(width) does not settle", traced.model.place)
        shorter, reach = longer, reach + step


def _gain(law: Law, output: Array) -> int:
    return _whole(_exact_gain(law, output))


def _exact_gain(law: Law, output: Array) -> Fraction:
    """How many orders the growing scalar prefactors of a graph can win back."""
    gain = Fraction(0)
    for array in walk(output):
        if array.op == "full":
            growing = law.scaling.proportional | law.scaling.free
            width = law.scaling.width
            hidden = hide(array.data, width, growing)
            if (scale := no_power(hidden, width)) is not None:
                raise Refusal(
                    f"the factor {scale} grows like no fixed power of {width}: a limit is found by "
                    f"comparing powers, and this is none; write a power of "
                    f"{width}, or a parameter that does not depend on it",
                    array.place,
                )
            degree = law.scaling.degree(hidden)
            if degree is not None and max(degree) > 0:
                gain += 2 * max(degree)
    return gain


def increment_of(layer: Expression, law: Law, top: Fraction | int) -> Expression:
    """V' - V to order eps^top.

    Orders are those of root mean squares, so by Cauchy and Schwarz a mean over the units of a
    product is of the order of both together: what is too small is never multiplied out.
    """
    token, width = law.state.dims
    a, b, i = Index("a", token), Index("b", token), fresh(width)
    sizes = [law.order(c, f, layer.free) for c, f in layer.terms]
    left, right = (layer.placed((end, i)) for end in (a, b))
    products = [
        (c * d / law.gram_weight, f + g)
        for (c, f), p in zip(left, sizes, strict=True)
        for (d, g), q in zip(right, sizes, strict=True)
        if p + q <= top
    ]
    old = (-sp.Integer(1), (law.gram[a, b],))
    return law.up_to(law.gram_of(collect((a, b), [*products, old])), top)

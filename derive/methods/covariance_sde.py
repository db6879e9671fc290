"""From a layer to the SDE of its token covariance.

Input: a model of kind "covariance_sde".  Output: `CovarianceSDE`: drift, diffusion and noise map
as index expressions for symbolic dimensions, with the record of the steps.

The covariance is V = X X^T / n, the clock is depth / width, the small parameter eps = n^(-1/2).
Steps: trace, expand, average, count powers and take the limit, map the noise, check the step.
Not supported: weights shared over depth (the chain would not be Markov), state dependence beyond V.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import sympy as sp

from derive.calculus.index import Expression, Index, Tensor, collect, fresh
from derive.calculus.opaque import reveal
from derive.calculus.order import Law, Scaling
from derive.calculus.series import Expansion
from derive.calculus.text import show_term
from derive.errors import Refusal
from derive.methods import checks
from derive.methods.noise import NoiseMap, noise_map
from derive.methods.record import Step
from derive.methods.reduce import Reduction, reduce_chain
from derive.methods.step import leftovers
from derive.notation.arrays import Array, scale, walk
from derive.notation.model import Model, Trace, trace
from derive.notation.scalars import Param


@dataclass(frozen=True)
class CovarianceSDE:
    """What is derived of a layer: dV = drift dt + noise, <noise, noise> = diffusion dt.

    Free indices: drift (a, b), diffusion (a, b, c, d).  `mixing_rate` (no free index) is the
    summed variance per unit time of the token-mixing coefficients; as (numerator, denominator),
    `mixing_effect` is what it does to the tokens relative to tr V, and `volatility` the variance
    of the diagonal of V relative to its size: together the natural control of the step.
    `fluctuation`: the part of one increment of order eps, in the weights.  `weight_degrees`: how
    many weights the largest products hold that drift and diffusion need.
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
    weight_degrees: tuple[int, int]
    reduction: Reduction | None
    facts: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def equations(self) -> dict[str, Expression]:
        return {
            "drift": self.drift,
            "diffusion": self.diffusion,
            "noise": self.noise.compact,
            "mixing_rate": self.mixing_rate,
        }


def derive(model: Model) -> CovarianceSDE:
    """Derive the limit; raises `DefinitionError` or `Refusal` with the place and the reason."""
    try:
        return _derive(model)
    except Refusal as reason:
        if reason.place is None or reason.place.file != model.place.file:
            raise Refusal(reason.message, model.place) from None
        raise


def _derive(model: Model) -> CovarianceSDE:
    traced = trace(model)
    law, weights = laws(traced)
    steps = [Step("trace", "run the text on symbols", {}, (), checks.trace(traced))]

    expansion, wider = _expand(law, traced, weights)
    layer = expansion.of(traced.output)
    steps.append(
        Step(
            "expand",
            f"power series in eps = {law.scaling.width}^(-1/2), kept to order {expansion.reach}",
            {"layer": layer},
            (),
            checks.series(traced, law, layer, wider.of(traced.output)),
        )
    )

    increment = _increment(layer, law)
    first = law.up_to(increment.map_coefficients(lambda c: reveal(c, law.scaling.width, 0)), 1)
    drift_exact = law.mean(increment).scaled(law.scaling.width)
    other = first.renamed({i: Index(n, i.dim) for i, n in zip(first.free, "cd", strict=True)})
    diffusion_exact = law.covariance(first, other).scaled(law.scaling.width)
    require_closed(drift_exact, diffusion_exact, law, model)
    drift_series, diffusion_series = (_revealed(e, law) for e in (drift_exact, diffusion_exact))
    orders = count_powers(drift_series, diffusion_series, law, model)
    steps.append(
        Step(
            "average",
            "Isserlis' theorem over the weights, X X^T = n V; exact in every dimension",
            {"n E[V' - V]": drift_exact, "n Cov[V']": diffusion_exact},
            (),
            checks.average(law, increment, drift_exact, first, diffusion_exact),
        )
    )

    drift = limit(drift_series, law, model)
    diffusion = limit(diffusion_series, law, model)
    facts = _dimension_facts(law, model)
    steps.append(
        Step(
            "limit",
            f"{law.scaling.width} to infinity",
            {"drift": drift, "diffusion": diffusion},
            orders + facts,
            checks.limit(law, [(drift_exact, drift), (diffusion_exact, diffusion)]),
        )
    )

    noise = noise_map(first, law)
    left = noise.covariance() - diffusion
    if not left.is_zero:
        raise Refusal(
            f"the structured noise misses the diffusion by {len(left.terms)} terms: two "
            "fluctuating parts of one product matter at the same order",
            model.place,
        )
    steps.append(
        Step(
            "map the noise",
            "cores to independent Gaussian fields; Cov - diffusion has 0 terms left",
            {"noise": noise.compact},
            tuple(f"{f.tensor.name} replaces {f.core}" for f in noise.fields),
            checks.noise(noise, diffusion),
        )
    )

    rate, effect = _mixing(expansion, traced, law)
    reduction, why = reduce_chain(traced, law)
    if reduction is None:
        facts += (why,)
    else:
        steps.append(_consistency(reduction, law, drift, diffusion, model))
    return CovarianceSDE(
        model,
        traced,
        law,
        drift,
        diffusion,
        noise,
        rate,
        (effect, _trace(law)),
        _volatility(diffusion, law),
        first,
        (_weight_degree(increment, law), 2 * _weight_degree(first, law)),
        reduction,
        orders + facts,
        tuple(steps),
    )


def _consistency(
    reduction: Reduction, law: Law, drift: Expression, diffusion: Expression, model: Model
) -> Step:
    """Derive mean and covariance of the step; both must be those of the SDE, term by term."""
    left = leftovers(reduction.step, law, drift, diffusion)
    if not all(e.is_zero for e in left):
        raise Refusal(
            "the step shaped like the layer misses the SDE by "
            f"{len(left[0].terms)} terms in its mean and {len(left[1].terms)} in its covariance",
            model.place,
        )
    return Step(
        "check the step",
        f"the reduced layer at {law.scaling.width} = 1/dt with Gaussian factors has mean "
        "V + drift dt and covariance diffusion dt up to o(dt); 0 terms left in either",
        {},
        tuple(f"block {name}: {block.data.kind}" for name, block in reduction.step.blocks),
        checks.step(reduction.step, law, drift, diffusion),
    )


def _revealed(moment: Expression, law: Law) -> Expression:
    """n times a moment with its hidden scalars as power series: four orders reach eps^2."""
    return moment.map_coefficients(lambda c: reveal(c, law.scaling.width, 4))


def laws(traced: Trace) -> tuple[Law, dict[Array, Tensor]]:
    """The tensors of a trace and how they scale."""
    model = traced.model
    token, width = model.state_dims
    others = [d for d in model.dims if d not in (token, width)]
    scaling = Scaling(
        width,
        frozenset([token, *(d for d in others if d.scaling == "fixed")]),
        frozenset(d for d in others if d.scaling == "proportional"),
        frozenset(d for d in others if d.scaling in (None, "free")),
    )
    state = Tensor(model.state_name, model.state_dims, "state")
    gram = Tensor("V", (token, token), "covariance", symmetric=True)
    weights = {a: Tensor(name, a.shape, "gaussian") for name, a in traced.weights}
    return Law(tuple(weights.values()), state, gram, scaling, width), weights


def _expand(law: Law, traced: Trace, weights: dict[Array, Tensor]) -> tuple[Expansion, Expansion]:
    """The shortest expansion whose increment a longer one confirms, and that longer one."""
    reach = 2 + _gain(law, traced.output)
    shorter = Expansion(law, weights, reach)
    while True:
        longer = Expansion(law, weights, reach + 1)
        pair = [_increment(e.of(traced.output), law) for e in (shorter, longer)]
        if pair[0] == pair[1]:
            return shorter, longer
        if reach > 8:
            raise Refusal("the expansion in 1/sqrt(width) does not settle", traced.model.place)
        shorter, reach = longer, reach + 1


def _gain(law: Law, output: Array) -> int:
    """How many orders the growing scalar prefactors of a graph can win back."""
    gain = Fraction(0)
    for array in walk(output):
        if array.op == "full":
            degree = law.scaling.degree(array.data)
            if degree is not None and max(degree) > 0:
                gain += 2 * max(degree)
    return -int(-gain // 1)


def _increment(layer: Expression, law: Law) -> Expression:
    """V' - V to order eps^2."""
    token, width = law.state.dims
    a, b, i = Index("a", token), Index("b", token), fresh(width)
    row, unit = layer.free
    product = layer.renamed({row: a, unit: i}) * layer.renamed({row: b, unit: i})
    new = product.summed(i).scaled(1 / width)
    new = law.gram_of(new)
    old = collect((a, b), [(sp.Integer(1), (law.gram[a, b],))])
    return law.up_to(new - old, 2)


def require_closed(drift: Expression, diffusion: Expression, law: Law, model: Model) -> None:
    """The averages must be functions of V alone."""
    for moment in (drift, diffusion):
        for position, (_, factors) in enumerate(moment.terms):
            if any(f.tensor == law.state for f in factors):
                raise Refusal(
                    f"the covariance V does not close: the term {show_term(moment, position)} of "
                    f"the averaged increment depends on {law.state.name} beyond "
                    f"{law.state.name} {law.state.name}^T; entrywise functions of the state and "
                    "weights that act unit by unit do this",
                    model.place,
                )


def count_powers(
    drift: Expression, diffusion: Expression, law: Law, model: Model
) -> tuple[str, ...]:
    """On which clock the layer has a limit; refuses what has no SDE at depth / width.

    `drift` and `diffusion` are n times the exact mean and covariance of one increment.
    """
    width = law.scaling.width
    mean, spread = _largest(drift, law), _largest(diffusion, law)
    if mean and mean[0] >= 1:
        raise Refusal(
            f"one layer changes V by order one: the term {mean[1]} of n E[V' - V] grows like "
            f"{width}. The layer does not reduce to the identity as the width grows, and V "
            "collapses at a depth of order one. Centre the mixing matrix (A(0) = I) and keep the "
            "squared weights of skip and branch summing to one",
            model.place,
        )
    if mean and mean[0] > 0:
        raise Refusal(
            f"the mean increment is too large for the clock depth / {width}: the term {mean[1]} "
            f"of n E[V' - V] grows like {width}^({mean[0]}). Centre the mixing matrix (E B = 0), "
            "or the limit is an ODE on a shorter clock",
            model.place,
        )
    if spread and spread[0] > 0:
        raise Refusal(
            f"the fluctuation of one layer is too large for the clock depth / {width}: the term "
            f"{spread[1]} of n Cov[V'] grows like {width}^({spread[0]}); scale the branch down",
            model.place,
        )
    if (not mean or mean[0] < 0) and (not spread or spread[0] < 0):
        raise Refusal(
            f"neither mean nor fluctuation of one layer is as large as 1/{width}: nothing moves "
            f"on the clock depth / {width}; the definition is subcritical",
            model.place,
        )
    noise = "an SDE" if spread and spread[0] == 0 else "an ODE (its noise vanishes)"
    moves = f"{width}^(-1/2)" if spread and spread[0] == 0 else f"1/{width}"
    return (
        f"one layer moves V by order {moves}, with mean of order 1/{width}: {noise} on the "
        f"clock depth / {width}",
    )


def _largest(expression: Expression, law: Law) -> tuple[Fraction, str] | None:
    """Largest exponent of the width among the terms, and a term that has it."""
    found = [
        (max(degree), show_term(expression, position))
        for position, (c, _) in enumerate(expression.terms)
        if (degree := law.scaling.degree(c)) is not None
    ]
    return max(found) if found else None


def limit(exact: Expression, law: Law, model: Model) -> Expression:
    """Limit of an expectation as the width grows; names a dimension on which it hangs."""
    scaling = law.scaling
    value = exact.map_coefficients(lambda c: scaling.leading(c, 0))
    for c, _ in value.terms:
        for dim in sorted(c.free_symbols & scaling.free, key=str):
            raise Refusal(
                f"the limit depends on {dim}; say how it scales: "
                f'dims("{dim}: ..., fixed") or dims("{dim}: ..., proportional to the width")',
                model.place,
            )
    return value


def _dimension_facts(law: Law, model: Model) -> tuple[str, ...]:
    used = {d for t in law.gaussian for d in t.dims}
    free = sorted(law.scaling.free & used, key=str)
    return tuple(f"{d} drops out of the limit" for d in free)


def _weight_degree(expression: Expression, law: Law) -> int:
    return max((sum(f.tensor in law.gaussian for f in fs) for _, fs in expression.terms), default=0)


def _volatility(diffusion: Expression, law: Law) -> tuple[Expression, Expression]:
    """sum_a d<V_aa>/dt and sum_a V_aa^2."""
    a = Index("a", law.gram.dims[0])
    variance = diffusion.renamed({i: a for i in diffusion.free}).summed(a)
    entry = law.gram[a, a]
    return variance, collect((a,), [(sp.Integer(1), (entry, entry))]).summed(a)


def _trace(law: Law) -> Expression:
    a = Index("a", law.gram.dims[0])
    return collect((a,), [(sp.Integer(1), (law.gram[a, a],))]).summed(a)


def _mixing(expansion: Expansion, traced: Trace, law: Law) -> tuple[Expression, Expression]:
    """Variance per unit time of the random mixing coefficients, and what it does to the tokens.

    The coefficients are the random token-by-token parts B of the matrices that multiply the
    tokens: the sum of E B_an^2, and the trace of E B V B^T.
    """
    token = law.gram.dims[0]
    rate = effect = collect((), [])
    users = [a for a in walk(traced.output) if a.op == "matmul"]
    parts = [p for a in users for x in a.args for p in _summands(x, law, sp.Integer(1))]
    for part, factor in dict.fromkeys(parts):
        array = scale(factor, part)
        if array.shape != (token, token):
            continue
        random = expansion.of(array).map_terms(
            lambda c, f: [(c, f)] if any(x.tensor in law.gaussian for x in f) else []
        )
        small = law.up_to(random, 1)
        row, column = small.free
        other = Index("@k", token)
        square = (small * small).summed(row, column)
        between = collect((column, other), [(sp.Integer(1), (law.gram[column, other],))])
        moved = (small * between * small.renamed({column: other})).summed(row, column, other)
        width = law.scaling.width
        rate = rate + limit(law.mean(square).scaled(width), law, traced.model)
        effect = effect + limit(law.mean(moved).scaled(width), law, traced.model)
    return rate, effect


def _summands(array: Array, law: Law, factor: sp.Expr) -> list[tuple[Array, sp.Expr]]:
    """The terms of a sum, freed of parameters in front of it (they weigh a branch, they do not
    make its coefficients)."""
    if array.op == "add":
        return [p for a in array.args for p in _summands(a, law, factor)]
    if array.op == "multiply" and array.args[0].op == "full" and array.args[0].shape == ():
        weight = array.args[0].data
        degree = law.scaling.degree(weight)
        if degree is not None and max(degree) == min(degree) == 0:
            weight = weight.as_independent(*(s for s in weight.free_symbols if _is_param(s)))[0]
        return _summands(array.args[1], law, factor * weight)
    return [(array, factor)]


def _is_param(symbol: sp.Symbol) -> bool:
    return isinstance(symbol, Param)

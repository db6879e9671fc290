"""Random attention with random values: what it adds to a layer, as one Gaussian of equal moments.

Input: a layer's expansion with mixtures (see `derive.calculus.limit.mixtures`).  Output: the
expansion in which their sum, centred and of covariance C[a,b] delta[i,j] given the state, is
M G with M M^T = C and G iid normal.  The layer is linear in that sum, so that V' - V is quadratic
in it to the order kept: mean and covariance of one layer hold its first two moments alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import sympy as sp

from derive.calculus.gaussian.expectation import contract_gram
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Factor, Factors, Index, Tensor, fresh
from derive.calculus.limit.mixtures import averaged, drawn, root_of, second_moment
from derive.calculus.limit.order import Law
from derive.draws import generator
from derive.errors import Refusal
from derive.methods.common.record import Check, Step, of_step
from derive.methods.covariance_sde.congruence import Congruence
from derive.methods.covariance_sde.instances import SEED, admissible, gram_of, numbers, relative
from derive.notation.common.graph import value
from derive.notation.common.normal_nodes import PAIRS
from derive.notation.common.scalars import size
from derive.notation.layers.model import Trace

DRAWS, CHUNK = 2**16, 2**12


@dataclass(frozen=True)
class Moment:
    """A mixture P of the layer, C = E P V P^T, and M with M M^T = C."""

    mixture: Tensor
    second: Tensor
    root: Tensor


@dataclass(frozen=True)
class Homogenised:
    """`layer` and `law` without mixtures; `moments`: what stands for each."""

    layer: Expression
    law: Law
    moments: tuple[Moment, ...]


def homogenised(layer: Expression, law: Law, traced: Trace) -> Homogenised:
    """Raises Refusal where the first two moments are not those of M G."""
    mixtures = [t for t in layer.tensors() if t.kind == "mixture"]
    if not mixtures:
        return Homogenised(layer, law, ())
    random = layer.map_terms(lambda c, f: [(c, f)] if _mixed(f) else [])
    rest = layer - random
    _require_apart(random, rest, law, traced)
    valued = all(any(f.tensor in law.gaussian for f in fs) for _, fs in random.terms)
    if not valued or not averaged(random, law).is_zero:
        raise Refusal(
            "a random attention has a mean of the order of the attention itself: its values must "
            "be random too, drawn beside queries and keys",
            traced.model.place,
        )
    primed = random.renamed({i: Index(f"{i.name}'", i.dim) for i in random.free})
    second, (a, i) = averaged(random * primed, law), random.free
    of_moment = {second_moment(t, law): t for t in mixtures}
    normals = [t for t in law.gaussian if t in rest.tensors()]
    terms, moments = list(rest.terms), []
    for number, (c, factors) in enumerate(second.terms, 1):
        moment = _moment(factors, (a, i))
        if moment is None:
            raise Refusal(
                "what random attentions add has a covariance that is not one of tokens times the "
                "identity of the width: it is not derived",
                traced.model.place,
            )
        root, q = root_of(of_moment[moment], law), fresh(a.dim)
        normal = Tensor(_name(number, traced), (a.dim, i.dim), "gaussian")
        normals.append(normal)
        terms.append((sp.sqrt(c), (root[a, q], normal[q, i])))
        moments.append(Moment(of_moment[moment], moment, root))
    new = replace(law, gaussian=tuple(normals), _degrees={})
    return Homogenised(collect(layer.free, terms), new, tuple(moments))


def _mixed(factors: Factors) -> bool:
    return any(f.tensor.kind == "mixture" for f in factors)


def _inside(expression: Expression) -> set[Tensor]:
    """Weights of the scores of the mixtures."""
    mixtures = [t for t in expression.tensors() if t.kind == "mixture"]
    return {w for t in mixtures for w, _ in t.meaning.weights}


def _require_apart(random: Expression, rest: Expression, law: Law, traced: Trace) -> None:
    """Linear in mixtures; their weights, and those beside them, in no other part of the layer."""
    inside = _inside(random)
    shared = len([w for t in random.tensors() if t.kind == "mixture" for w, _ in t.meaning.weights])
    own = {f.tensor for _, fs in random.terms for f in fs} & set(law.gaussian)
    others = {f.tensor for _, fs in rest.terms for f in fs} & set(law.gaussian)
    single = all(sum(f.tensor.kind == "mixture" for f in fs) == 1 for _, fs in random.terms)
    if not single or shared != len(inside) or inside & (own | others) or own & others:
        raise Refusal(
            "the weights of a random attention, or the values that it takes, stand in another "
            "part of the layer too: only attentions that are drawn apart are derived",
            traced.model.place,
        )


def _moment(factors: tuple[Factor, ...], free: tuple[Index, ...]) -> Tensor | None:
    """C, if the product is C[a,a'] delta[i,i']."""
    a, i = free
    pairs = {f.tensor.kind: f for f in factors}
    if len(factors) != 2 or set(pairs) != {"response", "delta"}:
        return None
    moment, delta = pairs["response"], pairs["delta"]
    fits = {x.name for x in moment.indices} == {a.name, f"{a.name}'"}
    fits = fits and {x.name for x in delta.indices} == {i.name, f"{i.name}'"}
    return moment.tensor if fits else None


def _name(number: int, traced: Trace) -> str:
    """A name that no weight of the definition has."""
    taken, name = {n for n, _ in traced.weights}, f"W_{number}"
    while name in taken:
        name += "'"
    return name


def in_moments(expression: Expression, moments: tuple[Moment, ...]) -> Expression:
    """M M^T as C, wherever that is what stands there."""
    for one in moments:
        expression = contract_gram(expression, one.root, one.second, sp.Integer(1))
    return expression


def with_drawn_attention(step: Congruence, moments: tuple[Moment, ...], law: Law) -> Congruence:
    """The step with P L for M, P drawn anew from normals of its own: no mean is computed.

    Given the state and to the order of a step, mean and covariance of V' hold M in pairs alone,
    and E P L L^T P^T = C = M M^T.
    """
    factor, gram = step.noise.factor, step.noise.gram
    fields = len(step.noise.fields)
    for one in moments:
        first = fields + len(step.blocks) + 1
        own = tuple(f"G_{first + k}" for k in range(len(one.mixture.meaning.weights)))
        rule = partial(_drawn_for, one.root, drawn(one.mixture, law, own), factor)
        push, pull, lift = (e.map_terms(rule) for e in (step.push, step.pull, step.lift))
        lift = contract_gram(lift, factor, gram, sp.Integer(1))
        step = replace(step, push=push, pull=pull, lift=lift, blocks=(*step.blocks, *own))
    return step


def _drawn_for(
    root: Tensor, attention: Tensor, factor: Tensor, c: sp.Expr, factors: Factors
) -> list[tuple[sp.Expr, Factors]]:
    """P L in the place of M."""
    out: list[Factor] = []
    for f in factors:
        k = fresh(f.indices[0].dim)
        out += [attention[f.indices[0], k], factor[k, f.indices[1]]] if f.tensor == root else [f]
    return [(c, tuple(out))]


def record(found: Homogenised, law: Law, traced: Trace) -> Step:
    """The step, with the means of attentions drawn from the definition's graph beside C."""
    worst = max(_off(one, law, traced) for one in found.moments)
    check = Check(f"C beside the mean of {DRAWS} attentions drawn by the graph", worst, 0.02)
    names = " and ".join(one.second.name for one in found.moments)
    nodes = f"{names}: a mean over {2 * PAIRS} nodes of normals; drift_error has what that leaves"
    return Step(
        "homogenise",
        "random attention times random values, of mean 0 and covariance C[a,b] delta[i,j] given X, "
        "is M G with M M^T = C = E P V P^T; scores X B X^T have the law of L G L^T",
        {"layer": found.layer},
        of_step([nodes], check),
        check,
    )


def _off(one: Moment, law: Law, traced: Trace) -> float:
    rng = generator(SEED + 6)
    values = numbers(traced.model, rng)
    token, width = law.state.dims
    values |= {token: 3.0, width: 4.0}
    state = admissible(law, rng.standard_normal((3, 4)))
    meaning, gram = one.mixture.meaning, gram_of(law, state, values)
    total = np.zeros((3, 3))
    for _ in range(DRAWS // CHUNK):
        leaves = {meaning.state: state}
        for _, array in meaning.weights:
            leaves[array] = rng.standard_normal((CHUNK, *(size(d, values) for d in array.shape)))
        P = value(meaning.array, leaves, values)
        P = P.reshape(-1, 3, 3)  # heads are draws too
        total += np.mean(P @ gram @ P.swapaxes(-1, -2), axis=0) * CHUNK / DRAWS
    ours = value(one.second.meaning.root, {one.second.meaning.gram: gram}, values)
    return relative(ours - total, total)

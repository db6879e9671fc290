"""C = E P V P^T of a random attention P in closed form: for small scores, and for large ones.

Small: all weights of the scores times s, a power series in s by the rules that expand a layer, the
mean by Isserlis.  Large, two tokens: where every row of P becomes the indicator of the larger
score, C is a sum over E sgn(x) sgn(y) of the differences of scores, by Price's rule.

Not supported: closed forms for large scores between more tokens, tokens of other sizes than one.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import sympy as sp

from derive.calculus.gaussian.kinks import CORRELATION, price
from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import UNIT, Index
from derive.calculus.limit.mixtures import random_scores
from derive.calculus.limit.order import Law
from derive.calculus.limit.scaling import Scaling
from derive.calculus.limit.series import Expansion
from derive.calculus.written.dialect import TEXT
from derive.calculus.written.short_form import short_form
from derive.draws import generator
from derive.errors import Refusal
from derive.methods.common.parameters import sample
from derive.methods.common.record import Check, Fact
from derive.methods.covariance_sde.homogenise import Moment
from derive.methods.covariance_sde.instances import SEED, spherical, symbols_of
from derive.notation.common.arrays import Array, scale, walk
from derive.notation.common.graph import value
from derive.notation.common.scalars import Param

SIZE = sp.Dummy("K", positive=True)  # scores are of order K^(-1/2)


def facts_of(moments: tuple[Moment, ...], law: Law) -> tuple[Fact, ...]:
    """Closed forms at both ends, each beside the mean over nodes."""
    out: list[Fact] = []
    for one, rule in itertools.product(moments, (_small, _large)):
        try:
            found = rule(one, law)
        except Refusal:  # no series, or no two tokens that compare scores alone
            continue
        out += [found] if found is not None else []
    return tuple(out)


# small scores


def _small(one: Moment, law: Law) -> Fact | None:
    none, second = small_scores(one, law)
    series = none + second
    form = short_form(series, TEXT, {s.name for s in symbols_of((series,))})
    where = f", where {'; '.join(form.where)}" if form.where else ""
    words = f"{one.second.name} = {' '.join(form.lines)}{where}, to second order in small scores"
    return Fact(words, "small scores", _falls(one, law, none, second))


def small_scores(one: Moment, law: Law) -> tuple[Expression, Expression]:
    """C without scores, and what is of second order in them: polynomials in V."""
    meaning, (token, _), scaling = one.mixture.meaning, law.state.dims, law.scaling
    fixed = scaling.fixed | scaling.free | scaling.proportional | {scaling.width}
    drawn = tuple(t for t, _ in meaning.weights)
    own = Law(drawn, law.state, law.gram, Scaling(SIZE, fixed), law.gram_weight)
    small = _scaled(meaning.array, "gaussian", SIZE ** sp.Rational(-1, 2))
    P = Expansion(own, {a: t for t, a in meaning.weights}, 2).of(small)
    *_, row, key = P.free
    a, b, k, l_ = (Index(n, token) for n in ("a", "b", "@k", "@l"))
    left, right = P.renamed({row: a, key: k}), P.renamed({row: b, key: l_})
    between = collect((k, l_), [(sp.Integer(1), (law.gram[k, l_],))])
    product = own.up_to((left * between).summed(k) * right, 2).summed(l_)
    mean = collect((a, b), own.mean(product).terms)  # the same for every head
    at_zero = mean.map_coefficients(lambda c: sp.expand(c).coeff(SIZE, 0))
    return at_zero, mean.map_coefficients(lambda c: sp.expand(c).coeff(SIZE, -1))


def _scaled(root: Array, op: str, factor: sp.Expr) -> Array:
    """The graph with the leaves of an operation times a factor."""
    done: dict[Array, Array] = {}
    for array in walk(root):
        same = all(done[a] is a for a in array.args)
        new = array if same else replace(array, args=tuple(done[a] for a in array.args))
        done[array] = scale(factor, array) if array.op == op else new
    return done[root]


def _falls(one: Moment, law: Law, none: Expression, second: Expression) -> Check:
    """The mean over nodes less the series, at scores of one size and of a quarter of it: 4^-4."""
    rng = generator(SEED + 8)
    V, numbers = _instance(one, law, rng, 3)
    left = []
    for size in (sp.Rational(1, 10), sp.Rational(1, 40)):
        exact = _mean(one, V, numbers, size)
        series = [evaluate(e, {"V": V}, numbers) for e in (none, second)]
        left.append(float(np.max(np.abs(exact - series[0] - float(size) ** 2 * series[1]))))
    fall = left[1] / left[0] if left[0] > 1e-13 else 0.0
    return Check("the mean over nodes less the series, scores a quarter as large", fall, 4.0**-3.5)


def _mean(one: Moment, V: np.ndarray, numbers: dict[sp.Symbol, float], size: sp.Expr) -> np.ndarray:
    """C at scores of another size."""
    meaning = one.second.meaning
    return value(_scaled(meaning.root, "normals", size), {meaning.gram: V}, numbers)


def _instance(
    one: Moment, law: Law, rng: np.random.Generator, m: int
) -> tuple[np.ndarray, dict[sp.Symbol, float]]:
    numbers: dict[sp.Symbol, float] = {law.gram.dims[0]: float(m)}
    nodes = walk(one.second.meaning.root)
    symbols = {s for x in nodes if x.op == "full" for s in x.data.free_symbols}
    for symbol in sorted(symbols, key=str):
        if isinstance(symbol, Param):
            numbers[symbol] = sample(symbol, rng)
    frame = rng.standard_normal((m, m + 1))
    return spherical(law.gram, frame @ frame.T), numbers


# large scores


def _large(one: Moment, law: Law) -> Fact | None:
    """Two tokens of size one, where P becomes the indicator of the larger of a row's scores."""
    if law.gram.meaning != UNIT or len(one.mixture.meaning.weights) != 1:
        return None
    correlation = _correlation(one, law)
    if correlation is None or not _picks_the_larger(one, law):
        return None
    u = CORRELATION
    signs = price(1).subs(u, correlation)
    # p = (1 + sgn, 1 - sgn)/2 in either row: E p_k q_l = (1 + E sgn sgn)/4 for k = l, else minus
    entry = sum(
        (1 if k == j else u) * (1 + (1 if k == j else -1) * signs) / 4
        for k, j in itertools.product(range(2), repeat=2)
    )
    entry = sp.collect(sp.expand(entry), sp.asin(u))
    words = (
        f"{one.second.name}[1,2] = {sp.sstr(entry).replace(str(u), 'rho')} and 1 on the diagonal "
        "for two tokens of correlation rho, as the scores grow without bound"
    )
    return Fact(words, "large scores", _winner_check(one, law, entry))


def _correlation(one: Moment, law: Law) -> sp.Expr | None:
    """Of the differences of scores in two rows, at two tokens of correlation u."""
    meaning, u = one.mixture.meaning, CORRELATION
    own = replace(law, gaussian=tuple(t for t, _ in meaning.weights), _degrees={})
    scores = random_scores(meaning.array, own)
    if len(scores) != 1:
        return None
    s = Expansion(own, {a: t for t, a in meaning.weights}, 2).of(scores[0])
    if not own.mean(s).is_zero:
        return None
    primed = s.renamed({i: Index(f"{i.name}'", i.dim) for i in s.free[-2:]})
    covariance = own.mean(s * primed)
    tokens = covariance.free[-4:]

    def entry(*at: int) -> sp.Expr:
        place = dict(zip(tokens, at, strict=True))
        gram = {f: {place[i] for i in f.indices} for _, fs in covariance.terms for f in fs}
        return sum(
            (
                c * sp.Mul(*(1 if len(gram[f]) == 1 else u for f in fs))
                for c, fs in covariance.terms
            ),
            sp.Integer(0),
        )

    if any(f.tensor != law.gram for _, fs in covariance.terms for f in fs):
        return None
    signs = list(itertools.product((0, 1), repeat=2))
    moved = {
        (a, b): sum((-1) ** (k + j) * entry(a, k, b, j) for k, j in signs)
        for a, b in ((0, 0), (0, 1), (1, 1))
    }
    gap = sp.Dummy("gap", positive=True)  # 1 - u
    ratio = moved[0, 1] / sp.sqrt(sp.factor((moved[0, 0] * moved[1, 1]).subs(u, 1 - gap)))
    return sp.simplify(sp.simplify(ratio.subs(u, 1 - gap)).subs(gap, 1 - u))


def _picks_the_larger(one: Moment, law: Law) -> bool:
    """P at large scores, by a run of its graph: each row one at the larger score, else zero."""
    rng = generator(SEED + 9)
    V, numbers = _instance(one, law, rng, 2)
    root, gram = one.mixture.meaning.root, one.second.meaning.gram
    P = value(_scaled(root, "normals", _far(one, V, numbers)), {gram: V}, numbers)
    normals = value(next(a for a in walk(root) if a.op == "normals"), {gram: V}, numbers)
    L = np.linalg.cholesky(V)
    gaps = np.diff(L @ normals @ L.T, axis=-1)[..., 0]
    clear = np.abs(gaps) > 1
    picked = np.stack([gaps < 0, gaps > 0], axis=-1)[clear]
    return bool(np.max(np.abs(P[clear] - picked)) < 1e-3)


def _far(one: Moment, V: np.ndarray, numbers: dict[sp.Symbol, float]) -> sp.Expr:
    """How large scores may be so that nothing overflows."""
    size = sp.Integer(256)
    with np.errstate(all="ignore"):
        while not np.all(np.isfinite(_mean(one, V, numbers, size))):
            size = size / 2
    return size


def _winner_check(one: Moment, law: Law, entry: sp.Expr) -> Check:
    """What is left falls like one over the size of the scores: two sizes take it off."""
    rng, worst = generator(SEED + 10), 0.0
    _, numbers = _instance(one, law, rng, 2)
    for u in (-0.7, 0.2, 0.9):
        V = np.array([[1.0, u], [u, 1.0]])
        far = _far(one, V, numbers)
        found = 2 * _mean(one, V, numbers, far) - _mean(one, V, numbers, far / 2)
        target = float(entry.subs(CORRELATION, u))
        worst = max(worst, float(np.max(np.abs(found - [[1.0, target], [target, 1.0]]))))
    return Check("the mean over nodes at large scores of two sizes", worst, 0.015)

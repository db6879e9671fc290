"""Normalisation of the rows after a block: Ito's formula for V_ab -> V_ab r(V_aa) r(V_bb).

Input: a layer that ends in X' = Y r(row), where r depends on a row's own size alone, and the
moments of Y's covariance about a state with unit rows.  Output: drift, diffusion and noise of the
normalised covariance, with r(1 + x) = 1 + r' x + r''/2 x^2 + ... about rows of unit size.

Not supported: states whose rows are not of unit size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import sympy as sp

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import UNIT, Index, Tensor
from derive.calculus.ito import image_diffusion, image_drift, image_noise
from derive.calculus.limit.order import Law
from derive.calculus.limit.response import peeled
from derive.draws import generator
from derive.errors import Refusal
from derive.methods.common.parameters import sample
from derive.methods.common.record import Check, Step
from derive.methods.covariance_sde.fields import NoiseMap, written_out
from derive.methods.covariance_sde.instances import symbols_of
from derive.notation.common.arrays import Array
from derive.notation.common.scalars import Param
from derive.notation.layers.model import Model, Trace

V = sp.Symbol("v", positive=True)


@dataclass(frozen=True)
class RowScaling:
    """`inner`: the array Y whose rows are scaled; first and second derivative of r at one."""

    inner: Array
    rule: sp.Expr  # r(v)
    first: sp.Expr
    second: sp.Expr


def row_scaling(traced: Trace, law: Law) -> RowScaling | None:
    """The scaling with which a layer ends, if it ends in one."""
    output = traced.output
    if output.op != "multiply":
        return None
    for side, factor in (output.args, output.args[::-1]):
        if side.shape == traced.state.shape and factor.shape == (traced.state.shape[0], 1):
            scalar, inner = peeled(side)
            for times, array in ((sp.Integer(1), side), (scalar, inner)):
                r = _of_size(factor, array, law)
                if r is not None:
                    return _scaling(times * r, array, traced, law)
    return None


def require_unit_rows(drift: Expression, diffusion: Expression, model: Model) -> None:
    """A model that says unit_rows must keep V_aa = 1: neither drift nor noise of it is left."""
    noise = diffusion.renamed({diffusion.free[1]: diffusion.free[0]})
    for moment, name in ((_diagonal(drift), "drift"), (noise, "noise")):
        if not moment.is_zero:
            raise Refusal(
                f"unit_rows=True says that every token stays on the sphere, V[a,a] = 1, but the "
                f"layer does not keep it there: the {name} of V[a,a] has {len(moment.terms)} "
                "terms. End the layer with a normalisation, Y / sqrt((Y * Y).mean(-1, "
                "keepdims=True)), or leave unit_rows out",
                model.place,
            )


def _scaling(r: sp.Expr, inner: Array, traced: Trace, law: Law) -> RowScaling:
    if law.gram.meaning != UNIT:
        raise Refusal(
            "the rows are normalised, so the tokens stay on the sphere: say so with "
            "covariance_sde(..., unit_rows=True)",
            traced.output.place,
        )
    at_one = sp.simplify(r.subs(V, 1))
    if at_one != 1:
        raise Refusal(
            f"the normalisation multiplies a row of unit size by {at_one}; it must keep it",
            traced.output.place,
        )
    return RowScaling(inner, r, *(sp.simplify(sp.diff(r, V, k).subs(V, 1)) for k in (1, 2)))


def _of_size(array: Array, inner: Array, law: Law) -> sp.Expr | None:
    """The array as a function of v = (row of Y)^2 / weight, if it is one."""
    if array.op == "full":
        return array.data
    if array.op == "sum" and array.data == (1, True):
        (square,) = array.args
        if square.op == "multiply" and all(a is inner for a in square.args):
            return V * law.gram_weight
        return None
    parts = [_of_size(a, inner, law) for a in array.args]
    if any(p is None for p in parts):
        return None
    if array.op == "add":
        return sp.Add(*parts)
    if array.op == "multiply":
        return sp.Mul(*parts)
    if array.op == "function":
        return array.data[1](parts[0])
    return None


def _increment(s: RowScaling, law: Law, free: tuple[Index, ...]) -> tuple[Expression, Tensor]:
    """V_ab r(V_aa) r(V_bb) at V + d less that at V, with unit rows, and the tensor d."""
    a, b = free
    d = Tensor("d", law.gram.dims, "increment", symmetric=True)
    one = sp.Integer(1)
    before = collect(free, [(one, (law.gram[a, b],))])
    after = before + collect(free, [(one, (d[a, b],))])
    for e in free:
        row = d[e, e]
        r = [(one, ()), (s.first, (row,)), (s.second / 2, (row, row))]
        after = after * collect(free, r)
    return after - before, d


def projected_drift(
    drift: Expression, diffusion: Expression, s: RowScaling, law: Law
) -> Expression:
    return image_drift(*_increment(s, law, drift.free), drift, diffusion)


def projected(first: Expression, s: RowScaling, law: Law) -> Expression:
    """d_ab + r' V_ab (d_aa + d_bb): the linear part, for a fluctuation or a noise."""
    return image_noise(*_increment(s, law, first.free), first)


def projected_noise(noise: NoiseMap, s: RowScaling, law: Law) -> NoiseMap:
    compact = projected(noise.compact, s, law)
    return replace(noise, compact=compact, expanded=written_out(compact, noise.fields))


def projected_diffusion(diffusion: Expression, s: RowScaling, law: Law) -> Expression:
    return image_diffusion(*_increment(s, law, diffusion.free[:2]), diffusion)


def _diagonal(expression: Expression) -> Expression:
    e = Index("e", expression.free[0].dim)
    return expression.renamed({i: e for i in expression.free})


def record(
    raw: tuple[Expression, Expression, NoiseMap],
    drift: Expression,
    diffusion: Expression,
    noise: NoiseMap,
    s: RowScaling,
) -> Step:
    left = noise.covariance() - diffusion
    if not left.is_zero:
        raise Refusal(f"the projected noise misses the diffusion by {len(left.terms)} terms")
    return Step(
        "project",
        f"rows normalised, r' = {s.first}, r'' = {s.second} at unit size: Ito's formula on the "
        "unit diagonal; Cov - diffusion has 0 terms left",
        {"drift": drift, "diffusion": diffusion, "noise": noise.compact},
        (),
        Check("mean of the normalised step, exact in its noise", _residual(raw, drift, s), 1e-6),
    )


def _residual(
    raw: tuple[Expression, Expression, NoiseMap], drift: Expression, s: RowScaling
) -> float:
    """E of V_ab r(V_aa) r(V_bb) over the raw noise by a rule of degree three, h to zero."""
    rng = generator(20261)
    b, diffusion, noise = raw
    size = 3
    numbers: dict[sp.Symbol, float] = {}
    for symbol in sorted(symbols_of((b, diffusion, noise.compact)), key=str):
        numbers[symbol] = sample(symbol, rng) if isinstance(symbol, Param) else 3.0
    numbers[noise.gram.dims[0]] = float(size)
    root = rng.standard_normal((size, size))
    root /= np.linalg.norm(root, axis=1, keepdims=True)
    gram = {noise.gram.name: root @ root.T}
    sigma = evaluate(diffusion, gram, numbers).reshape(size**2, size**2)
    values, vectors = np.linalg.eigh((sigma + sigma.T) / 2)
    columns = (vectors * np.sqrt(np.maximum(values, 0))).T.reshape(-1, size, size)
    mean, target = evaluate(b, gram, numbers), evaluate(drift, gram, numbers)
    rates = []
    r1, r2 = float(s.first), float(s.second)
    for h in (4e-4, 2e-4, 1e-4):
        total = np.zeros((size, size))
        for column in columns:
            for sign in (1, -1):
                new = gram[noise.gram.name] + h * mean + sign * np.sqrt(h * len(columns)) * column
                x = np.diag(new) - 1
                scale = 1 + r1 * x + r2 * x**2 / 2
                total += new * np.outer(scale, scale) / (2 * len(columns))
        rates.append((total - gram[noise.gram.name]) / h)
    limit = (8 * rates[2] - 6 * rates[1] + rates[0]) / 3
    return float(np.max(np.abs(limit - target)) / np.max(np.abs(target) + 1))

"""Keeps nonlinear functions of the state alone whole: softmax(beta X X^T), 1 / |x_a|.

Given the state such a part is no random variable, so it is not expanded: it becomes a tensor
over tokens that knows its graph, rewritten on V = X X^T / weight.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import sympy as sp

from derive.calculus.index.factors import Tensor
from derive.calculus.limit.order import Law
from derive.errors import Refusal
from derive.notation.common.arrays import (
    Array,
    composite,
    lift,
    multiply,
    node,
    scale,
    total,
    transpose,
    walk,
)


@dataclass(frozen=True)
class Response:
    """A part of the layer as a graph on V: `root`, with the leaf `gram` standing for V.

    `others`: leaves of other arrays, `names`: of parts of the graph.  `mean_free`: X less its mean
    over the units is read as X, which is so to leading order, see `derive.calculus.limit.units`.
    """

    root: Array
    gram: Array
    tensor: Tensor
    others: tuple[tuple[str, Array], ...] = ()
    names: tuple[tuple[Array, str], ...] = ()
    mean_free: bool = False


@cache
def is_response(array: Array) -> bool:
    """A function of the state without weights, of order one, over tokens."""
    nodes = walk(array)
    ops = {a.op for a in nodes}
    if array.op not in ("function", "composite", "multiply") or "function" not in ops:
        return False
    if "state" not in ops or ops & {"gaussian", "block"} or array.ndim not in (0, 2):
        return False
    token = next(a.shape[0] for a in nodes if a.op == "state")
    return all(d in (1, token) for d in array.shape)


def leaf(law: Law) -> Array:
    """The array that stands for V in every response."""
    if "leaf" not in law.responses:
        law.responses["leaf"] = node("state", (), law.gram.dims, law.gram.name)
    return law.responses["leaf"]


def number_of(law: Law) -> int:
    """The number of the next response."""
    found = (r for r in law.responses.values() if isinstance(r, Tensor))
    return sum(r.kind == "response" for r in found) + 1


def response(array: Array, law: Law) -> Tensor | None:
    """The tensor of a response; None where it is no function of V alone, but of the width too.

    `Refusal` if it sees more of the state than V.
    """
    if array not in law.responses:
        gram = leaf(law)
        root, mean_free = _on_gram(array, law, gram)
        if any(a.op == "state" and a is not gram for a in walk(root)):
            raise Refusal(
                f"this function of {law.state.name} sees more of it than {law.state.name} "
                f"{law.state.name}^T: the covariance does not close",
                array.place,
            )
        if any(a.op == "full" and a.data.has(law.scaling.width) for a in walk(root)):
            return None
        for axis in reversed([k for k, d in enumerate(array.shape) if d == 1]):
            root = total(root, axis, keepdims=False)
        meaning = Response(root, gram, law.gram, mean_free=mean_free)
        name = f"S_{number_of(law)}"
        dims = tuple(d for d in array.shape if d != 1)
        law.responses[array] = Tensor(name, dims, "response", meaning=meaning)
    return law.responses[array]


def _on_gram(root: Array, law: Law, gram: Array) -> tuple[Array, bool]:
    """The graph with every product X X^T replaced by a multiple of V; whether means were left out.

    Tokens may be scaled, each by a number of its own: D X X^T D is D V D.
    """
    done: dict[Array, Array] = {}
    means: list[bool] = []

    def rebuilt(array: Array) -> Array:
        if array not in done:
            product, total_ = _product(array), _squares(array, law)
            if product is not None:
                left, right = product
                scaled = multiply(_column(left), transpose(_column(right)))
                out = multiply(scaled, gram) if left.columns or right.columns else gram
                done[array] = _sized(out, left, right)
            elif total_ is not None:
                left, right = total_
                if left.columns or right.columns:
                    out = multiply(multiply(_column(left), _column(right)), sizes(gram, True))
                    out = out if array.data[1] else total(out, 1, keepdims=False)
                else:
                    out = sizes(gram, array.data[1])
                done[array] = _sized(out, left, right)
            elif (entries := _all_entries(array, law)) is not None:
                factor, sums = peeled(rebuilt(total(entries, 1, keepdims=False)))
                done[array] = scale(factor, total(sums, 0, keepdims=False))
            else:
                args = tuple(rebuilt(a) for a in array.args)
                new = replace(array, args=args) if args else array
                # the width cancels between V and what the text divides by
                done[array] = scale(*peeled(new)) if array.op == "multiply" else new
        return done[array]

    def _sized(out: Array, left: _Rows, right: _Rows) -> Array:
        means.append(left.mean_free or right.mean_free)
        return scale(left.factor * right.factor * law.gram_weight, out)

    def _column(rows_: _Rows) -> Array:
        out = lift(sp.Integer(1))
        for column in rows_.columns:
            out = multiply(out, rebuilt(column))
        return out

    new = rebuilt(root)
    return new, any(means)


@dataclass(frozen=True)
class _Rows:
    """factor * columns * X, each column one number a token; `mean_free`: less the mean of X."""

    factor: sp.Expr
    columns: tuple[Array, ...] = ()
    mean_free: bool = False


def _scaled_state(array: Array) -> _Rows | None:
    """The array, if it is the state with its tokens scaled."""
    factor, core = peeled(array)
    if core.op == "state":
        return _Rows(factor)
    if core.op == "multiply":
        for column, other in (core.args, core.args[::-1]):
            inner = _scaled_state(other) if column.shape[-1:] in ((), (1,)) else None
            if inner is not None:
                return replace(
                    inner, factor=factor * inner.factor, columns=(column, *inner.columns)
                )
    if core.op == "add" and len(core.args) == 2:
        return _without_mean(core, factor)
    return None


def _without_mean(array: Array, factor: sp.Expr) -> _Rows | None:
    """X less its mean over the units."""
    (first, left), (second, right) = (peeled(a) for a in array.args)
    if left.op != "state" or right.op != "sum" or right.args[0] is not left:
        return None
    fits = right.data == (1, True) and sp.expand(first + second * left.shape[1]) == 0
    return _Rows(factor * first, mean_free=True) if fits else None


def _product(array: Array) -> tuple[_Rows, _Rows] | None:
    """The two sides of D X X^T D', if the node is that."""
    if array.op != "matmul" or array.ndim != 2:
        return None
    factor, right = peeled(array.args[1])
    left, other = _scaled_state(array.args[0]), None
    if right.op == "transpose":
        other = _scaled_state(right.args[0])
    if left is None or other is None:
        return None
    return replace(left, factor=factor * left.factor), other


def _all_entries(array: Array, law: Law) -> Array | None:
    """What is summed over tokens, then over units, if the node is that."""
    if array.op != "sum" or array.data != (0, False) or array.args[0].op != "sum":
        return None
    inner = array.args[0]
    return (
        inner.args[0]
        if inner.data == (0, False) and inner.args[0].shape == law.state.dims
        else None
    )


def _squares(array: Array, law: Law) -> tuple[_Rows, _Rows] | None:
    """The two sides, if the node is the sum over units of D X * D' X."""
    if array.op != "sum" or array.data[0] != 1 or array.args[0].op != "multiply":
        return None
    if array.args[0].shape != law.state.dims:
        return None
    coefficient, product = peeled(array.args[0])
    if product.op != "multiply":
        return None
    left, right = (_scaled_state(a) for a in product.args)
    if left is None or right is None:
        return None
    return replace(left, factor=coefficient * left.factor), right


def sizes(gram: Array, keepdims: bool) -> Array:
    """V_aa, as a vector or as a column."""
    token = gram.shape[0]
    eye = node("eye", (), (token, token))
    vector = composite("diagonal", gram, total(multiply(gram, eye), 1, keepdims=False))
    return node("expand", (vector,), (token, sp.Integer(1)), 1) if keepdims else vector


def peeled(array: Array) -> tuple[sp.Expr, Array]:
    """Scalars in front of an array, and the array."""
    if array.op == "multiply" and array.args[0].op == "full" and not array.args[0].shape:
        coefficient, core = peeled(array.args[1])
        return array.args[0].data * coefficient, core
    return sp.Integer(1), array

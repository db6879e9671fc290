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
from derive.notation.common.arrays import Array, composite, multiply, node, scale, total, walk


@dataclass(frozen=True)
class Response:
    """A part of the layer as a graph on V: `root`, with the leaf `gram` standing for V.

    `others`: leaves of other arrays, `names`: of parts of the graph.
    """

    root: Array
    gram: Array
    tensor: Tensor
    others: tuple[tuple[str, Array], ...] = ()
    names: tuple[tuple[Array, str], ...] = ()


@cache
def is_response(array: Array) -> bool:
    """A function of the state without weights, of order one, over tokens."""
    nodes = walk(array)
    ops = {a.op for a in nodes}
    if array.op not in ("function", "composite", "multiply") or "function" not in ops:
        return False
    if "state" not in ops or ops & {"gaussian", "block"} or array.ndim != 2:
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


def response(array: Array, law: Law) -> Tensor:
    """The tensor of a response; `Refusal` if it sees more of the state than V."""
    if array not in law.responses:
        gram = leaf(law)
        root = _on_gram(array, law, gram)
        if any(a.op == "state" and a is not gram for a in walk(root)):
            raise Refusal(
                f"this function of {law.state.name} sees more of it than {law.state.name} "
                f"{law.state.name}^T: the covariance does not close",
                array.place,
            )
        for axis in reversed([k for k, d in enumerate(array.shape) if d == 1]):
            root = total(root, axis, keepdims=False)
        meaning = Response(root, gram, law.gram)
        name = f"S_{number_of(law)}"
        dims = tuple(d for d in array.shape if d != 1)
        law.responses[array] = Tensor(name, dims, "response", meaning=meaning)
    return law.responses[array]


def _on_gram(root: Array, law: Law, gram: Array) -> Array:
    """The graph with every product X X^T replaced by a multiple of V."""
    done: dict[Array, Array] = {}

    def rebuilt(array: Array) -> Array:
        if array not in done:
            weight, square = _product(array), _squares(array)
            if weight is not None:
                done[array] = scale(weight * law.gram_weight, gram)
            elif square is not None:
                done[array] = scale(square * law.gram_weight, sizes(gram, array.data[1]))
            else:
                args = tuple(rebuilt(a) for a in array.args)
                new = replace(array, args=args) if args else array
                # the width cancels between V and what the text divides by
                done[array] = scale(*peeled(new)) if array.op == "multiply" else new
        return done[array]

    return rebuilt(root)


def _product(array: Array) -> sp.Expr | None:
    """c, if the node is c X X^T."""
    if array.op != "matmul":
        return None
    (first, left), (second, right) = (peeled(a) for a in array.args)
    third, inner = peeled(right.args[0]) if right.op == "transpose" else (sp.Integer(1), right)
    mirrored = right.op == "transpose" and left.op == "state" and inner is left
    return first * second * third if mirrored else None


def _squares(array: Array) -> sp.Expr | None:
    """c, if the node is the sum over units of c X * X."""
    if array.op != "sum" or array.data[0] != 1 or array.args[0].op != "multiply":
        return None
    coefficient, product = peeled(array.args[0])
    if product.op != "multiply":
        return None
    (first, left), (second, right) = (peeled(a) for a in product.args)
    return coefficient * first * second if left.op == "state" and left is right else None


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

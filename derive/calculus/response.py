"""Nonlinear functions of the state alone, kept whole: softmax(beta X X^T) with fixed weights.

Given the state such a part is no random variable, so it is not expanded: it becomes a tensor
between tokens that knows its graph, rewritten on V = X X^T / weight.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import sympy as sp

from derive.calculus.index import Tensor
from derive.calculus.order import Law
from derive.errors import Refusal
from derive.notation.arrays import Array, node, scale, walk


@dataclass(frozen=True)
class Response:
    """A part of the layer as a graph on V: `root`, with the leaf `gram` standing for V."""

    root: Array
    gram: Array
    tensor: Tensor


@cache
def is_response(array: Array) -> bool:
    """A function of the state without weights, of order one, between tokens."""
    nodes = walk(array)
    ops = {a.op for a in nodes}
    if array.op not in ("function", "composite", "multiply") or "function" not in ops:
        return False
    return "state" in ops and not ops & {"gaussian", "block"} and array.ndim == 2


def response(array: Array, law: Law) -> Tensor:
    """The tensor of a response; `Refusal` if it sees more of the state than V."""
    if array not in law.responses:
        gram = node("state", (), law.gram.dims, law.gram.name)
        root = _on_gram(array, law, gram)
        if any(a.op == "state" and a is not gram for a in walk(root)):
            raise Refusal(
                f"this function of {law.state.name} sees more of it than {law.state.name} "
                f"{law.state.name}^T: the covariance does not close",
                array.place,
            )
        meaning = Response(root, gram, law.gram)
        name = f"S_{len(law.responses) + 1}"
        law.responses[array] = Tensor(name, array.shape, "response", meaning=meaning)
    return law.responses[array]


def _on_gram(root: Array, law: Law, gram: Array) -> Array:
    """The graph with every product X X^T replaced by a multiple of V."""
    done: dict[Array, Array] = {}

    def rebuilt(array: Array) -> Array:
        if array not in done:
            weight = _product(array)
            if weight is not None:
                done[array] = scale(weight * law.gram_weight, gram)
            else:
                args = tuple(rebuilt(a) for a in array.args)
                done[array] = replace(array, args=args) if args else array
        return done[array]

    return rebuilt(root)


def _product(array: Array) -> sp.Expr | None:
    """c, if the node is c X X^T."""
    if array.op != "matmul":
        return None
    (first, left), (second, right) = (_peeled(a) for a in array.args)
    third, inner = _peeled(right.args[0]) if right.op == "transpose" else (sp.Integer(1), right)
    mirrored = right.op == "transpose" and left.op == "state" and inner is left
    return first * second * third if mirrored else None


def _peeled(array: Array) -> tuple[sp.Expr, Array]:
    """Scalars in front of an array, and the array."""
    if array.op == "multiply" and array.args[0].op == "full" and not array.args[0].shape:
        coefficient, core = _peeled(array.args[1])
        return array.args[0].data * coefficient, core
    return sp.Integer(1), array

"""Functions of one number composed into one function: relu(s)**2, s * sigmoid(s), exp(c * tanh(s)).

Input: a node of a graph in its normal form, where what is equal is one node.  Output: the node that
all of it depends on, a name, and the function; parameters may stand in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.notation.common.arrays import Array

TILTED = frozenset(("exp", "sin", "cos", "power"))
S = sp.Symbol("s", real=True)


@dataclass(frozen=True)
class Profile:
    """The node is `value` at S = base, by the functions of these names; base None: a number."""

    base: Array | None
    value: sp.Expr
    names: tuple[str, ...] = ()

    @property
    def tilts(self) -> bool:
        """Is it a sum of exponentials of polynomials?"""
        return self.value.has(sp.exp, sp.sin, sp.cos) and {*self.names} <= TILTED


def composed(node: Array, parameters: bool = True) -> tuple[Array, str, sp.Lambda]:
    """A function of functions as one function: log(1 + exp(s)) is softplus of s.

    `parameters`: may they stand between the two?
    """
    name, body = node.data
    inner = _profile(node.args[0])
    if inner.base is None or not inner.names or inner.base.shape != node.shape:
        return node.args[0], name, body
    whole = sp.Lambda(S, body(inner.value))
    if whole.free_symbols and not parameters:  # the inner one is an argument
        return node.args[0], name, body
    return inner.base, _named(name, *inner.names), whole


def product_of_one(node: Array) -> tuple[Array, str, sp.Lambda] | None:
    """A product of two factors that are functions of one node; None for any other product.

    Exponentials, sines and cosines stay factors of their own: they tilt the law.
    """
    first, second = (_profile(a) for a in node.args)
    if first.base is None or first.base is not second.base or first.base.shape != node.shape:
        return None
    if all(p.value.is_polynomial(S) for p in (first, second)) or first.tilts or second.tilts:
        return None
    names = (*first.names, *second.names, "power")
    return first.base, _named(*names), sp.Lambda(S, first.value * second.value)


def _named(*names: str) -> str:
    return "_".join(dict.fromkeys(names))


def _profile(node: Array) -> Profile:
    if node.op == "full":
        return Profile(None, node.data)
    if node.op == "function":
        inner = _profile(node.args[0])
        return Profile(inner.base, node.data[1](inner.value), (node.data[0], *inner.names))
    if node.op in ("add", "multiply"):
        left, right = (_profile(a) for a in node.args)
        bases = {id(p.base): p.base for p in (left, right) if p.base is not None}
        names = (*left.names, *right.names)
        if node.op == "multiply" and None not in (left.base, right.base) and len(bases) == 1:
            names = (*names, "power")
        # a sum without functions inside is the argument itself
        if len(bases) <= 1 and names:
            join_ = sp.Add if node.op == "add" else sp.Mul
            return Profile(next(iter(bases.values()), None), join_(left.value, right.value), names)
    return Profile(node, S)

"""The velocity of tokens as an index expression: a sum over keys is a sum over tokens.

Input: the graph of a definition.  Output: the velocity over (token, coordinate) in tokens, masses
and parameters; on the sphere before it is projected.  Nothing is expanded: a function of a pair
of tokens is one defined tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy as sp

from derive.calculus.gaussian.tilt import _standard, indices_of_expression
from derive.calculus.index.defined import Book, placed, plus, spread, union
from derive.calculus.index.expressions import Expression, collect, scalar, single
from derive.calculus.index.factors import Index, indices_of
from derive.errors import Refusal
from derive.methods.gaussian_closure.fields import Reader, Rule
from derive.methods.gaussian_closure.profiles import composed
from derive.methods.token_flow.gram import in_products
from derive.methods.token_flow.names import Names
from derive.notation.closures.model import ClosureTrace
from derive.notation.common.arrays import Array

Read = tuple[Expression, tuple[Index, ...]]


@dataclass
class TokenReader(Reader):
    """Keys are the tokens themselves, each with its mass."""

    names: Names  # type: ignore[assignment]

    def of(self, node: Array) -> Read:
        if not hasattr(self, f"_{node.op}"):
            raise Refusal(f"{node.op} is no part of a token flow that is derived", node.place)
        return super().of(node)

    def _multiply(self, node: Array) -> Read:
        (a, b), axes = self._aligned(node)
        return a * b, axes

    def _lag(self, node: Array) -> Read:
        raise Refusal(
            "distances of positions belong to laws of tokens (gaussian_closure); tokens of a flow "
            "are compared by order alone",
            node.place,
        )

    def _key(self, node: Array) -> Read:
        axes = self._axes(node)
        own = (self.names.tau, *axes)
        return single(self.names.x[own], own), axes

    def _function(self, node: Array) -> Read:
        base, name, body = composed(node, parameters=False)
        argument, axes = self.of(base)
        if not argument.tensors():
            return scalar(body(sp.Add(*(c for c, _ in argument.terms))), argument.free), axes
        if name == "exp":
            return self._exponential(argument), axes
        if name == "exp_power":  # exp of a polynomial: the polynomial itself is multiplied out
            inner, axes = self.of(node.args[0])
            return self._exponential(inner), axes
        if body.free_symbols:
            raise Refusal(
                f"{body.expr} has {min(map(str, body.free_symbols))} outside its argument; a power "
                "is written as exp(p * log(...))",
                node.place,
            )
        rule = Rule(self.book.named(name, body), body)
        return self.defined("ridge", argument, (rule, 0)), axes

    def _raw(self, integrand: Expression, node: Array) -> Expression:
        tau = self.names.tau
        free = union(integrand.free, (tau,))
        return spread(integrand, free) * single(self.names.mass[(tau,)], (tau,))

    def _average(self, node: Array) -> Read:
        value, axes = self.of(node.args[0])
        if node.args[1].op == "bistochastic":
            self._bistochastic(node)
        tau = self.names.tau
        weight = self._raw(self.scalar_of(node.args[1]), node)
        outer = tuple(i for i in weight.free if i != tau)
        weight = spread(weight, (*outer, tau))
        product = value * self._share(weight, outer)
        return product.summed(tau), axes

    def _share(self, weight: Expression, outer: tuple[Index, ...]) -> Expression:
        """The weight over its sum: a gate where it is one exponential, times numbers of the key."""
        tau, book = self.names.tau, self.book
        if len(weight.terms) == 1:
            ((coefficient, factors),) = weight.terms
            exponentials = [f for f in factors if f.tensor.kind == "exp"]
            plain = tuple(f for f in factors if f.tensor.kind != "exp")
            exponent = plus(*(book.of[f.tensor].body(f.indices) for f in exponentials))
            bound = indices_of(factors) - set(weight.free)
            if exponentials and not bound:
                own = tuple(i for i in weight.free if i in indices_of(factors))
                # what does not depend on the key cancels
                moving = [(c, f) for c, f in exponent.terms if tau in indices_of(f)]
                bodies = (collect(own, moving), collect(own, [(coefficient, plain)]))
                gate = book.tensor("gate", *_standard(own, bodies))
                return single(gate[own], own)
        total = weight.summed(tau)
        own = tuple(i for i in outer if i in indices_of_expression(total))
        tensor = book.tensor("reciprocal", *_standard(own, (spread(total, own),)))
        return weight * single(tensor[own], own)

    def _integral(self, node: Array) -> Read:
        if node.args[1].op == "bistochastic":
            self._bistochastic(node)
        return super()._integral(node)

    def _bistochastic(self, node: Array) -> Any:
        raise Refusal(
            "a bistochastic weight is the limit of an iteration; flows of tokens are derived for "
            "weights in closed form",
            node.place,
        )


def velocity_of(traced: ClosureTrace, names: Names, book: Book) -> Expression:
    """Velocity over (token, coordinate); on the sphere <x, x> = 1, and it is not projected yet."""
    value, axes = TokenReader(names, book).of(traced.velocity)
    value = spread(placed(value, dict(zip(axes, (names.i,), strict=True))), (names.s, names.i))
    return in_products(value, names, book, "own") if names.model.sphere else value

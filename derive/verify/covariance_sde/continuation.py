"""A definition's graph at complex widths: n = eps^-2 with eps anywhere near zero.

Input: the trace of a block and numbers for its parameters.  Output: the layer's value on arrays,
continued analytically in eps from eps > 0, where n is a width.

Scalars are functions of eps, with the branches that their roots have at eps > 0.  A function
a x + b |x| is continued with the sign that its argument has at |eps|: inside the region where no
argument changes its sign the layer is analytic in eps, whatever its kinks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sympy as sp

from derive.notation.common.arrays import Array, walk
from derive.notation.common.graph import value
from derive.notation.common.scalars import GaussianMean
from derive.notation.common.words.elementwise import erf
from derive.notation.layers.model import Trace
from derive.verify.covariance_sde.second_route import NotCovered

EPS = sp.Symbol("eps", positive=True)
KINKED = (sp.Max, sp.Min, sp.Abs, sp.sign, sp.Heaviside, sp.Piecewise)


def kinked(array: Array) -> bool:
    """Whether a node is a function with kinks."""
    return array.op == "function" and array.data[1].expr.has(*KINKED)


class Continued:
    """The graph of a block as a function of eps, the state and the weights."""

    def __init__(
        self, traced: Trace, params: Mapping[str, float], sizes: Callable[[Any], Mapping[str, Any]]
    ) -> None:
        """`sizes(n)`: every dimension by name, for n a number or an expression."""
        self.traced = traced
        model, token = traced.model, traced.model.state_dims[0]
        at = sizes(EPS**-2)
        self.dims = {d: sp.sympify(at[d.name]) for d in model.dims}
        self.params = {p: params[p.name] for p in model.params}
        self.numbers: dict[sp.Symbol, float] = {token: float(at[token.name])}
        self.numbers |= self.params
        self.nodes = [a for a in walk(traced.output) if kinked(a)]
        # where a kink counts (elsewhere |u| is zero), and weights that are given times eps
        self.masks: dict[Array, np.ndarray] = {}
        self.growing: frozenset[Array] = frozenset()
        self.functions = {a: _Branches(a.data[1], self.params) for a in self.nodes}
        self.scalars: dict[Array, Callable[[complex], complex]] = {}
        for array in walk(traced.output):
            if array.op == "full":
                if any(d not in (token, 1) for d in array.shape):
                    raise NotCovered(f"an array of shape {array.shape} counts its units")
                self.scalars[array] = self._scalar(array.data)
            elif array.op == "function" and array.data[1].free_symbols & set(model.dims):
                raise NotCovered(f"{array.data[0]} depends on a dimension")

    def run(
        self, eps: complex, state: np.ndarray, weights: Mapping[Array, np.ndarray]
    ) -> np.ndarray:
        """The new state; `state` is eps times the state, arrays with one leading batch axis."""
        leaves = self._leaves(eps, state, weights)
        real = self._leaves(abs(eps), state, weights) if self.nodes else {}
        for array in self.nodes:
            inside, reference = (
                value(array.args[0], known, self.numbers) for known in (leaves, real)
            )
            mask = self.masks.get(array)
            leaves[array] = self.functions[array](inside, reference, mask)
            real[array] = self.functions[array](reference, reference, mask)
        return value(self.traced.output, leaves, self.numbers)

    def argument(
        self, array: Array, eps: float, state: np.ndarray, weights: Mapping[Array, np.ndarray]
    ) -> np.ndarray:
        """The argument of a function of the graph, eps > 0, where no kink comes before it."""
        return value(array.args[0], self._leaves(eps, state, weights), self.numbers)

    def _leaves(
        self, eps: complex, state: np.ndarray, weights: Mapping[Array, np.ndarray]
    ) -> dict[Array, np.ndarray]:
        known = {a: w / eps if a in self.growing else w for a, w in weights.items()}
        known[self.traced.state] = state / eps
        for array, scalar in self.scalars.items():
            shape = [int(self.numbers[d]) if d != 1 else 1 for d in array.shape]
            known[array] = np.full(shape, scalar(eps))
        return known

    def _scalar(self, data: sp.Expr) -> Callable[[complex], complex]:
        means = {g: sp.Dummy(f"mean{k}") for k, g in enumerate(data.atoms(GaussianMean))}
        whole = self._compiled(data.xreplace(means), tuple(means.values()))
        inner = [self._mean(g) for g in means]
        return lambda eps: whole(eps, *self.params.values(), *(f(eps) for f in inner))

    def _compiled(self, expression: sp.Expr, others: tuple[sp.Symbol, ...]) -> Callable[..., Any]:
        expression = sp.factor_terms(expression.subs(self.dims))
        symbols = (EPS, *self.params, *others)
        return sp.lambdify(symbols, expression, [{"erf": erf}, "numpy"])

    def _mean(self, mean: GaussianMean) -> Callable[[complex], complex]:
        """E f(g): panels of Gauss-Legendre with an edge at zero, for kinks there."""
        g, body = mean.args
        if body.has(GaussianMean):
            raise NotCovered("a Gaussian mean inside another")
        body, kinks, bends = _without_kinks(body)
        inside = self._compiled(body, (g, *bends))
        arguments = [self._compiled(k, (g,)) for k in kinks]
        x, w = np.polynomial.legendre.leggauss(64)
        panels = ((-11, -4), (-4, 0), (0, 4), (4, 11))
        nodes = np.concatenate([(a + b) / 2 + (b - a) / 2 * x for a, b in panels])
        mass = np.concatenate([(b - a) / 2 * w for a, b in panels]) * np.exp(-(nodes**2) / 2)
        mass = mass / mass.sum()
        given = tuple(self.params.values())

        def average(eps: complex) -> complex:
            signs = [np.sign(f(abs(eps), *given, nodes)) for f in arguments]
            return complex(np.sum(mass * inside(eps, *given, nodes, *signs)))

        return average


class _Branches:
    """A function with kinks, continued from real arguments with the signs that they have there."""

    def __init__(self, body: sp.Lambda, params: Mapping[sp.Symbol, float]) -> None:
        (x,) = body.variables
        expression, kinks, signs = _without_kinks(body.expr)
        self.given = tuple(params.values())
        modules = [{"erf": erf}, "numpy"]
        self.inside = sp.lambdify((x, *params, *signs), expression, modules)
        self.kinks = [sp.lambdify((x, *params), k, modules) for k in kinks]

    def __call__(
        self, argument: np.ndarray, reference: np.ndarray, mask: np.ndarray | None
    ) -> np.ndarray:
        there = 1 if mask is None else mask
        signs = [there * np.sign(np.real(k(reference, *self.given))) for k in self.kinks]
        found = self.inside(argument, *self.given, *signs)
        return np.broadcast_to(found, argument.shape)


def _without_kinks(body: sp.Expr) -> tuple[sp.Expr, list[sp.Expr], list[sp.Symbol]]:
    """|u| as sign * u: the body, the arguments u, and the symbols of their signs."""
    body = body.rewrite(sp.Abs) if body.has(sp.Max, sp.Min) else body
    kinks = [a.args[0] for a in sorted(body.atoms(sp.Abs), key=str)]
    if any(k.has(sp.Abs) for k in kinks) or body.has(
        sp.Max, sp.Min, sp.sign, sp.Heaviside, sp.Piecewise
    ):
        raise NotCovered("a function jumps, or has a kink inside another")
    signs = [sp.Dummy(f"sign{k}") for k in range(len(kinks))]
    return body.subs({sp.Abs(u): s * u for u, s in zip(kinks, signs, strict=True)}), kinks, signs

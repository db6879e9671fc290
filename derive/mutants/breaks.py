"""Ways in which a function is made wrong: each takes the right one and gives the wrong one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import sympy as sp

Function = Callable[..., Any]


def times(factor: float) -> Callable[[Function], Function]:
    return lambda f: lambda *a, **k: factor * f(*a, **k)


def lost_pairing(f: Function) -> Function:
    return lambda count: list(f(count))[: -1 if count > 2 else None]


def coefficient(factor: sp.Expr, least: int) -> Callable[[Function], Function]:
    """The derivative of an order wrong by a factor."""

    def broken(f: Function) -> Function:
        def derivative(body: Any, start: Any, times: int, array: Any) -> Any:
            found = f(body, start, times, array)
            return factor * found if times == least else found

        return derivative

    return broken


def without_noise(f: Function) -> Function:
    return lambda drift, diffusion, *a: f(drift, diffusion.scaled(sp.Integer(0)), *a)


def one_less(f: Function) -> Function:
    return lambda self, expression, order: f(self, expression, order - 1)


def scaled(factor: sp.Expr) -> Callable[[Function], Function]:
    return lambda f: lambda *a: tuple(e.scaled(factor) for e in f(*a))


def bent_twice(f: Function) -> Function:
    return lambda array, argument, slope, kink, law: f(array, argument, slope, 2 * kink, law)


def twice_the_state(f: Function) -> Function:
    """What is X less its mean counts as 2 X."""

    def broken(array: Any, factor: Any) -> Any:
        found = f(array, factor)
        return found and replace(found, factor=2 * found.factor)

    return broken


def covariance_lost(f: Function) -> Function:
    return lambda at, mean, cov, i, j: f(at, mean, cov.scaled(sp.Integer(0)), i, j)


def joint_twice(f: Function) -> Function:
    def broken(coefficient: Any, factors: Any, free: Any) -> Any:
        found, left = f(coefficient, factors, free)
        return (found if len(left) == len(factors) else 2 * found), left

    return broken


def unframed(f: Function) -> Function:
    """Every root of a covariance is the identity."""

    def broken(array: Any, law: Any) -> Any:
        @cache
        def bare(a: Any) -> Any:
            if a.op == "psd_root":
                return replace(a, op="eye", args=())
            return replace(a, args=tuple(bare(x) for x in a.args)) if a.args else a

        return bare(f(array, law))

    return broken


def shrunk_factor(f: Function) -> Function:
    def rate(*arguments: Any) -> Any:
        mean, factor = f(*arguments)
        return mean, 0.98 * factor

    return rate


def of_a_longer_step(f: Function) -> Function:
    return lambda spec, width, params: f(spec, width / 1.05, params)


def negated(f: Function) -> Function:
    return lambda g, *a, **k: [g.scale(sp.Integer(-1), x) for x in f(g, *a, **k)]


def without_determinant(f: Function) -> Function:
    from dataclasses import replace

    return lambda *a: replace(f(*a), det=None)


def wide_noise(f: Function) -> Function:
    """Feller's test with the exponent of the noise off by one."""
    return lambda drift, square, name: f(drift, name * square, name)


def nothing_held(f: Function) -> Function:
    return lambda law, traced, limits: f(law, traced, ())


def other_end(f: Function) -> Function:
    return lambda result: "fixed end: p(T) is free" if not result.fixed_end else f(result)


def ends_at(factor: sp.Expr) -> Callable[[Function], Function]:
    """The costate at the end by a factor."""
    return lambda f: lambda g, *a: tuple(g.scale(factor, x) for x in f(g, *a))


def wrong_weight(f: Function) -> Function:
    """The weight of the midpoint in the collocation by 1.02."""

    def equations(problem: Any, y: Any, h: Any, theta: Any) -> Any:
        from derive.runtime.control.boundary_value import WEIGHTS, stages

        first, inner, last = f(problem, y, h, theta)
        _, g = stages(problem, y, h, theta)
        return first, inner - 0.02 * WEIGHTS[4] * h[:, None] * g[4], last

    return equations


def costate_of(share: float) -> Callable[[Function], Function]:
    """p' by a factor where the solver integrates it."""

    def broken(f: Function) -> Function:
        def problem(flat: Any, *a: Any) -> Any:
            import jax.numpy as jnp

            right = f(flat, *a)
            scale = np.concatenate([np.ones(flat.n), np.full(flat.n, share)])
            return right._replace(field=lambda y, theta: jnp.asarray(scale) * right.field(y, theta))

        return problem

    return broken


def end_of(share: float) -> Callable[[Function], Function]:
    """The gradient of the terminal cost by a factor where the solver meets it."""

    def broken(f: Function) -> Function:
        def problem(flat: Any, *a: Any) -> Any:
            right = f(flat, *a)

            def end(y: Any, theta: Any) -> Any:
                gap = right.end(y, theta)  # q - gradient
                return gap - (share - 1) * (y[flat.n :] - gap)

            return right._replace(end=end)

        return problem

    return broken


def few(nodes: int) -> Callable[[Function], Function]:
    """A Gauss-Hermite rule of so many nodes a direction."""

    def broken(f: Function) -> Function:
        def rule(r: int, level: int) -> Any:
            z, w = np.polynomial.hermite_e.hermegauss(nodes * level)
            grids = np.meshgrid(*[z] * r, indexing="ij")
            weights = np.meshgrid(*[w / w.sum()] * r, indexing="ij")
            return np.stack(grids, -1).reshape(-1, r), np.prod(weights, axis=0).reshape(-1)

        return rule

    return broken

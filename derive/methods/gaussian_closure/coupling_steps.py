"""The record of a bistochastic coupling: from the kernel to the law of y given x, step by step.

Input: a derivation with couplings in its book.  Output: steps, each with a numeric check; the last
one is the lemma that is cited.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.defined_values import value
from derive.calculus.index.expressions import Expression, single
from derive.calculus.index.factors import Tensor
from derive.draws import generator
from derive.methods.common.record import Check, Step, of_step
from derive.methods.gaussian_closure import checks, instances
from derive.methods.gaussian_closure.coupling import (
    LATENT,
    block_inverse,
    completed_square,
    marginal_equation,
    singular_value_map,
    spectral_root,
)
from derive.methods.gaussian_closure.result import GaussianClosure


def steps(result: GaussianClosure) -> list[Step]:
    out = []
    for exponent, T, D in result.book.couplings:
        out += _steps(result, exponent, T, D)
    return out


def _steps(result: GaussianClosure, exponent: Expression, T: Expression, D: Tensor) -> list[Step]:
    shift, rest = completed_square()
    root, f = spectral_root(), singular_value_map()
    marginal = marginal_equation()[0]
    keys = "F_key" if result.model.cross else "F_S"
    queries, law = "F_S", "m + F_S z"
    other = "key_mean + F_key z'" if result.model.cross else "m + F_S z'"
    return [
        _step(
            "couple: latent plan",
            "potentials p(x), q(y) absorb what depends on x or on y alone",
            {"T": T},
            (
                f"x = {law}, y = {other}: quadratic potentials make the plan jointly Gaussian, "
                "with precision [[P1, -T^T], [-T, P2]] of (z, z')",
            ),
            _mixed_difference(result, exponent, T),
        ),
        _step(
            "couple: means",
            "linear potentials match the means",
            facts=("the plan of (z, z') is centred; z' given z has mean D T z, covariance D",),
            check=_mean_of_conditional(result),
        ),
        _step(
            "couple: block inverse",
            "Cov z' = D + D T C T^T D with D = P2^-1 and C = Cov z = (P1 - T^T D T)^-1",
            {"second block": block_inverse()},
            check=_block_inverse(),
        ),
        _step(
            "couple: marginals",
            "both marginals are standard: C = I and Cov z' = I",
            {"zero": marginal},
            ("P1 = I + T^T D T and D + D T T^T D = I",),
            _marginals(result, T, D),
        ),
        _step(
            "couple: root",
            "multiply by D^-1 on both sides, complete the square",
            facts=(
                f"(D^-1 - {shift} I)^2 = T T^T + {rest} I",
                f"its positive root is unique: D = g(T T^T), g(t) = {root.expr}",
                f"T = U s W^T: D T = U f(s) W^T, f(s) = {f.expr}",
            ),
            check=_root(shift, rest),
        ),
        _step(
            "couple: cross-covariance",
            f"Y = Cov(y, x) = {keys} Z {queries}^T with Z = D T = U f(s) W^T",
            facts=("only products with factors and D: singular A and singular laws are legal",),
            check=_cross_covariance(result, T, D),
        ),
        _step(
            "couple: uniqueness",
            "lemma, cited: the bistochastic scaling is unique, so this plan is the plan",
            facts=("Sinkhorn and Knopp (1967); Ruschendorf and Thomsen (1993) for laws",),
            check=_by_sinkhorn_iterations(result),
        ),
    ]


def _step(
    name: str,
    rule: str,
    results: dict[str, Expression] | None = None,
    facts: tuple[str, ...] = (),
    check: Check | None = None,
) -> Step:
    return Step(name, rule, results or {}, of_step(facts, check), check)


def _latent(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A random T, not square and of deficient rank, and D by the derived root."""
    rng = generator(58, seed)
    T = rng.standard_normal((4, 2)) @ rng.standard_normal((2, 3))
    values, vectors = np.linalg.eigh(T @ T.T)
    g = sp.lambdify(*spectral_root().args, "numpy")
    return T, (vectors * g(np.maximum(values, 0))) @ vectors.T


def _mixed_difference(result: GaussianClosure, exponent: Expression, T: Expression) -> Check:
    """E(x, y) - z'^T T z has no mixed second difference: it is p(x) + q(y)."""
    one = instances.instance(result.model, 8)
    slope = instances.at(one, T, result.book)
    rng = generator(8)
    z, w = rng.standard_normal((2, slope.shape[1])), rng.standard_normal((2, slope.shape[0]))
    F_y = one.arrays["F_key" if result.model.cross else "F_S"]
    m_y = one.arrays["key_mean" if result.model.cross else "m"]

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        x, y = one.arrays["m"] + one.arrays["F_S"] @ a, m_y + F_y @ b
        where = replace(one, arrays={**one.arrays, "y": y})
        return float(instances.at(where, exponent, result.book, x=x))

    found = kernel(z[1], w[1]) - kernel(z[1], w[0]) - kernel(z[0], w[1]) + kernel(z[0], w[0])
    wanted = (w[1] - w[0]) @ slope @ (z[1] - z[0])
    return Check(
        "mixed second difference of the kernel's exponent is that of z'^T T z",
        checks.residual(np.array(found), np.array(wanted)),
        1e-10,
    )


def _mean_of_conditional(result: GaussianClosure) -> Check:
    """The law of y given x at x = m has the keys' mean: the velocity there, linear in keys."""
    one = instances.instance(result.model, 9)
    slope = instances.at(one, result.jacobian, result.book)
    x = one.arrays["x"]
    here = instances.at(one, result.velocity, result.book)
    there = instances.at(one, result.velocity, result.book, x=one.arrays["m"])
    mean = instances.at(one, result.mean_rate, result.book)
    gap = np.abs(there - mean).max() if result.exact else 0.0
    if result.exact:
        gap = max(gap, np.abs(here - there - slope @ (x - one.arrays["m"])).max())
    return Check("velocity at the mean is the mean velocity", float(gap), 1e-12)


def _block_inverse() -> Check:
    """The formula of the second block against the inverse of a random precision."""
    rng = generator(10)
    root = rng.standard_normal((6, 6))
    precision = root @ root.T + np.eye(6)
    inverse = np.linalg.inv(precision)
    T, D = -precision[3:, :3], np.linalg.inv(precision[3:, 3:])
    found = _value(block_inverse(), D=D, T=T, C=inverse[:3, :3])
    return Check(
        "second block of the inverse of a random precision",
        checks.residual(found, inverse[3:, 3:]),
        1e-12,
    )


def _value(expression: Expression, **arrays: np.ndarray) -> np.ndarray:
    size = len(arrays["D"])
    return value(expression, Book(), arrays, {LATENT.name: size}, {})


def _marginals(result: GaussianClosure, T: Expression, D: Tensor) -> Check:
    """Invert the whole precision of the plan, at a regular and at a singular law."""
    worst = 0.0
    for rank in (None, 1):
        one = instances.instance(result.model, 11, rank=rank)
        slope = instances.at(one, T, result.book)
        i, j = result.book.of[D].bodies[0].free
        root = instances.at(one, single(D[i, j], (i, j)), result.book)
        P1 = np.eye(slope.shape[1]) + slope.T @ root @ slope
        whole = np.block([[P1, -slope.T], [-slope, np.linalg.inv(root)]])
        found = np.linalg.inv(whole)
        n = slope.shape[1]
        worst = max(
            worst,
            checks.residual(found[:n, :n], np.eye(n)),
            checks.residual(found[n:, n:], np.eye(len(root))),
        )
    return Check("both marginals of the plan, by inverting its precision", worst, 1e-11)


def _root(shift: sp.Expr, rest: sp.Expr) -> Check:
    T, D = _latent(12)
    inverse, one = np.linalg.inv(D), np.eye(len(D))
    left = (inverse - float(shift) * one) @ (inverse - float(shift) * one)
    square = checks.residual(left, T @ T.T + float(rest) * one)
    equation = checks.residual(D + D @ T @ T.T @ D, one)
    f = sp.lambdify(*singular_value_map().args, "numpy")
    U, s, Wt = np.linalg.svd(T, full_matrices=False)
    form = checks.residual((U * f(s)) @ Wt, D @ T)
    positive = 0.0 if np.linalg.eigvalsh(D)[0] > 0 else 1.0
    return Check(
        "square, equation and singular values at a random T of deficient rank",
        max(square, equation, form, positive),
        1e-11,
    )


def _cross_covariance(result: GaussianClosure, T: Expression, D: Tensor) -> Check:
    """F Z F^T by the singular values of T against D T by the spectrum of T T^T, A singular too."""
    f = sp.lambdify(*singular_value_map().args, "numpy")
    worst = 0.0
    for rank, cut in ((None, False), (1, True)):
        one = instances.instance(result.model, 13, rank=rank, size=3)
        if cut:
            arrays = {
                m.data: one.arrays[m.data] * (np.arange(one.arrays[m.data].shape[-2])[:, None] < 1)
                for m in result.trace.used
                if len(m.shape) == 2
            }
            one = replace(one, arrays={**one.arrays, **arrays})
        slope = instances.at(one, T, result.book)
        i, j = result.book.of[D].bodies[0].free
        root = instances.at(one, single(D[i, j], (i, j)), result.book)
        F_y = one.arrays["F_key" if result.model.cross else "F_S"]
        U, s, Wt = np.linalg.svd(slope, full_matrices=False)
        left = F_y @ (U * f(s)) @ Wt @ one.arrays["F_S"].T
        right = F_y @ root @ slope @ one.arrays["F_S"].T
        worst = max(worst, checks.residual(left, right))
    return Check("both forms of Y, regular and singular", worst, 1e-12)


def _by_sinkhorn_iterations(result: GaussianClosure) -> Check:
    check = checks.keys_by_quadrature(result)
    return Check("Sinkhorn iterations on Gauss-Hermite points", check.residual, check.tolerance)

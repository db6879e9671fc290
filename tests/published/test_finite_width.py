"""Expansion in the width of one layer, against exact moments of one finite layer.

The references are quadratures at finite n (`one_layer_moments`, `one_layer_mlp_moments`), whose
power series in n^(-1/2) is read off by interpolation; nothing here is random.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import sympy as sp
from derivations import derivation
from scipy.special import erf

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression
from derive.methods.covariance_sde.finite_width import FiniteWidth, finite_width
from derive.methods.covariance_sde.result import CovarianceSDE

from .one_layer_mlp_moments import shaped_relu, shaped_smooth
from .one_layer_moments import (
    conditional_covariance,
    conditional_mean,
    shaped_attention,
    two_token_moments,
)

V2 = np.array([[1.3, 0.4], [0.4, 0.8]])


def derived(name: str) -> CovarianceSDE:
    return derivation(name)


@cache
def expansion(name: str, second: bool = False) -> FiniteWidth:
    return finite_width(derived(name), second)


def at(name: str, expression: Expression | None, V: np.ndarray, **numbers: float) -> np.ndarray:
    model = derived(name).model
    assert expression is not None
    known: dict[str, float] = {**numbers, "m": float(len(V))}
    table: dict[sp.Symbol, float] = {
        s: known[s.name] for s in (*model.dims, *model.params) if s.name in known
    }
    return evaluate(expression, {"V": V}, table)


def coefficients(f: Callable[[float], tuple[np.ndarray, np.ndarray]], points: np.ndarray) -> list:
    """Lowest coefficients of the interpolating polynomials of both results of f."""
    found = [f(float(x)) for x in points]
    powers = np.linalg.inv(np.vander(points, increasing=True))
    return [np.tensordot(powers, np.array([v[k] for v in found]), 1) for k in (0, 1)]


def nodes(count: int, low: float, high: float) -> np.ndarray:
    x = np.cos((np.arange(count) + 0.5) * np.pi / count)
    return (low + high) / 2 + (high - low) / 2 * x


def agree(found: np.ndarray, exact: np.ndarray, tolerance: float) -> None:
    assert np.max(np.abs(found - exact)) < tolerance * max(float(np.max(np.abs(exact))), 1.0)


@pytest.mark.parametrize("c_plus, c_minus", [(0.4, -1.3), (0.0, -2.0), (0.7, -0.7)])
def test_first_correction_of_the_shaped_relu_mlp_is_that_of_the_exact_moments(
    c_plus: float, c_minus: float
) -> None:
    found = expansion("shaped_relu_mlp")
    numbers = {"gamma": 0.6, "c_plus": c_plus, "c_minus": c_minus}
    drift, diffusion = coefficients(
        lambda eps: shaped_relu(V2, 0.6, c_plus, c_minus, eps), nodes(12, -0.1, 0.1)
    )
    for expression, exact in (
        (found.limit_drift, drift[0]),
        (found.limit_diffusion, diffusion[0]),
        (found.drift, drift[1]),
        (found.diffusion, diffusion[1]),
    ):
        agree(at("shaped_relu_mlp", expression, V2, **numbers), exact, 1e-9)
    # published in closed form: the relative bias of the drift is -(c_+ + c_-) n^(-1/2)
    bias = -(c_plus + c_minus) * at("shaped_relu_mlp", found.limit_drift, V2, **numbers)
    agree(at("shaped_relu_mlp", found.drift, V2, **numbers), bias, 1e-12)
    assert found.third_cumulant.is_zero


def gelu2(x: np.ndarray) -> np.ndarray:
    return x * (1 + erf(x / np.sqrt(2)))


@pytest.mark.parametrize(
    "name, phi", [("shaped_smooth_mlp", np.tanh), ("shaped_smooth_mlp_gelu", gelu2)]
)
def test_second_order_of_a_smooth_mlp_is_that_of_the_exact_moments(
    name: str, phi: Callable[[np.ndarray], np.ndarray]
) -> None:
    found = expansion(name, second=True)
    drift, diffusion = coefficients(
        lambda x: shaped_smooth(V2, 0.6, 1.7, phi, 1 / x), nodes(9, 0.0, 0.02)
    )
    assert found.vanishes
    agree(at(name, found.second_drift, V2, gamma=0.6, a=1.7), drift[1], 1e-5)
    agree(at(name, found.second_diffusion, V2, gamma=0.6, a=1.7), diffusion[1], 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("n_k", [1, 3])
def test_second_order_of_attention_is_that_of_the_exact_moments_of_two_tokens(n_k: int) -> None:
    gamma, tau_0 = 0.7, 0.8
    found = expansion("shaped_attention", second=True)

    def exact(x: float) -> tuple[np.ndarray, np.ndarray]:
        mean, covariance = two_token_moments(V2, gamma, tau_0, 1 / x, n_k)  # type: ignore[arg-type]
        return (mean - V2) / x, covariance / x

    numbers = {"gamma": gamma, "tau_0": tau_0, "n_k": float(n_k)}
    drift, diffusion = coefficients(exact, nodes(8, 0.0, 0.02))
    assert found.vanishes
    for expression, value in (
        (found.limit_drift, drift[0]),
        (found.limit_diffusion, diffusion[0]),
        (found.second_drift, drift[1]),
        (found.second_diffusion, diffusion[1]),
    ):
        agree(at("shaped_attention", expression, V2, **numbers), value, 1e-5)


@pytest.mark.slow
def test_second_order_of_attention_is_that_of_the_exact_moments_of_three_tokens() -> None:
    """One key dimension: Y = k q^T, and the average over k and q is a rule in six dimensions."""
    gamma, tau_0 = 0.7, 0.8
    rng = np.random.default_rng(4)
    root = rng.standard_normal((3, 4)) / 2
    V = root @ root.T
    g, w = np.polynomial.hermite_e.hermegauss(7)
    half = np.array(list(itertools.product(g, repeat=3))) @ np.linalg.cholesky(V).T
    weight = np.array([np.prod(p) for p in itertools.product(w / w.sum(), repeat=3)])
    Y = np.einsum("ia,jb->ijab", half, half).reshape(-1, 3, 3)
    weight = np.outer(weight, weight).ravel()
    heavy = weight > 1e-15
    Y, weight = Y[heavy], weight[heavy]

    def exact(x: float) -> tuple[np.ndarray, np.ndarray]:
        A = shaped_attention(Y, tau_0 / np.sqrt(x))
        means = conditional_mean(V, A, gamma)
        mean = np.einsum("k,kab->ab", weight, means)
        inner = np.einsum("k,kabcd->abcd", weight, conditional_covariance(V, A, gamma, 1 / x))  # type: ignore[arg-type]
        away = means - mean
        return (mean - V) / x, (inner + np.einsum("k,kab,kcd->abcd", weight, away, away)) / x

    found = expansion("shaped_attention", second=True)
    numbers = {"gamma": gamma, "tau_0": tau_0, "n_k": 1.0}
    drift, diffusion = coefficients(exact, nodes(4, 0.0, 0.004))
    agree(at("shaped_attention", found.second_drift, V, **numbers), drift[1], 2e-4)
    agree(at("shaped_attention", found.second_diffusion, V, **numbers), diffusion[1], 2e-4)

"""The growth rate of a harmonic as a number, and the same rate by the definition's text.

The first evaluates the derived integrals by Gauss-Legendre points of the angle.  The second runs
the text on quadrature points of the circle and of the sphere with perturbed masses, and takes the
rate of the harmonic's coefficient in weak form, (d/dt) int phi dmu = int <v, grad phi> dmu.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import sympy as sp
from numpy.polynomial import legendre

from derive.methods.common.record import Check
from derive.methods.token_flow.harmonics import Growth, T
from derive.methods.token_flow.instances import FlowInstance, instance, tangent, text_noise
from derive.methods.token_flow.names import Names

NODES = 200
gauss = cache(legendre.leggauss)  # points on (-1, 1) and weights: their eigenvalues take a while


def rate(found: Growth, degree: int, d: int, values: Mapping[sp.Symbol, float]) -> float:
    """Growth rate of a harmonic of that degree on the sphere of R^d."""
    z, w = gauss(NODES)
    angle, weight = (z + 1) * np.pi / 2, w * np.pi / 2
    t = np.cos(angle)
    scale = math.exp(math.lgamma(d / 2) - math.lgamma((d - 1) / 2)) / math.sqrt(math.pi)
    # the area element is sin^(d-2); P_k' carries one more sin^2 against dt = - sin d angle
    means = {
        symbol: scale * float(np.sum(weight * np.sin(angle) ** (d - 2) * _at(w_, t, values)))
        for symbol, w_ in found.means
    }
    push = _at(found.push, t, {**values, **means})
    slope = _zonal_slope(degree, d, t)
    drift = scale * float(np.sum(weight * np.sin(angle) ** d * push * slope))
    kappa = float(found.diffusion.xreplace({s: sp.Float(v) for s, v in values.items()}))
    return drift - kappa * degree * (degree + d - 2)


def _at(expression: sp.Expr, t: np.ndarray, values: Mapping[sp.Symbol, float]) -> np.ndarray:
    f = sp.lambdify([T], expression.xreplace({s: sp.Float(v) for s, v in values.items()}), "numpy")
    return np.broadcast_to(np.asarray(f(t), float), t.shape)


def _zonal_slope(degree: int, d: int, t: np.ndarray) -> np.ndarray:
    """P_k'(t) of the Gegenbauer polynomial with P_k(1) = 1: one of degree k - 1 in d + 2.

    It is k (k + d - 2) / (d - 1) 2F1(1 - k, k + d - 1; (d + 1) / 2; (1 - t) / 2), a finite sum.
    """
    term = np.full_like(t, degree * (degree + d - 2) / (d - 1))
    out = np.zeros_like(t)
    for j in range(degree):
        out += term
        share = (j + 1 - degree) * (j + degree + d - 1) / ((j + (d + 1) / 2) * (j + 1))
        term = term * share * (1 - t) / 2
    return out


def by_the_text(found: Growth, names: Names) -> Check:
    """Degrees 1 to 3 on the circle, 1 and 2 on the sphere in space."""
    worst = 0.0
    for d, degrees in ((2, (1, 2, 3)), (3, (1, 2))):
        x, weight, zonal = _points(d)
        for degree in degrees:
            one = replace(instance(names.model, 20 + degree, d=d), x=x)
            phi, slope = _zonal_polynomial(degree, d)
            h = phi(zonal)
            rates = [
                _weak(replace(one, mass=weight * (1 + sign * h / 4)), zonal, slope)
                for sign in (1e-3, -1e-3)
            ]
            size = float(np.sum(weight * h * h)) / 4
            by_text = (rates[0] - rates[1]) / (2e-3) / size
            by_text += _by_noise(one, phi, weight) / float(np.sum(weight * h * h))
            wanted = rate(found, degree, d, one.numbers)
            worst = max(worst, abs(by_text - wanted) / max(1e-2, abs(wanted)))
    return Check("the text on quadrature points with perturbed masses", worst, 1e-5)


def _weak(one: FlowInstance, zonal: np.ndarray, slope: Any) -> float:
    """int <v, grad phi> dmu for phi a function of the first coordinate."""
    return float(np.sum(one.mass * tangent(one)[:, 0] * slope(zonal)))


def _by_noise(one: FlowInstance, phi: Any, weight: np.ndarray) -> float:
    """Rate of int phi (phi dmu) by the noise: a short step in space, put back on the sphere.

    The mean over the step is a Gauss-Hermite rule; two steps take out what is of their order.
    """
    d = one.x.shape[1]
    values, vectors = np.linalg.eigh(text_noise(one))
    root = vectors * np.sqrt(np.maximum(values, 0))
    z, w = np.polynomial.hermite_e.hermegauss(6)
    grid = np.stack(np.meshgrid(*[z] * d, indexing="ij"), -1).reshape(-1, d) @ root.T
    share = np.prod(np.stack(np.meshgrid(*[w / w.sum()] * d, indexing="ij"), -1), -1).reshape(-1)
    before = phi(one.x[:, 0])
    rates = []
    for h in (2e-4, 4e-4):
        moved = one.x[:, None, :] + np.sqrt(h) * grid
        first = moved[..., 0] / np.linalg.norm(moved, axis=-1)
        rates.append(float(np.sum(weight * before * (phi(first) @ share - before))) / h)
    return 2 * rates[0] - rates[1]


def _points(d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, weights of sum one and first coordinates, exact for polynomials of high degree."""
    if d == 2:
        angle = 2 * np.pi * np.arange(96) / 96
        return np.stack([np.cos(angle), np.sin(angle)], 1), np.full(96, 1 / 96), np.cos(angle)
    z, w = legendre.leggauss(24)
    around = 2 * np.pi * np.arange(48) / 48
    first = np.repeat(z, 48)
    ring = np.sqrt(1 - first**2)
    x = np.stack([first, ring * np.cos(np.tile(around, 24)), ring * np.sin(np.tile(around, 24))], 1)
    return x, np.repeat(w, 48) / 2 / 48, first


def _zonal_polynomial(degree: int, d: int) -> Any:
    """The harmonic and its derivative as NumPy polynomials: Chebyshev or Legendre."""
    family = np.polynomial.Chebyshev if d == 2 else np.polynomial.Legendre
    p = family.basis(degree)
    return p, p.deriv()

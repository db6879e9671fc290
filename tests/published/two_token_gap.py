"""The gap of two tokens under shaped attention: a deterministic reference, exact in time.

Source: the coefficients of Noci et al. (2023), arXiv 2306.17759, Theorem 4.2, at m = 2. There
w = V_11 - 2 V_12 + V_22 = |x_1 - x_2|^2 / n is a diffusion on its own
(`test_references_agree.py` checks it):

    dw = a w^3 dt + sqrt(sig^2 w^2 + beta^2 w^4) dB,
    a = gamma^2 / (16 tau_0^2),  sig^2 = 2 gamma^2 (2 - gamma^2),  beta = gamma^2 / (2 tau_0).

Unit-noise coordinate. z = asinh(sig / (beta w)) / sig maps w = inf to z = 0, w = 0 to z = inf, and

    dz = f(z) dt + dB,   f = (sig/2) tanh(sig z) + (delta - 1) sig / sinh(2 sig z),
    delta = 3 - 1 / (2 gamma^2):

a Bessel process of dimension delta near z = 0. Its speed density is
rho = cosh(sig z) tanh(sig z)^(delta - 1). For gamma^2 < 1/2 (delta < 2) the
origin is reached, w explodes and the path is absorbed; from delta = 2 on it is an entrance
boundary, no mass leaves and nothing is imposed. tau_0 enters through z_0 alone.

Method. Fokker-Planck p_t = ((rho/2) (p/rho)_z)_z by conservative finite volumes of equal size;
the flux between cell centres is that of the stationary flow, the difference of p/rho over the
exact integral of 1/rho (finite at z = 0 iff delta < 2). Two choices keep second order at the
singular end: p ~ z is smooth at an absorbing origin, so a cell holds rho(centre) h (p/rho); p/rho
is smooth at an entrance, so there it holds (p/rho) times the integral of rho. z_0 is a cell
centre and the initial law one cell of mass 1. The exponential of the generator (real spectrum,
not positive) is taken by the parabolic contour of Trefethen, Weideman and Schmelzer (2006): 16
complex tridiagonal solves and no time step. The far end is 10 standard deviations out and closed.

Input: gamma2 = gamma^2 in (0, 1], tau_0 in (0, inf], t > 0, w0 > 0. Output: quantiles,
distribution function and exploded mass. The error is O(cells^-2): with the default number of
cells 2e-6 of a quantile and 1e-7 of a probability in the table of
`test_two_token_gap_table.py`; rounding adds about 1e-10.
"""

from collections.abc import Callable
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.linalg import solve_banded
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, roots_jacobi

Array = NDArray[np.float64]

CELLS = 6000


class Law(NamedTuple):
    """Law of z at time t: cell faces (from 0 up), mass of each cell, mass absorbed at z = 0."""

    faces: Array
    mass: Array
    exploded: float


def drift(w: ArrayLike, gamma2: float, tau_0: float) -> Array:
    """Drift of w, elementwise."""
    return gamma2 / (16 * tau_0**2) * np.asarray(w, dtype=np.float64) ** 3


def variance_rate(w: ArrayLike, gamma2: float, tau_0: float) -> Array:
    """d<w>/dt, elementwise."""
    w = np.asarray(w, dtype=np.float64)
    return 2 * gamma2 * (2 - gamma2) * w**2 + gamma2**2 / (4 * tau_0**2) * w**4


def to_z(w: ArrayLike, gamma2: float, tau_0: float) -> Array:
    """Unit-noise coordinate of the gap; z(inf) = 0."""
    sig, beta = _scales(gamma2, tau_0)
    return np.arcsinh(sig / (beta * np.asarray(w, dtype=np.float64))) / sig


def from_z(z: ArrayLike, gamma2: float, tau_0: float) -> Array:
    """Gap at the unit-noise coordinate z > 0."""
    sig, beta = _scales(gamma2, tau_0)
    return sig / (beta * np.sinh(sig * np.asarray(z, dtype=np.float64)))


def quantiles(
    gamma2: float, tau_0: float, t: float, w0: float, probs: ArrayLike, *, cells: int = CELLS
) -> Array:
    """Quantiles of w at time t from w0, an exploded path counting as +inf; shape of `probs`."""
    probs = np.asarray(probs, dtype=np.float64)
    if np.any((probs <= 0) | (probs >= 1)):
        raise ValueError("probs must lie strictly between 0 and 1")
    if np.isinf(tau_0):
        sig2 = _check(gamma2, tau_0, t, w0)
        return w0 * np.exp(-sig2 * t / 2 + np.sqrt(sig2 * t) * ndtri(probs))
    law = solve(gamma2, tau_0, t, w0, cells=cells)
    below = _below(law)
    values = np.full(probs.size, np.inf)
    for i, level in enumerate(1 - probs.ravel()):
        if level > law.exploded:
            j = int(np.searchsorted(below(law.faces), level))
            z = brentq(lambda x, y=level: below(x) - y, law.faces[j - 1], law.faces[j], xtol=1e-13)
            values[i] = from_z(z, gamma2, tau_0)
    return values.reshape(probs.shape)


def cdf(
    gamma2: float, tau_0: float, t: float, w0: float, w: ArrayLike, *, cells: int = CELLS
) -> Array:
    """P(w_t <= w), elementwise; tends to 1 - exploded, not to 1, as w grows."""
    w = np.asarray(w, dtype=np.float64)
    if np.isinf(tau_0):
        sig2 = _check(gamma2, tau_0, t, w0)
        with np.errstate(divide="ignore"):
            return ndtr((np.log(w / w0) + sig2 * t / 2) / np.sqrt(sig2 * t))
    law = solve(gamma2, tau_0, t, w0, cells=cells)
    with np.errstate(divide="ignore"):
        z = to_z(np.maximum(w, 0), gamma2, tau_0)
    return np.where(z < law.faces[-1], 1 - _below(law)(np.minimum(z, law.faces[-1])), 0.0)


def exploded(gamma2: float, tau_0: float, t: float, w0: float, *, cells: int = CELLS) -> float:
    """P(explosion by time t); exactly 0 for gamma2 >= 1/2 and for tau_0 = inf."""
    if np.isinf(tau_0):
        _check(gamma2, tau_0, t, w0)
        return 0.0
    return solve(gamma2, tau_0, t, w0, cells=cells).exploded


def solve(gamma2: float, tau_0: float, t: float, w0: float, *, cells: int = CELLS) -> Law:
    """Law of z at time t from w0; about `cells` cells (z_0 is made a cell centre), tau_0 finite."""
    _check(gamma2, tau_0, t, w0)
    if np.isinf(tau_0):
        raise ValueError(
            "tau_0 = inf has no finite z; quantiles, cdf and exploded have its closed form"
        )
    lower, diagonal, upper, start, width = generator(gamma2, tau_0, t, w0, cells=cells)
    mass = _exponential(t * lower, t * diagonal, t * upper, start)
    # Mass is lost at z = 0 alone; for delta >= 2 the difference is rounding.
    lost = max(0.0, 1 - float(mass.sum())) if gamma2 < 0.5 else 0.0
    return Law(width * np.arange(mass.size + 1, dtype=np.float64), mass, lost)


def generator(
    gamma2: float, tau_0: float, t: float, w0: float, *, cells: int = CELLS
) -> tuple[Array, Array, Array, int, float]:
    """Tridiagonal generator of cell masses: (lower, diagonal, upper, cell of z_0, cell width)."""
    sig, _ = _scales(gamma2, tau_0)
    delta = 3 - 1 / (2 * gamma2)
    z0 = float(to_z(w0, gamma2, tau_0))
    end = z0 + sig * t / 2 + 10 * sqrt(t)
    start = int(np.floor(z0 * cells / end))
    if start < 10:
        raise ValueError(f"w0 = {w0} lies {start} cells from explosion; raise cells above {cells}")
    h = z0 / (start + 0.5)
    count = int(np.ceil(end / h))
    centres = h * (np.arange(count, dtype=np.float64) + 0.5)

    resistance = _integral(lambda z: 1 / _speed(z, sig, delta), centres[:-1], centres[1:])
    if delta < 2:  # absorbing
        content = h * _speed(centres, sig, delta)
        exit_resistance = _integral_from_zero(
            lambda z: z ** (delta - 1) / _speed(z, sig, delta), 1 - delta, centres[0]
        )
        out = 1 / (2 * exit_resistance * content[0])
    else:  # entrance
        faces = h * np.arange(count + 1, dtype=np.float64)
        content = np.empty(count)
        content[0] = _integral_from_zero(
            lambda z: z ** (1 - delta) * _speed(z, sig, delta), delta - 1, faces[1]
        )
        content[1:] = _integral(lambda z: _speed(z, sig, delta), faces[1:-1], faces[2:])
        out = 0.0

    up = 1 / (2 * resistance * content[:-1])  # rate from cell i to cell i + 1
    down = 1 / (2 * resistance * content[1:])  # rate from cell i + 1 to cell i
    diagonal = np.zeros(count)
    diagonal[:-1] -= up
    diagonal[1:] -= down
    diagonal[0] -= out
    return up, diagonal, down, start, h


def _check(gamma2: float, tau_0: float, t: float, w0: float) -> float:
    """sig^2, after the arguments are found to make sense."""
    if not (0 < gamma2 <= 1 and tau_0 > 0 and t > 0 and 0 < w0 < np.inf):
        raise ValueError(f"need 0 < gamma2 <= 1, tau_0, t, w0 > 0: {(gamma2, tau_0, t, w0)}")
    return 2 * gamma2 * (2 - gamma2)


def _scales(gamma2: float, tau_0: float) -> tuple[float, float]:
    return sqrt(2 * gamma2 * (2 - gamma2)), gamma2 / (2 * tau_0)


def _speed(z: Array, sig: float, delta: float) -> Array:
    """Speed density exp(2 int f) = cosh(sig z) tanh(sig z)^(delta - 1), up to a factor."""
    return np.cosh(sig * z) * np.tanh(sig * z) ** (delta - 1)


def _integral(function: Callable[[Array], Array], a: Array, b: Array) -> Array:
    """Gauss-Legendre integral of a function over each [a_i, b_i], a_i > 0 (ratio b/a at most 3)."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    half = (b - a) / 2
    return half * (function(a[:, None] + half[:, None] * (1 + nodes)) @ weights)


def _integral_from_zero(smooth: Callable[[Array], Array], power: float, b: float) -> float:
    """Integral over (0, b) of z^power smooth(z), power > -1, by Gauss-Jacobi."""
    nodes, weights = roots_jacobi(12, 0.0, power)
    return float((b / 2) ** (power + 1) * (weights @ smooth(b / 2 * (1 + nodes))))


def _exponential(lower: Array, diagonal: Array, upper: Array, start: int) -> Array:
    """Column `start` of exp(M) for a tridiagonal M with real spectrum <= 0 (error about 1e-14)."""
    points = 32
    theta = np.pi * np.arange(1, points, 2) / points  # the upper half; the lower is conjugate
    contour = points * (0.1309 - 0.1194 * theta**2 + 0.25j * theta)
    slope = points * (-0.2388 * theta + 0.25j)
    bands = np.zeros((3, diagonal.size), dtype=np.complex128)
    bands[0, 1:], bands[2, :-1] = -upper, -lower
    unit = np.zeros(diagonal.size, dtype=np.complex128)
    unit[start] = 1
    total = np.zeros(diagonal.size)
    for node, weight in zip(contour, np.exp(contour) * slope / (1j * points), strict=True):
        bands[1] = node - diagonal
        total += 2 * np.real(weight * solve_banded((1, 1), bands, unit))
    return total


def _below(law: Law) -> CubicSpline:
    """P(z_t <= z), absorbed mass included, interpolated between faces."""
    return CubicSpline(law.faces, law.exploded + np.concatenate(([0.0], np.cumsum(law.mass))))

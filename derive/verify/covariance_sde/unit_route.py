"""A second route to drift and diffusion, for layers whose units are independent: quadrature.

Input: the trace of a block, numbers for its parameters and dimensions, a covariance V_0.
Output: n E[V' - V] and n Cov[V'] at V_0 for any real width n, and their limits.

Nothing of the calculus takes part, and no power series in the weights is needed, so functions may
have kinks where their pre-activations vanish.  The definition's graph is run on NumPy arrays, with
the number n apart from the sizes of the arrays.  What is used of it is found by running it, and
checked against the definition's text at a whole width with every unit in place:

- X' = A + sum_j B_j W_j with output weights W_j, so that given A and B the n columns of X' are
  independent normals with means A_k and the covariance sum_j B_j B_j^T;
- B_j B_j^T is a sum over hidden units with weights of their own, one unit is a function of a few
  normals, and so is what attention does to A and B;
- where Q K^T joins keys whose number grows, Q Q^T is as good as its mean, and logits are normal.

The average over these normals is a Gauss rule, in the cones between the kinks where there are any;
eps = n^(-1/2) goes to zero by Cauchy's integral over a circle (see `continuation`), and at a real
eps on it the same averages are taken of the text.

Not supported: units that see one another, heads side by side, kinks elsewhere than at zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from derive.notation.layers.model import Trace
from derive.verify.covariance_sde.second_route import NotCovered, RouteError, Size
from derive.verify.covariance_sde.unit_averages import Moments, UnitLayer


@dataclass(frozen=True)
class Limits:
    """The limits, the coefficients of n^(-1/2), and what the interpolation leaves uncertain.

    Shapes (m, m) and (m, m, m, m); `error` is relative to the largest entry, of the limits alone.
    `exact`: the moments were those of the layer at every width, so that the coefficients are too.
    """

    drift: np.ndarray
    diffusion: np.ndarray
    first_drift: np.ndarray
    first_diffusion: np.ndarray
    error: float
    exact: bool = True


def unit_route(
    traced: Trace,
    params: Mapping[str, float],
    V0: np.ndarray,
    free: Mapping[str, Size] | None = None,
    *,
    text: bool = True,
) -> Limits:
    """Drift and diffusion of a block at `V0` (m, m), positive definite, without any symbol.

    **Arguments:** `free`: sizes of the other dimensions, numbers or functions of the width.
    `text`: the block is the whole layer, so that its text can be run too.

    Raises `RouteError`, with the reason, for layers that it does not cover, and where neither the
    quadrature nor Cauchy's integral settles.
    """
    try:
        layer = UnitLayer(traced, params, V0, free, text=text)
    except RouteError:
        raise
    except (ValueError, TypeError) as problem:
        raise NotCovered(f"the definition does not run on other arrays: {problem}") from problem
    size = float(np.max(np.abs(V0)))
    shift = int(2 * traced.model.pace) - 2
    found, errors = [_limits(layer.moments, _RADII[0], shift)], [math.inf]
    # two circles that agree: the larger they are, the fewer digits are lost to n
    for radius in _RADII[1:]:
        found.append(_limits(layer.moments, radius, shift))
        errors.append(_distance(found[-2], found[-1], size))
        if errors[-1] < 1e-10:
            break
    best = int(np.argmin(errors))
    limits, eps = found[best], _RADII[best]
    at = layer.moments(eps)
    if _off(at, layer.moments(eps, fewer=True)) > 1e-9 * size:
        raise NotCovered(
            "the average over one unit does not settle: a function is not smooth between the "
            "points where its argument vanishes"
        )
    if not errors[best] < 1e-8:
        raise NotCovered(
            "n E[V' - V] and n Cov[V'] are no power series in n^(-1/2) (off by "
            f"{errors[best]:.0e}): a function has a pole near zero, or a root of n in the text "
            "has another branch there"
        )
    if not limits.error < 1e-9 * size:
        raise RouteError(
            "the moments of V' - V in a unit of time grow with n (a coefficient of a positive "
            f"power is {limits.error:.1g}): there is no limit on this clock"
        )
    # of single entries of logits the text knows nothing, and a mean over units divides by the size
    # of its array, which is free here; it is compared at a whole width
    alike = text and not layer.keys and not layer.averages
    if alike and _off(at, layer.moments(eps, reading="text")) > 1e-9 * size:
        raise RouteError(f"graph and text differ at the width {eps**-2:.0f}")
    return replace(limits, error=errors[best], exact=not layer.keys)


def _off(one: Moments, two: Moments) -> float:
    return max(float(np.max(np.abs(p - q))) for p, q in zip(one, two, strict=True))


def has_units(
    traced: Trace, params: Mapping[str, float], V0: np.ndarray, free: Mapping[str, Size]
) -> bool:
    """Whether the route covers a block, and the block sums over hidden units."""
    try:
        return bool(UnitLayer(traced, params, V0, free, text=False).units)
    except (ValueError, TypeError):
        return False


_RADII = (0.2, 0.12, 0.07, 0.04, 0.025, 0.015)
_POINTS = 24  # of Cauchy


def _limits(moments: Callable[[complex], Moments], radius: float, shift: int) -> Limits:
    """Cauchy's integrals over a circle of eps; conjugate values on its lower half.

    On the clock n^p a limit is the coefficient of eps^shift, shift = 2 p - 2, in n E[V' - V] and
    n Cov[V'].  `error` is the largest coefficient of a lower power, which a limit does not have.
    """
    angles = np.exp(2j * np.pi * np.arange(_POINTS // 2 + 1) / _POINTS)
    values = [moments(complex(radius * z)) for z in angles]
    share = np.full(len(angles), 2.0 / _POINTS)
    share[[0, -1]] = 1 / _POINTS

    def coefficient(power: int, part: int) -> np.ndarray:
        weight = share * angles**-power / radius**power
        return np.real(np.tensordot(weight, np.array([v[part] for v in values]), 1))

    lower = range(min(-2, shift - 1), shift)
    growth = max(float(np.max(np.abs(coefficient(p, k)))) for p in lower for k in (0, 1))
    drift, diffusion = (coefficient(shift, k) for k in (0, 1))
    above = [coefficient(shift + 1, k) for k in (0, 1)]
    return Limits(drift, diffusion, above[0], above[1], growth)


def _distance(one: Limits, two: Limits, size: float) -> float:
    """Relative, of the limits; what is a thousand times smaller than V counts as that large."""
    pairs = ((one.drift, two.drift, size), (one.diffusion, two.diffusion, size**2))
    return max(float(np.max(np.abs(p - q)) / max(np.max(np.abs(q)), 1e-3 * s)) for p, q, s in pairs)

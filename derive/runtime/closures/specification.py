"""What a generated Gaussian closure tells the runtime of its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from derive.runtime.common.records import Record


@dataclass(frozen=True, eq=False)
class ClosureModel:
    """A generated module's functions.

    `param_shapes`: symbolic shapes by parameter, () for numbers.  `velocity(x, mean, cov, params)`,
    `mean_rate`, `jacobian` (mean gradient of the velocity), `margin` (positive while the weight is
    integrable), `noise` (covariance rate of additive noise, positive semi-definite), each of
    (mean, cov, params) and batched over leading axes.  `factor_rate(F, mean, params)` replaces
    jacobian @ F where a form in the factor avoids inverses.  `positional`: mean (B, d), cov
    (B, d, d), all blocks at once.  `centred`: the mean is zero and stays so.
    `particle_velocity(x, y, params)`: velocity of queries x (N, d)
    among keys y (N, d).  `rate_error`: relative error of the quadratures in mean_rate and
    jacobian; None where they hold none.  `ranges`: by parameter, (low, high, low is open, high is
    open, words), what numbers are held to.  `condition`: the matrices of which `margin` is the
    smallest eigenvalue.
    """

    params: Record
    param_shapes: Mapping[str, tuple[str, ...]]
    exact: bool
    velocity: Callable[..., Any]
    mean_rate: Callable[..., Any]
    jacobian: Callable[..., Any]
    margin: Callable[..., Any] | None = None
    noise: Callable[..., Any] | None = None
    factor_rate: Callable[..., Any] | None = None
    positional: bool = False
    centred: bool = False
    particle_velocity: Callable[..., Any] | None = None
    rate_error: Callable[..., Any] | None = None
    ranges: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    condition: str = "a matrix of cov0 and the weight"

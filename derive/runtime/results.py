"""What simulations return."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Paths(NamedTuple):
    """An ensemble of covariance paths.

    `times` (saves,): depth / width.  `V` (paths, saves, m, m): the covariance; after its exit a
    path stands still at the last value inside the radius.  `exit_time` (paths,): inf if none.
    """

    times: np.ndarray
    V: np.ndarray
    exit_time: np.ndarray

    @property
    def exited(self) -> float:
        """Share of paths that left the radius."""
        return float(np.mean(np.isfinite(self.exit_time)))

    @property
    def frozen(self) -> float:
        """Share that the paths that have left have in the mean of tr V at the last time.

        They stand still near the radius, so that a mean which they make says where the radius is.
        """
        sizes = np.trace(self.V[:, -1], axis1=-2, axis2=-1).astype(np.float64)
        total = float(np.sum(sizes))
        return float(np.sum(sizes[np.isfinite(self.exit_time)])) / total if total > 0 else 0.0

    def caution(self) -> str:
        """What to know before taking a mean of these paths; empty if there is nothing."""
        if self.frozen < DOMINATED:
            return ""
        sizes = np.trace(self.V[:, -1], axis1=-2, axis2=-1)
        return (
            f"{self.exited:.2g} of the {LEFT} and stand still near it; "
            f"they make {self.frozen:.0%} of the mean of tr V at t = {self.times[-1]:.4g} "
            f"({np.mean(sizes):.4g}, its median {np.median(sizes):.4g}): such a mean follows the "
            "radius. Take medians or quantiles, or an earlier time"
        )


DOMINATED = 0.1  # of a mean, from which on its frozen paths are told
LEFT = "paths have left the exit radius"


class Turnpike(NamedTuple):
    """The best static optimum and what it says about long horizons.

    `x`, `p`, `u`: NamedTuples of arrays, with the running cost `cost`.  `rates` (k,): -Re of the
    stable eigenvalues, ascending; `rate` the slowest of both ends (nan if there is none).
    `verdict`: "exponential", "entry_only", "finite_time", "none", "not_hyperbolic", "non_unique"
    or "undetermined", with `reasons` in words.  `spectrum` (2k,): all eigenvalues of the
    Hamiltonian matrix `matrix` (2k, 2k), `riccati` (k, k) its stabilising solution (or None),
    `basis` (2n, 2k): columns span the tangent space in which both are written.  `residual`: of the
    static conditions.  `candidates`: all static points found, best first, as (cost, residual,
    is a minimum, x, p, u).
    """

    x: Any
    p: Any
    u: Any
    cost: float
    rates: np.ndarray
    rate: float
    verdict: str
    reasons: tuple[str, ...]
    spectrum: np.ndarray
    matrix: np.ndarray
    riccati: np.ndarray | None
    basis: np.ndarray
    residual: float
    candidates: tuple[Any, ...]


class Residuals(NamedTuple):
    """How far a solution is from satisfying its equations.

    `defect`: largest |y' - g(y)| / (1 + |g(y)|) between the nodes.  `hamiltonian`: largest change
    of H along the way (of H - rho int p.x' dt under a discount rho).  `stationarity`: largest
    |H_u| at the nodes (with bounds: largest distance of u from the minimiser of H).  `boundary`:
    at both ends.  `newton`: norm of the discrete equations left over.  `error`: estimated largest
    |y - exact| / (1 + |y|) at the nodes, y = (x, p); both it (down to 1e-10) and `defect` are at
    most the tolerance.
    """

    defect: np.ndarray
    hamiltonian: np.ndarray
    stationarity: np.ndarray
    boundary: np.ndarray
    newton: np.ndarray
    error: np.ndarray


class Extremal(NamedTuple):
    """A solution of the optimality system; every array has the batch of x0, if any, in front.

    `times` (saves,), `x`, `p`, `u`: NamedTuples of arrays (saves, ...), `cost`, `residuals`.
    `stop`: the time after which the control is zero (sparse problems; else None); `notes`: what
    else is to be known, such as ties.
    """

    times: np.ndarray
    x: Any
    p: Any
    u: Any
    cost: np.ndarray
    residuals: Any
    stop: Any = None
    notes: tuple[str, ...] = ()


class _Moments(NamedTuple):
    times: np.ndarray
    mean: np.ndarray
    cov: np.ndarray
    factor: np.ndarray
    blow_up_time: np.ndarray


class Moments(_Moments):
    """Mean and covariance of Gaussian laws over time; "..." are the batch axes of the laws.

    `times` (saves,).  `mean` (..., saves, d) and `cov` (..., saves, d, d), with one more axis of
    blocks before d in positional models.  `factor`, shaped as `cov`: factor factor^T = cov.
    `blow_up_time` (...): when the solution ceases to exist; inf: not before the last time; nan: not
    known, the step limit was reached.  Saves at or after the end of a law's solution, or after an
    overflow of the numbers (warned of), are nan.

    These five are the fields.  Beside them stands `quadrature_error` (...): the largest estimated
    relative error of the quadratures in the rates at the saves; 0 where the rates have closed
    forms.  It comes on top of the tolerance of the time steps.
    """

    quadrature_error: np.ndarray

    def __new__(
        cls,
        times: np.ndarray,
        mean: np.ndarray,
        cov: np.ndarray,
        factor: np.ndarray,
        blow_up_time: np.ndarray,
        quadrature_error: np.ndarray | None = None,
    ) -> Moments:
        made = super().__new__(cls, times, mean, cov, factor, blow_up_time)
        if quadrature_error is None:
            quadrature_error = np.zeros(np.shape(blow_up_time))
        made.quadrature_error = quadrature_error
        return made

    def __getnewargs__(self) -> tuple:  # type: ignore[override]
        return (*self, self.quadrature_error)

    def _replace(self, **changes: Any) -> Moments:
        kept = {**self._asdict(), "quadrature_error": self.quadrature_error, **changes}
        return Moments(**kept)


class Particles(NamedTuple):
    """A system of interacting particles.  `times` (saves,); `x` (..., saves, N, d)."""

    times: np.ndarray
    x: np.ndarray

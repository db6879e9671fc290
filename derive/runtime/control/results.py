"""What is returned of an optimal control problem: static optima with a verdict, extremals."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


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


class Trajectory(NamedTuple):
    """What the pure `extremal` returns, in JAX arrays on its mesh of N intervals.

    `times` (N + 1,), `x`, `p`, `u`: NamedTuples of arrays (N + 1, ...), `cost`.  `residual`: norm
    of the discrete equations left over; `defect`: as of `Residuals`, how good the mesh is.
    `converged`: whether Newton's method settled; where it is False, x, p, u, cost are nan.
    """

    times: Any
    x: Any
    p: Any
    u: Any
    cost: Any
    residual: Any
    defect: Any
    converged: Any

"""What is returned of a Gaussian closure: moments over time, systems of particles."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


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

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (*self, self.quadrature_error)

    def _replace(self, **changes: Any) -> Moments:
        kept = {**self._asdict(), "quadrature_error": self.quadrature_error, **changes}
        return Moments(**kept)


class Particles(NamedTuple):
    """A system of interacting particles.  `times` (saves,); `x` (..., saves, N, d)."""

    times: np.ndarray
    x: np.ndarray

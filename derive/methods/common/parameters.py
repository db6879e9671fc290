"""Values of parameters for checks."""

from __future__ import annotations

import numpy as np

from derive.notation.common.scalars import Param


def sample(parameter: Param, rng: np.random.Generator) -> float:
    low, high = parameter.range.low, parameter.range.high
    low = -2.0 if np.isinf(low) else low
    high = low + 2.0 if np.isinf(high) else high
    return low + (high - low) * rng.uniform(0.2, 0.8)

"""Values of parameters for checks."""

from __future__ import annotations

import numpy as np

from derive.notation.common.scalars import Param


def sample(parameter: Param, rng: np.random.Generator) -> float:
    """A value well inside the range; of all reals, of order one and of either sign."""
    low, high = parameter.range.low, parameter.range.high
    if np.isinf(low) and np.isinf(high):
        place = rng.uniform(-1, 1)
        return float(np.copysign(0.4 + 1.2 * abs(place), place))
    low = -2.0 if np.isinf(low) else low
    high = low + 2.0 if np.isinf(high) else high
    return low + (high - low) * rng.uniform(0.2, 0.8)

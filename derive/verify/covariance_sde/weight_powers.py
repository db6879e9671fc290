"""Which degrees in the weights matter as the width grows: powers counted by running the text.

Input: a model, numbers for its parameters, a covariance V_0.  Output: the largest total degree in
the weights that a limit can see in E[V' - V], and in the products of Cov[V'].

Nothing of the calculus takes part.  The text is run at two widths on random weights; the parts of
V' that are homogeneous in the weights are read off by Cauchy's integral, and the ratio of their
root mean squares (of their standard deviations) at the two widths is a power of the width.  What
falls faster than the clock has no mean in the limit, nor has a product of two parts by Cauchy and
Schwarz.  Parts of mean zero are kept by their size, so that no accident of a mean cuts the series.

Not supported: functions that are not analytic at zero weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from derive.notation.layers.model import Model, Trace
from derive.verify.covariance_sde.second_route import Layer, NotCovered, RouteError, Size

WIDTHS = (16, 128)
SAMPLES = 48  # a root mean square to 20 % is a power of the width to ERROR
ERROR = 0.1  # of a power
MARGIN = 0.25  # what is kept for nothing costs time alone
TOP = 16  # the largest degree that is looked at
_ROUNDING = 1e-13  # of a part, before it is divided by a power of the radius
_CHUNK = 2 * 10**6  # entries of the largest array of one batch


def weight_degrees(
    model: Model,
    params: Mapping[str, float],
    V0: np.ndarray,
    *,
    free: Mapping[str, Size] | None = None,
    part: Trace | None = None,
    held: Mapping[int, np.ndarray] | None = None,
) -> tuple[int, int]:
    """Largest total degrees in the weights that matter to the drift and to the diffusion.

    Raises `NotCovered` where there are no powers of the weights, or their sizes do not fall.
    """
    layers = [Layer(model, params, V0, n, free or {}, 32, part, held) for n in WIDTHS]
    try:
        (narrow, wide), (calm, calmer) = zip(*map(_sizes, layers, _weights(layers)), strict=True)
    except RouteError as problem:
        raise NotCovered(f"cubature needs powers of the weights: {problem}") from problem
    least = float(model.pace) + MARGIN
    whole, moving = powers(narrow, wide), powers(calm, calmer)
    if model.pace == 1:  # powers are halves; a large part that falls faster hides which
        whole, moving = (np.floor(2 * (x + ERROR)) / 2 for x in (whole, moving))
    degrees = range(1, TOP + 1)
    drift = [p for p in degrees if whole[p] <= least]
    # of two parts, either may be as large as the largest
    diffusion = [p + q for p in degrees for q in degrees if moving[p] + moving[q] <= least]
    found = max(drift, default=0), max(diffusion, default=0)
    if found[0] >= TOP - 1 or found[1] >= 2 * TOP - 2:
        raise NotCovered(
            f"parts of degree {TOP} in the weights do not fall with the width faster than the "
            "clock: there is no degree at which the series may be cut"
        )
    return found


def powers(narrow: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """Sizes ~ n^-power at the two widths; infinite where nothing is left at the large one."""
    ratio = np.log(np.maximum(narrow, 1e-300) / np.maximum(wide, 1e-300))
    return np.where(wide > 0, ratio / math.log(WIDTHS[1] / WIDTHS[0]), math.inf)


def _weights(layers: Sequence[Layer]) -> list[list[np.ndarray]]:
    """The same normals at every width, as far as they go: what does not grow with the width, and
    has heavy tails, is then the same on both sides of a ratio."""
    last = layers[-1].random(SAMPLES)
    return [
        [
            w[(slice(None), *(slice(k) for k in shape))]
            for w, shape in zip(last, layer.shapes, strict=True)
        ]
        for layer in layers
    ]


def _sizes(layer: Layer, weights: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square and standard deviation of every part (TOP + 1,), rounding as zero."""
    step = max(1, _CHUNK // (max(math.prod(s) for s in layer.shapes) * layer.points))
    parts = np.concatenate(
        [
            layer.parts([w[start : start + step] for w in weights], TOP)
            for start in range(0, len(weights[0]), step)
        ]
    )
    with np.errstate(all="ignore"):
        still = layer.new([0.0 * w[:1] for w in weights])
    # what does not change as all weights shrink together, such as w / |w|, has a value on the
    # circle and none at its centre
    if not np.abs(parts[:, 0] - still).max() <= 1e-9 * np.abs(still).max():
        raise RouteError("V' has no power series about zero weights")
    size = float(np.abs(parts[:, 0]).max()) + float(np.abs(layer.V0).max())
    floor = _ROUNDING * size / layer.radius ** np.arange(TOP + 1)
    whole = np.sqrt((parts**2).mean(axis=0).max(axis=(1, 2)))
    moving = parts.std(axis=0).max(axis=(1, 2))
    return np.where(whole > floor, whole, 0.0), np.where(moving > floor, moving, 0.0)

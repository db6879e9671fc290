"""How long caps of tokens stay, and how soon each has closed: bounds from the tokens as they are.

A cap is a set of tokens about its centre.  While every cap is at most as wide as twice its margin,
cosines across caps and within them are bounded, and so are the pushes.  Then

- the token of a cap that is furthest from the centre w moves away from it at most at the rate
  L |P w|, L the bound of all pushes from other caps: its own cap pulls it inwards;
- the least cosine r within a cap has r' >= 2 p(r) (1 - r^2) - 2 L sqrt(1 - r^2), p the bound of the
  push of one token of the cap.

Both are integrated as they stand; nothing is a limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from derive.runtime.common.precision import precision
from derive.runtime.flows import components
from derive.runtime.flows import inputs as flow_inputs
from derive.runtime.flows.specification import FlowModel

TINY = float(np.finfo(float).tiny)
WIDEST = (1 - np.sqrt(0.5)) / 2  # of caps: twice as wide, two of its tokens are at right angles
NODES = 400  # of the time in which a cap closes, an integral over log(1 - r)


class Metastability(NamedTuple):
    """`labels` (n,): the cap of each token.  `centres` (K, d).  `width`: 1 - <x, w> of the token
    furthest from its centre; caps may widen to twice that.  `across`: the largest cosine that
    tokens of two such caps can have.  `closes`: by this time all cosines within caps are above
    1 - spread; inf where the bound does not reach that, or not before caps may have widened.
    `stays`: until this time every token is within its widened cap.
    """

    labels: np.ndarray
    centres: np.ndarray
    width: float
    across: float
    closes: float
    stays: float

    def __repr__(self) -> str:
        return (
            f"Metastability({len(self.centres)} caps of {len(self.labels)} tokens: closed by t = "
            f"{self.closes:.4g}, together until t = {self.stays:.4g} at least)"
        )


def metastability(
    spec: FlowModel,
    others: Callable[[Any, Any, Any, Any], Any],
    inside: Callable[[Any, Any, Any], Any],
    x0: Any,
    params: Any,
    *,
    labels: Any = None,
    reach: float = 0.5,
    spread: float = 1e-6,
) -> Metastability:
    """Bounds for tokens x0 (n, d) on the sphere; one system, one set of parameters.

    `others(g, r, mass, params)`, `inside(r, mass, params)`: the bounds of pushes, in float64.
    `labels` (n,): the cap of each token; None: tokens joined by a chain of distances below
    `reach`.  Raises ValueError for fewer than two caps, and for caps that are so wide or so close
    that nothing bounds their cosines.
    """
    given = flow_inputs.systems(spec, x0, params, False)
    if given.lead:
        raise ValueError(f"metastability takes one system, got batch axes {given.lead}")
    spread = flow_inputs.fraction("spread", spread)
    if labels is None:
        found = components.labels(given.x, flow_inputs.fraction("reach", reach))
    else:
        found = _given(labels, given.x)
    caps = _Caps(given.x, found)
    across, least = caps.across(), caps.least()
    n = len(given.x)
    at = spec.params(**given.params)
    with precision("float64"):
        leaks = [float(others(across, least, share, at)) for share in caps.sizes / n]
    # below what floats hold, the least that they do is a bound still
    leaks = [np.inf if np.isnan(leak) else max(leak, TINY) for leak in leaks]
    outwards = np.sqrt(1 - (1 - 2 * caps.width) ** 2)
    stays = min(caps.width / (leak * outwards) for leak in leaks)
    push = lambda r: inside(r, 1 / n, at)  # noqa: E731
    closes = 0.0
    for k, leak in enumerate(leaks):
        if caps.sizes[k] > 1:
            closes = max(closes, _closing(push, leak, 1 - caps.lowest(k), spread))
    closes = closes if closes <= stays else np.inf
    return Metastability(found, caps.centres, caps.width, across, closes, stays)


class _Caps:
    def __init__(self, x: np.ndarray, labels: np.ndarray) -> None:
        self.x, self.labels = x, labels
        count = int(labels.max()) + 1
        if count < 2:
            raise ValueError(
                "all tokens are one cap; pass labels, or a smaller reach, if they are several"
            )
        means = np.stack([x[labels == k].mean(axis=0) for k in range(count)])
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        if np.min(lengths) < 1e-6:
            raise ValueError("the mean of a cap's tokens is zero: they have no centre")
        self.centres = means / lengths
        self.sizes = np.bincount(labels)
        toward = np.sum(x * self.centres[labels], axis=1)
        # caps of single tokens may widen too: a width of nothing would bound nothing
        self.width = max(float(np.max(1 - toward)), 1e-6)
        if self.width >= WIDEST:
            raise ValueError(
                f"a token is {self.width:.3g} from its cap's centre (1 - cosine); caps as wide as "
                f"{WIDEST:.3g} may hold tokens at right angles once they have widened"
            )
        self.half = float(np.arccos(1 - 2 * self.width))

    def across(self) -> float:
        cosines = self.centres @ self.centres.T
        nearest = float(np.max(cosines[np.triu_indices(len(cosines), 1)]))
        angle = float(np.arccos(np.clip(nearest, -1, 1))) - 2 * self.half
        if angle <= 0:
            raise ValueError(
                f"two caps may touch: centres at the cosine {nearest:.4g}, each up to "
                f"{self.half:.3g} wide once it has widened; take narrower caps"
            )
        return float(np.cos(angle))

    def least(self) -> float:
        """The least cosine within a cap that has widened."""
        return float(np.cos(2 * self.half))

    def lowest(self, k: int) -> float:
        """The least cosine within the cap as it is."""
        own = self.x[self.labels == k]
        return float(np.min(own @ own.T))


def _closing(push: Callable[[Any], Any], leak: float, start: float, end: float) -> float:
    """Time in which u = 1 - r falls from start to end, by its bound; inf where that is none, or
    where a u at the end might grow again."""
    z, w = np.polynomial.legendre.leggauss(NODES)
    low, high = np.log(end), np.log(max(start, end))
    u = np.exp(np.append((z + 1) / 2 * (high - low) + low, low))
    square = u * (2 - u)
    with precision("float64"):
        pushes = np.asarray(push(1 - u), float)
    with np.errstate(invalid="ignore"):
        rate = 2 * pushes * square - 2 * leak * np.sqrt(square)
    if not np.all(rate > 0):  # or no numbers, beyond what floats hold
        return np.inf
    return float(np.sum(w / 2 * (high - low) * (u / rate)[:-1]))


def _given(labels: Any, x: np.ndarray) -> np.ndarray:
    found = np.asarray(labels)
    if found.dtype.kind == "O" or (found.dtype.kind == "f" and not np.all(np.isfinite(found))):
        raise ValueError("labels must be numbers or words, one a token")
    if found.shape != (len(x),):
        raise ValueError(f"labels must have shape ({len(x)},), one a token, got {found.shape}")
    return np.unique(found, return_inverse=True)[1]

"""L2 of closures: the definition's text averaged by quadrature against the generated rates.

Input: a model, and the module's values.  Output: one rung.  Everything on the other side comes
from the text: rates by Gauss-Hermite rules of growing size until two agree, noise by its factor.
Where no two agree the text has kinks (or is too steep): then tokens on a line, on dense grids.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import jax
import numpy as np

from derive.methods.common.record import rounded
from derive.methods.gaussian_closure import checks, clouds, instances
from derive.methods.gaussian_closure.instances import ClosureInstance
from derive.methods.gaussian_closure.result import GaussianClosure
from derive.notation.closures.model import ClosureModel
from derive.notation.closures.numeric import noise_rate
from derive.verify.common.rung import Rung
from derive.verify.gaussian_closure.gate import params_of

SCALE = 0.25  # of the matrices: few nodes are then exact to rounding
NODES, FEWER = (16, 24, 32, 44), (10, 14, 18, 22)  # of each token axis; where blocks multiply them
GRIDS = ((900, 3600), (1200, 4800))  # keys, queries
SETTLED = 1e-10  # distance of two rules of which the finer is used
TOLERANCE = 1e-9
ON_GRIDS = 2e-3  # a jump is seen to the step of the grid


@dataclass(frozen=True)
class TextRates:
    """Rates of mean and covariance by the text, and the distance of the last two rules."""

    mean: np.ndarray
    cov: np.ndarray
    distance: float


def by_gauss(model: ClosureModel, one: ClosureInstance) -> TextRates:
    """Rules of growing size until two agree, or the largest two."""
    sizes = FEWER if model.positional else NODES
    return _settled(model, one, [(n, n) for n in sizes], False, SETTLED)


def by_grids(model: ClosureModel, one: ClosureInstance) -> TextRates:
    return _settled(model, one, list(GRIDS), True, 0.0)


def _settled(
    model: ClosureModel,
    one: ClosureInstance,
    sizes: list[tuple[int, int]],
    dense: bool,
    wanted: float,
) -> TextRates:
    noise = noise_rate(model, arrays=one.arrays, params=one.params)
    last: tuple[np.ndarray, np.ndarray] | None = None
    distance = float("inf")
    for keys, queries in sizes:
        found = clouds.text_rates(model, one, keys, queries, dense=dense)
        if last is not None:
            distance = max(checks.residual(a, b) for a, b in zip(last, found, strict=True))
        last = found
        if distance <= wanted:
            break
    assert last is not None
    return TextRates(last[0], last[1] + noise, distance)


def second_route(result: GaussianClosure, module: ModuleType) -> Rung:
    """L2: quadrature of the text over keys and queries against the generated rates."""
    model = result.model
    figures: dict[str, float] = {}
    for label, rank in (("full rank", None), ("singular law", 1)):
        one = instances.instance(model, 21, scale=SCALE, rank=rank)
        text = by_gauss(model, one)
        if not text.distance <= SETTLED:
            return _on_grids(model, module)
        figures |= _compared(module, one, text, label)
    return _rung("Gauss-Hermite points of keys and queries", TOLERANCE, figures)


def _on_grids(model: ClosureModel, module: ModuleType) -> Rung:
    """The same where no Gauss-Hermite rule settles: tokens on a line, on dense grids."""
    figures: dict[str, float] = {}
    for seed in (21, 22):
        one = instances.instance(model, seed, scale=0.7, size=1)
        text = by_grids(model, one)
        if not text.distance <= ON_GRIDS:
            return Rung(
                "L2 second route",
                "the text averaged by quadrature gives the rates",
                False,
                unreached="no quadrature of the text settles: Gauss-Hermite rules of up to "
                f"{NODES[-1]} nodes an axis differ, and grids on a line differ by "
                f"{rounded(text.distance):.0e}",
            )
        figures |= _compared(module, one, text, f"instance {seed}")
    return _rung("dense grids of keys and queries on a line", ON_GRIDS, figures)


def _compared(
    module: ModuleType, one: ClosureInstance, text: TextRates, label: str
) -> dict[str, float]:
    with jax.enable_x64(True):
        given = one.arrays["m"], one.arrays["S"], params_of(module, one)
        mean, cov = (np.asarray(getattr(module, n)(*given)) for n in ("mean_rate", "cov_rate"))
    return {
        f"mean rate, {label}": checks.residual(mean, text.mean),
        f"covariance rate, {label}": checks.residual(cov, text.cov),
    }


def _rung(where: str, tolerance: float, figures: dict[str, float]) -> Rung:
    return Rung(
        "L2 second route",
        f"the text run on {where} gives the rates",
        max(figures.values()) < tolerance,
        {k: rounded(v) for k, v in figures.items()},
        f"relative errors above {tolerance:.0e}",
    )

"""The picture of a simulation: network beside SDE, as in a paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from derive import observables
from derive.figures.style import legend
from derive.kinds.tex import tex
from derive.runtime.paths.results import Paths

BANDS = ((5, 95), (25, 75))
BLUE, RED = "#1f5fa8", "#b8432f"


def covariance_picture(
    name: str,
    params: Any,
    sde: Paths,
    network: Paths | None,
    width: int,
    clock: str = "width",
) -> Any:
    """Percentiles of variance, covariance and correlation against depth / `clock`; exits."""
    m = sde.V.shape[-1]
    gone = any(np.isfinite(p.exit_time).any() for p in (sde, network) if p is not None)
    panels = ["variance"] + (["covariance", "correlation"] if m > 1 else []) + ["exits"] * gone
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, (axes,) = plt.subplots(
        1, len(panels), figsize=(3.1 * len(panels), 3.2), layout="constrained", squeeze=False
    )
    for axis, panel in zip(axes, panels, strict=True):
        if panel == "exits":
            _exits(axis, sde, network)
            axis.set_xlabel(f"depth / {clock}")
            continue
        _bands(axis, panel, _series(sde, network, width))
        axis.set_xlabel(f"depth / {clock}")
        axis.set_xlim(0, sde.times[-1])
    legend(axes[0])
    words = ", ".join(f"{tex(k)} = {v:.3g}" for k, v in params._asdict().items())
    figure.suptitle(
        f"{name.replace('_', ' ')}: m = {m} tokens, {words}; median, 25-75 % and "
        f"5-95 % of {len(sde.V)} paths{'' if gone else ', none of which left the radius'}",
        x=0.01,
        ha="left",
        fontsize=9.5,
    )
    return figure


TITLES = {
    "variance": r"$V^{aa}$, all tokens",
    "covariance": r"$V^{ab}$, all pairs",
    "correlation": r"correlation $\rho^{ab}$",
}


def _bands(axis: Any, panel: str, series: Iterable[tuple[Paths, str, str, str]]) -> None:
    """Percentiles of one quantity, on a scale that shows them."""
    low, high = np.inf, -np.inf
    for paths, colour, style, label in series:
        bands = _percentiles(paths, panel)
        for (a, b), alpha in zip(BANDS, (0.14, 0.22), strict=True):
            if style == "-":
                axis.fill_between(
                    paths.times, bands[a], bands[b], color=colour, alpha=alpha, linewidth=0
                )
            else:
                axis.plot(paths.times, bands[a], style, color=colour, linewidth=0.8)
                axis.plot(paths.times, bands[b], style, color=colour, linewidth=0.8)
        axis.plot(paths.times, bands[50], style, color=colour, linewidth=1.6, label=label)
        low = min(low, np.nanmin(np.where(np.isfinite(bands[5]), bands[5], np.nan)))
        top = bands[95][np.isfinite(bands[95])]
        high = max(high, top.max() if top.size else -np.inf)
    axis.set_title(TITLES[panel], loc="left")
    if panel == "variance" and low > 0 and high / low > 30:
        axis.set_yscale("log")
    elif panel == "covariance" and high > 30:
        axis.set_yscale("symlog", linthresh=1)


def _series(sde: Paths, network: Paths | None, width: int) -> Iterator[tuple[Paths, str, str, str]]:
    yield sde, BLUE, "-", "SDE"
    if network is not None:
        yield network, RED, "--", f"network, n = {width}"


def _percentiles(paths: Paths, panel: str) -> dict[int, np.ndarray]:
    """Percentiles over paths and tokens; a path that has left counts as infinite in size."""
    V = paths.V
    gone = paths.exit_time[:, None] <= paths.times[None, :]
    rows, columns = np.tril_indices(V.shape[-1], -1)
    values = {
        "variance": observables.variances,
        "covariance": lambda V: V[..., rows, columns],
        "correlation": observables.correlations,
    }[panel](V)
    if panel != "correlation":
        values = np.where(gone[..., None], np.inf, values)
    flat = np.moveaxis(values, 1, 0).reshape(len(paths.times), -1)
    levels = (5, 25, 50, 75, 95)
    found = np.percentile(flat, levels, axis=1, method="lower")
    return dict(zip(levels, found, strict=True))


def _exits(axis: Any, sde: Paths, network: Paths | None) -> None:
    top = 0.0
    for paths, colour, style in ((sde, BLUE, "-"), (network, RED, "--")):
        if paths is None:
            continue
        share = np.mean(paths.exit_time[:, None] <= paths.times[None, :], axis=0)
        axis.plot(paths.times, 100 * share, style, color=colour, linewidth=1.6)
        top = max(top, 100 * float(share[-1]))
    axis.set_title("paths that left the radius, %", loc="left")
    axis.set_ylim(0, max(1.0, 1.2 * top))
    axis.set_xlim(0, sde.times[-1])
    for row, (paths, word) in enumerate(((sde, "SDE"), (network, "network"))):
        if paths is not None and paths.caution():
            axis.text(
                0.03,
                0.94 - 0.09 * row,
                f"they make {paths.frozen:.0%} of the {word}'s mean",
                transform=axis.transAxes,
                fontsize=7,
                color="0.3",
            )

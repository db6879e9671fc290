"""Explosion of two tokens: share of paths that left every bound, against time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np

from derive.figures import style
from derive.figures.models import model

REQUEST: dict[str, Any] = {
    "model": "shaped_attention",
    "covariance": 0.2,
    "tau_0": 0.25,
    "t1": 2.0,
    "radius": 1e6,
    "below": [0.125, 0.25, 0.375],
    "above": [0.6, 0.75, 0.9],
    "radii": [1e2, 1e4, 1e6, 1e9],
    "shown": [0.25, 0.375, 0.6, 0.75],
    "paths": 2048,
    "saves": 201,
    "seed": 0,
}


def compute(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
    r = request
    module = model(r["model"])
    V0 = style.start(2, r["covariance"])
    times = np.linspace(0, r["t1"], r["saves"])
    squares = [*r["below"], *r["above"]]
    runs = [(square, r["radius"]) for square in squares]
    runs += [(s, R) for s in r["shown"] for R in r["radii"] if (s, R) not in runs]
    shares = {}
    for k, (square, radius) in enumerate(runs):
        paths = module.simulate(
            V0,
            module.Params(gamma=square**0.5, tau_0=r["tau_0"]),
            t1=r["t1"],
            paths=r["paths"],
            seed=r["seed"] + squares.index(square),
            saves=[r["t1"]],
            exit_radius=radius,
            progress=lambda s, k=k: progress((k + s) / len(runs)),
        )
        shares[square, radius] = np.mean(paths.exit_time[:, None] <= times, axis=0)
    return {
        "times": times,
        "shares": np.stack([shares[s, r["radius"]] for s in squares]),
        "last": np.array([[shares[s, R][-1] for R in r["radii"]] for s in r["shown"]]),
    }


def draw(request: dict[str, Any], arrays: dict[str, Any]) -> Any:
    r = request
    figure, axes = style.panels(2, width=3.9)
    left, right = axes[0]
    squares, shares = [*r["below"], *r["above"]], 100 * arrays["shares"]
    looks = dict(zip(squares, _looks(len(r["below"]), len(r["above"])), strict=True))
    for square, share in zip(squares, shares, strict=True):
        left.plot(arrays["times"], share, label=f"$\\gamma^2$ = {square:g}", **looks[square])
    left.set_xlabel("depth / width")
    left.set_ylabel(f"paths past |V| = {_power(r['radius'])}, %")
    left.set_xlim(0, r["t1"])
    left.set_ylim(-0.02 * shares.max(), 1.3 * shares.max())
    style.legend(left)
    for square, last in zip(r["shown"], arrays["last"], strict=True):
        # Wilson's intervals: of use at 0 of N too.
        low, high = _wilson(last, r["paths"])
        right.errorbar(
            r["radii"],
            100 * last,
            yerr=100 * np.stack([last - low, high - last]),
            marker="o",
            markersize=3.5,
            capsize=2.5,
            label=f"$\\gamma^2$ = {square:g}",
            **looks[square],
        )
    right.set_xscale("log")
    right.set_ylim(bottom=-0.02 * shares.max())
    right.set_xlabel("bound on max |V|")
    right.set_ylabel(f"past it by depth / width {r['t1']:g}, %")
    left.set_title(r"solid: $\gamma^2 < 1/2$, dashed: $\gamma^2 > 1/2$", loc="left", fontsize=8.5)
    right.set_title("explosion: the share stays as the bound grows", loc="left", fontsize=8.5)
    style.title(
        figure,
        f"SDE of shaped attention, m = 2, $\\tau_0$ = {r['tau_0']:g}, "
        f"$V_0^{{ab}}$ = {r['covariance']:g}; {r['paths']} paths each, 95 % intervals",
    )
    return figure


def _looks(below: int, above: int) -> list[dict[str, Any]]:
    """Warm and solid below the threshold, cool and dashed above it."""
    warm = matplotlib.colormaps["YlOrRd"](np.linspace(0.5, 0.95, below))
    cool = matplotlib.colormaps["Blues"](np.linspace(0.5, 0.95, above))
    solid = [{"color": c, "linestyle": "-"} for c in warm]
    return solid + [{"color": c, "linestyle": (0, (4, 1.5))} for c in cool]


def _power(radius: float) -> str:
    exponent = np.log10(radius)
    return f"$10^{{{exponent:.0f}}}$" if exponent == round(exponent) else f"{radius:g}"


def _wilson(share: np.ndarray, count: int, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z**2 / count)
    return np.minimum(middle - half, share), np.maximum(middle + half, share)
